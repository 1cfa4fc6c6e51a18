"""`sacpo schema` on the command line."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sacpo.errors import RecipeError


def schema(
    what: Annotated[str, typer.Argument(help="recipe or results", metavar="[recipe|results]")] = "recipe",
) -> None:
    """Print the JSON schema of recipes, for editors, or of results.json."""
    from sacpo.recipe import recipe_schema

    if what not in ("recipe", "results"):
        raise RecipeError(
            "no such schema", where="schema", value=what, allowed=["recipe", "results"], do="name one of these"
        )
    if what == "results":
        from sacpo.report.results import results_schema

        print(json.dumps(results_schema(), indent=2))
    else:
        print(json.dumps(recipe_schema(), indent=2))
