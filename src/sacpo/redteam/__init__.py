"""Adversarial prompts from templates, each with a harmless twin of the same wording."""

from sacpo.redteam.templates import CATEGORIES, FORMS, make_prompts

__all__ = ["CATEGORIES", "FORMS", "make_prompts"]
