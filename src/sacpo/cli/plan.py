"""`sacpo plan` on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from sacpo import api
from sacpo.cli.options import Json, bound_option
from sacpo.errors import RecipeError
from sacpo.plain import JsonMapping
from sacpo.system.visible import visible

Bounds = list[str] | None
ROWS = ("beta_over_lambda", "E_g", "E_r", "unsafe_rate", "over_refusal_rate", "kl", "ess")


def plan(
    judged: Annotated[
        Path | None, typer.Argument(help="Folder of 'judge': several answers of the step's start to each prompt.")
    ] = None,
    at_most: Annotated[Bounds, typer.Option(metavar="METRIC=BOUND", help="Such as unsafe_rate=0.05.")] = None,
    at_least: Annotated[Bounds, typer.Option(metavar="METRIC=BOUND", help="Such as mean_score/x=0.5.")] = None,
    criterion: Annotated[str, typer.Option(help="Whose score the step raises.")] = "harmlessness",
    scale: Annotated[float, typer.Option(help="Factor that makes logits of the preference data of the score.")] = 1.0,
    labels: Annotated[
        bool, typer.Option("--labels", help="Make the score of labels: they only order answers.")
    ] = False,
    least: Annotated[float | None, typer.Option(help="What a score may be at least.")] = None,
    most: Annotated[float | None, typer.Option(help="What a score may be at most.")] = None,
    reward: Annotated[str | None, typer.Option(help="The criterion that the step before raised.")] = None,
    before: Annotated[Path | None, typer.Option(help="Judged folder of what the step before started from.")] = None,
    strength: Annotated[float | None, typer.Option(help="--before: the step before's beta.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for plan.json.")] = None,
    power: Annotated[Bounds, typer.Option(metavar="METRIC=BOUND", help="Print prompts needed, at most.")] = None,
    confidence: Annotated[float, typer.Option(help="--power: of the certificate.")] = 0.95,
    rate: Annotated[float | None, typer.Option(help="--power: the true rate; half the bound by default.")] = None,
    as_json: Json = False,
) -> None:
    """Predict a step's frontier from samples of its start and recommend beta/lambda, before it is trained."""
    if power is not None:
        if judged is not None or at_most or at_least:
            raise RecipeError("--power takes no folder and no bounds", where="--power", do="leave the others out")
        rows = api.prompts_for([bound_option(text, "at_most") for text in power], confidence, rate)
        print(json.dumps(rows) if as_json else "\n".join(row["text"] for row in rows))
        return
    if judged is None or rate is not None:
        raise RecipeError(
            "a folder is missing" if judged is None else "--rate belongs to --power",
            where="JUDGED" if judged is None else "--rate",
            do="give the folder in which 'judge' judged several answers to each prompt; or --power",
        )
    bounds = [bound_option(text, "at_most") for text in at_most or []]
    bounds += [bound_option(text, "at_least") for text in at_least or []]
    found = api.plan_strength(
        judged,
        bounds,
        criterion=criterion,
        score={"scale": scale, "labels": labels, "least": least, "most": most},
        reward=reward,
        before=before,
        strength=strength,
        out=out,
    )
    print(json.dumps(found) if as_json else visible(_text(found)))


def _text(found: JsonMapping) -> str:
    names = [name for name in ROWS if found["frontier"][0].get(name) is not None]
    table = [[*names], *([_cell(point[name]) for name in names] for point in found["frontier"])]
    lines = _aligned(table)
    for bound in found["constraints"]:
        lines.append(f"{bound['name']} {bound['bound']:g}: {_needed(bound)}")
    for name, value in found.get("joint", {}).get("strengths", {}).items():
        lines.append(f"together: {name} at beta/lambda {value:g}" if value else f"together: {name} needs no step")
    lines += [f"note: {note}" for note in found["notes"]]
    return "\n".join([*lines, _recommended(found)])


def _recommended(found: JsonMapping) -> str:
    if found["raw"] is None:
        return f"no strength is recommended: {found['state']}"
    if not found["believable"]:
        return f"beta/lambda {found['raw']:g} would meet it, but too few effective samples tell so"
    if found["corrected"] is None:
        return f"recommended: beta/lambda {found['raw']:g}"
    whole = f"{found['raw']:g} if a training realised its whole tilt, not {found['realised']['share']:.2g} of it"
    return f"recommended: beta/lambda {found['corrected']:g} ({whole})"


def _needed(bound: JsonMapping) -> str:
    if bound["there"] is None:
        return (
            "not told by these samples"
            if bound["figure"] is None
            else f"no strength reaches it; at best {bound['best']:.3g}"
        )
    if bound["strength"] is None:
        return "met without a step"
    there = ", ".join(f"{name} {value:.3g}" for name, value in bound["there"].items())
    return f"beta/lambda {bound['strength']:g}, where {there}"


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{value['value']:.3f} ({value['band'][0]:.3f} to {value['band'][1]:.3f})"
    return f"{value:.3g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
