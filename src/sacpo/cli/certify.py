"""`sacpo certify` on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sacpo.cli.options import bound_option
from sacpo.errors import RecipeError
from sacpo.plain import JsonObject
from sacpo.system.visible import visible

Folders = list[Path] | None
Bounds = list[str] | None


def certify(
    tuning: Annotated[Folders, typer.Option("--tuning", help="Folder of 'judge' that orders; repeatable.")] = None,
    certification: Annotated[
        Folders, typer.Option("--certification", help="Folder of 'judge' on unseen prompts; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder that keeps every look.")] = None,
    at_most: Annotated[Bounds, typer.Option(metavar="METRIC=BOUND", help="Such as unsafe_rate=0.05.")] = None,
    at_least: Annotated[Bounds, typer.Option(metavar="METRIC=BOUND", help="Such as win_rate/x=0.5.")] = None,
    objective: Annotated[
        str | None, typer.Option(help="METRIC/CRITERION that decides between certified models.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of all looks at these prompts together.")] = 0.95,
    spend: Annotated[float, typer.Option(help="Share of 1 - confidence that this look spends.")] = 1.0,
    population: Annotated[str | None, typer.Option(help="What the prompts stand for, in words.")] = None,
    unit: Annotated[str, typer.Option(help="What was drawn independently: cluster or prompt.")] = "cluster",
    bind: Annotated[
        Folders, typer.Option("--bind", help="A file or folder whose change voids it: the model; repeatable.")
    ] = None,
    labels: Annotated[
        Folders, typer.Option("--labels", help="Folder with true labels of some certification answers; repeatable.")
    ] = None,
    method: Annotated[str, typer.Option(help="How labels correct for the judge: finite or rates.")] = "finite",
    verify: Annotated[Path | None, typer.Option(help="Check a certificate.json again.")] = None,
    power: Annotated[Bounds, typer.Option(metavar="METRIC=BOUND", help="Print prompts needed, at most.")] = None,
    rate: Annotated[float | None, typer.Option(help="--power: the true rate; half the bound by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Certify that a model keeps its bounds on prompts that the choice has not seen; exit code 2 when none does."""
    from sacpo import certify as certificates

    given: dict[str, object] = {
        "--tuning": tuning,
        "--certification": certification,
        "--out": out,
        "--bind": bind,
        "--labels": labels,
        "--at-most": at_most,
    }
    given |= {"--at-least": at_least, "--objective": objective, "--population": population}
    if verify is not None or power is not None:
        mode = "--verify" if verify is not None else "--power"
        _refuse_beside(mode, {**given, "--power": power if verify is not None else None})
    if verify is not None:
        found = certificates.verify_certificate(verify)
        _print(as_json, found, f"the certificate holds: {found['sentence']}")
        return
    if power is not None:
        _print_power(as_json, certificates.prompts_for([bound_option(b, "at_most") for b in power], confidence, rate))
        return
    if out is None or rate is not None:
        raise RecipeError(
            "an option is missing" if out is None else "--rate belongs to --power",
            where="--out" if out is None else "--rate",
            do="give --tuning and --certification with --out; or --verify; or --power",
        )
    result = certificates.certify(
        tuning or [],
        certification or [],
        out,
        constraints=_bounds(at_most, at_least),
        objective=_goal(objective),
        confidence=confidence,
        spend=spend,
        population=population,
        unit=unit,  # type: ignore[arg-type]
        bind=bind or [],
        labels=labels or [],
        method=method,  # type: ignore[arg-type]
    )
    _print(as_json, result, result["sentence"])
    if result["certified"] is None:
        raise typer.Exit(2)


def _bounds(at_most: Bounds, at_least: Bounds) -> list[JsonObject]:
    upper = [bound_option(text, "at_most") for text in at_most or []]
    return upper + [bound_option(text, "at_least") for text in at_least or []]


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
