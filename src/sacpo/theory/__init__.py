"""Theory: closed forms and estimates of the constrained optimum.

optimum    the optimum pi* from scored samples of the SFT model, and how far a trained model is from it
tabular    the same exactly, on worlds small enough to write down
multipliers, population    the dual with n constraints; what DPO, IPO and KTO converge to, on such worlds
linear, bounds, instances, counterexamples    the bounds of Theorems 2 and 3, and worlds to try them on
features   the same bounds for Bradley-Terry heads on a model's hidden states
frontier, judged, forecast, folders    a step's strength predicted from samples of its start: `sacpo plan`
check      all claims in one table: `sacpo theory check`
"""
