"""The recipe: its schema, its loading with clear errors, and the models that it describes."""

from sacpo.recipe.load import load_recipe, parse_recipe, recipe_schema
from sacpo.recipe.models import BaseModelNode, MergedModel, Node, StepModel, model_graph
from sacpo.recipe.schema import Recipe

__all__ = [
    "BaseModelNode",
    "MergedModel",
    "Node",
    "Recipe",
    "StepModel",
    "load_recipe",
    "model_graph",
    "parse_recipe",
    "recipe_schema",
]
