"""`sacpo select` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sacpo import api
from sacpo.cli.options import Json, bound_option
from sacpo.system.visible import visible


def select(
    judged: Annotated[list[Path], typer.Argument(help="Folders that 'judge' wrote.", show_default=False)],
    objective: Annotated[str, typer.Option(help="METRIC/CRITERION to maximise.")] = "win_rate/helpfulness",
    at_most: Annotated[list[str] | None, typer.Option(metavar="METRIC=BOUND", help="Such as unsafe_rate=0.05.")] = None,
    at_least: Annotated[list[str] | None, typer.Option(metavar="METRIC=BOUND", help="Such as win_rate/x=0.5.")] = None,
    as_json: Json = False,
) -> None:
    """Choose the best model that meets every constraint."""
    bounds = [bound_option(text, "at_most") for text in at_most or []] + [
        bound_option(text, "at_least") for text in at_least or []
    ]
    metric, _, criterion = objective.partition("/")
    found = api.select(judged, constraints=bounds, objective={"metric": metric, "criterion": criterion})
    if as_json:
        print(json.dumps(found))
    elif found["chosen"] is None:
        print(f"no model meets every constraint; the nearest is {visible(str(found['nearest']))}")
    else:
        print(visible(found["chosen"]))
