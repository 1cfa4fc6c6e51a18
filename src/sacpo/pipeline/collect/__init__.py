"""Collecting preference data: from prompts to pairs of answers, their labels, the file and its card."""
