"""Theory: closed forms and estimates of the constrained optimum."""
