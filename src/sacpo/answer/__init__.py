"""Answers: models answer prompts, and score answers."""
