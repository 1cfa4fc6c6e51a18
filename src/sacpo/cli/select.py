"""`sacpo select` on the command line."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sacpo import api
from sacpo.cli.from_api import Call, command
from sacpo.cli.options import AtLeast, AtMost, bound_options
from sacpo.system.visible import visible


@command(api.select, hidden=("constraints", "objective"))
def select(
    call: Call,
    objective: Annotated[str, typer.Option(help="METRIC/CRITERION to maximise.")] = "win_rate/helpfulness",
    at_most: AtMost = None,
    at_least: AtLeast = None,
) -> None:
    """Choose the best model that meets every constraint."""
    metric, _, criterion = objective.partition("/")
    goal = {"metric": metric, "criterion": criterion}
    found = call(constraints=bound_options(at_most, at_least), objective=goal)
    if call.as_json:
        print(json.dumps(found))
    elif found["chosen"] is None:
        print(f"no model meets every constraint; the nearest is {visible(str(found['nearest']))}")
    else:
        print(visible(found["chosen"]))
