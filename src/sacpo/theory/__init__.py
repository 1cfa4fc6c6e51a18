"""Theory: closed forms and estimates of the constrained optimum.

optimum    the optimum pi* from scored samples of the SFT model, and how far a trained model is from it
tabular    the same exactly, on worlds small enough to write down
"""
