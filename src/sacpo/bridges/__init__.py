"""Answers and verdicts in the forms of other tools."""
