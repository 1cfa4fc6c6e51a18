"""Select: the most helpful model that meets every constraint."""
