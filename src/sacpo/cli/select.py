"""`sacpo select` on the command line."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sacpo import api
from sacpo.cli.from_api import Call, command
from sacpo.cli.options import AtLeast, AtMost, bound_options
from sacpo.plain import JsonMapping
from sacpo.stats.plain import section, value_cell
from sacpo.system.visible import visible


@command(api.select, hidden=("constraints", "objective"))
def select(
    call: Call,
    objective: Annotated[str, typer.Option(help="METRIC/CRITERION to maximise.")] = "win_rate/helpfulness",
    at_most: AtMost = None,
    at_least: AtLeast = None,
) -> None:
    """Choose the best model that meets every constraint; exit code 2 when none does."""
    metric, _, criterion = objective.partition("/")
    goal = {"metric": metric, "criterion": criterion}
    found = call(constraints=bound_options(at_most, at_least), objective=goal)
    if not call.as_json:
        typer.echo(visible(table(found)), err=True)  # standard output is the model's name alone, for scripts
    if call.as_json:
        print(json.dumps(found))
    elif found["chosen"] is not None:
        print(visible(found["chosen"]))
    if found["chosen"] is None:
        near = visible(str(found["nearest"]))
        typer.echo(f"no model meets every constraint; the nearest is {near}", err=True)
        raise typer.Exit(2)


def table(found: JsonMapping) -> str:
    """Return every candidate's objective and bounds with their intervals, as a text."""
    names = [f"{one['metric']}{'/' + one['criterion'] if one.get('criterion') else ''}" for one in found["constraints"]]
    rows = []
    for model, one in found["models"].items():
        checks = [_cell(check["value"]) + ("" if check["met"] else " (missed)") for check in one["checks"]]
        rows.append([model, _cell(one["objective"]), *checks, "yes" if one["feasible"] else "no"])
    title = "Point estimates are held against the bounds; a certificate tests them: sacpo certify"
    return section(title, ";".join(["model", "objective", *names, "meets every bound"]), rows)


def _cell(estimate: JsonMapping | None) -> str:
    return "not measured" if estimate is None else value_cell(estimate)
