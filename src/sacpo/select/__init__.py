"""Selection: the most helpful model that meets every constraint, on tuning prompts only."""

from sacpo.select.choice import point_estimate, select_model
from sacpo.select.front import pareto_front

__all__ = ["pareto_front", "point_estimate", "select_model"]
