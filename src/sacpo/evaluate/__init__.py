"""Evaluate: generation, judges, verdicts, measures."""
