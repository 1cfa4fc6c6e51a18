"""`sacpo certify` on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sacpo import api
from sacpo.cli.from_api import Call, command
from sacpo.cli.options import AtLeast, AtMost, bound_option, bound_options
from sacpo.errors import RecipeError
from sacpo.plain import JsonObject
from sacpo.recipe.metrics import SCORES
from sacpo.system.visible import visible

Folders = list[Path] | None
Bounds = list[str] | None


@command(api.certify, hidden=("constraints",))
def certify(
    call: Call,
    tuning: Annotated[Folders, typer.Option(help="Folder of 'judge' that orders; repeatable.")] = None,
    certification: Annotated[Folders, typer.Option(help="Folder of 'judge' on unseen prompts; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder that keeps every look.")] = None,
    at_most: AtMost = None,
    at_least: AtLeast = None,
    ranges: Annotated[
        Bounds, typer.Option("--range", metavar="CRITERION=LOW:HIGH", help="What scores can be; of bounds on scores.")
    ] = None,
    tails: Annotated[
        Bounds, typer.Option("--tail", metavar="CRITERION=SHARE", help="Of cvar_score/CRITERION: the lowest share.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="METRIC/CRITERION that decides between certified models.")
    ] = None,
    verify: Annotated[Path | None, typer.Option(help="Check a certificate.json again.")] = None,
    power: Annotated[Bounds, typer.Option(metavar="METRIC=BOUND", help="Print prompts needed, at most.")] = None,
    rate: Annotated[float | None, typer.Option(help="--power: the true rate; half the bound by default.")] = None,
) -> None:
    """Certify that a model keeps its bounds on prompts that the choice has not seen; exit code 2 when none does."""
    if verify is not None or power is not None:
        given: dict[str, object] = {"--tuning": tuning, "--certification": certification, "--out": out}
        given |= {f"--{name}": True for name in call.said("bind", "labels", "population", "per")}
        given |= {"--at-most": at_most, "--at-least": at_least, "--range": ranges, "--tail": tails}
        mode = "--verify" if verify is not None else "--power"
        _refuse_beside(mode, {**given, "--objective": objective, "--power": power if verify is not None else None})
    if verify is not None:
        found = api.verify_certificate(verify)
        _print(call.as_json, found, f"the certificate holds: {found['sentence']}")
        return
    if power is not None:
        bounds = [bound_option(bound, "at_most") for bound in power]
        _print_power(call.as_json, api.prompts_for(bounds, call.options["confidence"], rate))
        return
    if out is None or rate is not None:
        raise RecipeError(
            "an option is missing" if out is None else "--rate belongs to --power",
            where="--out" if out is None else "--rate",
            do="give --tuning and --certification with --out; or --verify; or --power",
        )
    result = call(
        tuning=tuning or [],
        certification=certification or [],
        out=out,
        constraints=_bounds(at_most, at_least, ranges, tails),
        objective=_goal(objective),
    )
    _print(call.as_json, result, result["sentence"])
    if result["certified"] is None:
        raise typer.Exit(2)


def _bounds(at_most: Bounds, at_least: Bounds, ranges: Bounds, tails: Bounds) -> list[JsonObject]:
    """Return bounds as constraints; a range belongs to all bounds on its criterion's scores, a tail to its lowest."""
    bounds = bound_options(at_most, at_least)
    for option, metrics, given in (("range", SCORES, ranges), ("tail", ("cvar_score",), tails)):
        for text in given or []:
            criterion, value = _scored(option, text)
            own = [b for b in bounds if b["metric"] in metrics and b["criterion"] == criterion and option not in b]
            if not own:
                raise RecipeError(
                    f"no bound takes this {option}",
                    where=f"--{option}",
                    value=text,
                    allowed=f"once for every criterion of {' or '.join(metrics)}",
                    do=f"leave it out, or add --at-least {metrics[-1]}/{criterion}=NUMBER",
                )
            for bound in own:
                bound[option] = value
    return bounds


def _scored(option: str, text: str) -> tuple[str, list[float] | float]:
    criterion, _, value = text.rpartition("=")
    parts = value.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if not criterion or len(numbers) != (2 if option == "range" else 1):
        form, like = ("LOW:HIGH", "-10:10") if option == "range" else ("SHARE", "0.1")
        raise RecipeError(
            f"a {option} is CRITERION={form}",
            where=f"--{option}",
            value=text,
            do=f"write it as in --{option} helpfulness={like}",
        )
    return criterion, numbers if option == "range" else numbers[0]


def _goal(objective: str | None) -> dict[str, str] | None:
    metric, _, criterion = (objective or "").partition("/")
    return {"metric": metric, "criterion": criterion} if objective else None


def _refuse_beside(mode: str, given: dict[str, object]) -> None:
    other = [name for name, value in given.items() if value not in (None, [])]
    if other:
        raise RecipeError(f"{mode} takes no {other[0]}", where=other[0], do="leave one of them out")


def _print_power(as_json: bool, rows: Sequence[JsonObject]) -> None:
    if as_json:
        print(json.dumps(rows))
    else:
        print("\n".join(row["text"] for row in rows))


def _print(as_json: bool, found: JsonObject, text: str) -> None:
    print(json.dumps(found) if as_json else visible(text))
