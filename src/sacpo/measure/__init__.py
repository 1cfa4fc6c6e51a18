"""Measures of a model from its answers and verdicts, and how far to believe the judges."""
