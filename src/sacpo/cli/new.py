"""`sacpo new` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sacpo.system.visible import visible


def new(
    recipe: Annotated[Path, typer.Argument(help="The recipe to write.", show_default=False)],
    model: Annotated[str, typer.Option("--model", help="Hub id or folder of the model to start from.")],
    helpful: Annotated[Path, typer.Option("--helpful", help="File of preferences for the helpfulness step.")],
    safe: Annotated[Path, typer.Option("--safe", help="File of preferences for the safety step.")],
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="Prompts to answer in evaluation; else some are held out.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The run's name; the recipe's by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one event or result a line.")] = False,
) -> None:
    """Write a commented recipe for your own model and preference files."""
    from sacpo.pipeline.new import new_recipe

    done = new_recipe(recipe, model=model, helpful=helpful, safe=safe, prompts=prompts, name=name)
    if as_json:
        print(json.dumps({"event": "done", "recipe": str(done.recipe), "said": done.said}))
        return
    print(visible("\n".join([*done.said, f"recipe: {done.recipe}"])))
    print(visible(f"next:   sacpo validate {done.recipe}; sacpo run {done.recipe}"))
