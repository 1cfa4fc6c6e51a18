"""A look at certification data: the plan is written down, then the verdicts are opened, and both are kept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sacpo._version import __version__
from sacpo.certify.judged import verdicts_by_model
from sacpo.certify.labels import Method
from sacpo.certify.request import Request, make_plan, request
from sacpo.certify.terms import Terms, terms
from sacpo.certify.tests import run_tests
from sacpo.certify.words import assumptions, sentence
from sacpo.errors import RunError
from sacpo.recipe.safe import json_value
from sacpo.system.files import content_key, write_json
from sacpo.system.machine import machine_errors

CERTIFICATE, PLAN, RESULT = "certificate.json", "plan.json", "result.json"
ROUNDING = 1e-9


def certify(
    tuning: Sequence[str | Path],
    certification: Sequence[str | Path],
    out: str | Path,
    *,
    constraints: Sequence[Mapping[str, Any]],
    objective: Mapping[str, Any] | None = None,
    confidence: float = 0.95,
    spend: float = 1.0,
    population: str | None = None,
    unit: Literal["cluster", "prompt"] = "cluster",
    bind: Sequence[str | Path] = (),
    labels: Sequence[str | Path] = (),
    method: Method = "finite",
) -> dict[str, Any]:
    """Certify that a model keeps bounds on prompts that the choice has not seen, or say why none does.

    Writes `look-N/plan.json` before it opens the certification verdicts, `look-N/result.json` after, and
    `certificate.json` when a model is certified. The same call again returns the same look.

    Args:
        tuning: Folders of `judge` that order the candidates, one or several for each model.
        certification: Folders of `judge` on other prompts, of the same models.
        out: The folder that keeps every look at these certification data.
        constraints: As in a recipe, without `prompts`: metric, criterion, at_most or at_least.
        objective: What decides between certified models, on tuning prompts; None: the order does.
        confidence: Of everything that is ever certified in this folder.
        spend: The share of 1 - confidence that this look spends; looks share 1 in all.
        population: What the certification prompts stand for, in words.
        unit: What was drawn independently: clusters of prompts (tasks, templates), or prompts.
        bind: Other files or folders whose change voids the certificate: answers, the model.
        labels: Folders of `judge` or `label` with the truth of some certification answers, drawn at random.
        method: How they correct for the judge's errors: finite (exact), or rates (normal approximation).

    Returns:
        What `result.json` holds; `certified` is the model's name or None.

    Raises:
        UserError: Folders or bounds cannot be used.
        RunError: The certification data were looked at before, and this look has no share of delta left.
    """
    own = terms(constraints, objective, confidence, spend, population, unit, method if labels else None)
    asked = request(own, tuning, certification, bind, labels)
    files = asked.files()
    plan = make_plan(asked, files)
    folder = Path(out)
    number = write_down(folder, plan)
    look = folder / f"look-{number}"
    if (look / RESULT).is_file():
        return read_object(look / RESULT)
    result = _result(asked, plan, files, folder, number)
    if result["certified"] is not None:
        write_json(folder / CERTIFICATE, result)
    write_json(look / RESULT, result)
    return result


def _result(
    asked: Request, plan: Mapping[str, Any], files: Mapping[str, Mapping[str, str]], out: Path, number: int
) -> dict[str, Any]:
    """Open the certification verdicts and test."""
    own = asked.terms
    truth = verdicts_by_model(asked.labels, own.unit)
    tests = run_tests(plan, own.bounds, verdicts_by_model(asked.certification, own.unit), truth)
    return document(
        own,
        plan,
        number,
        tests,
        bound=bool(asked.bind),
        files={
            role: {relative(Path(path), out): digest for path, digest in found.items()} for role, found in files.items()
        },
        folders={
            role: [relative(path, out) for path in getattr(asked, role)]
            for role in ("tuning", "certification", "bind", "labels")
        },
    )


def document(
    own: Terms, plan: Mapping[str, Any], look: int, tests: Mapping[str, Any], *, bound: bool, **places: Any
) -> dict[str, Any]:
    """Return what a look found, with what must hold for it and where everything lies.

    Args:
        own: The terms.
        plan: The plan that was written down.
        look: Its number.
        tests: What `run_tests` returned.
        bound: The model is known by its files.
        places: `files`, `folders` and what else tells where everything lies.
    """
    result = {
        "certified": tests["certified"],
        "sentence": sentence(own, tests),
        "bounds": plan["bounds"],
        "confidence": 1 - own.delta,
        "population": own.population,
        "assumptions": assumptions(own, look, bound=bound),
        "tests": tests,
        "look": look,
        "plan": {"sha256": content_key(plan), **plan},
        **places,
        "sacpo": __version__,
    }
    return {**result, "sha256": content_key(result)}


def no_look(own: Terms, why: str) -> dict[str, Any]:
    """Return what there is to say where certification prompts stay closed."""
    return {
        "certified": None,
        "sentence": f"Not certified: {why}.",
        "bounds": [bound.to_json() for bound in own.bounds],
        "confidence": 1 - own.delta,
        "population": own.population,
        "assumptions": [],
        "tests": {"certified": None, "all_certified": [], "candidates": [], "not_tested": []},
        "look": None,
    }


def relative(path: Path, out: Path) -> str:
    """Return a path as seen from the certificate, so that it holds where its files move together."""
    return Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()


def write_down(out: Path, plan: Mapping[str, Any]) -> int:
    """Return the number of this plan's look; a new one is written down first, if a share of delta is left for it.

    Raises:
        RunError: No share is left, or another process took this look.
    """
    known, digest = plans_in(out), content_key(plan)
    for number, earlier in known.items():
        if content_key(earlier) == digest:
            return number
    _check_left(out, plan, known)
    number = max(known, default=0) + 1
    look = out / f"look-{number}"
    with machine_errors(look):
        out.mkdir(parents=True, exist_ok=True)
        try:
            look.mkdir()
        except FileExistsError:
            raise RunError("another process is looking at these data", where=look, do="wait for it") from None
        write_json(look / PLAN, plan)
    return number


def plans_in(out: Path) -> dict[int, dict[str, Any]]:
    """Return the plans of the looks that a folder keeps, by number.

    Raises:
        RunError: The folder holds other files, or a plan is gone.
    """
    if not out.exists():
        return {}
    if not out.is_dir():
        raise RunError("the output is no folder", where=out, do="give a new folder")
    found = {}
    for path in sorted(out.iterdir()):
        number = path.name.removeprefix("look-")
        if path.name == CERTIFICATE or path.name.startswith("."):
            continue
        if not number.isdecimal() or not (path / PLAN).is_file():
            raise RunError("the output folder holds something else than looks", where=path, do="give a new folder")
        found[int(number)] = read_object(path / PLAN)
    return found


def _check_left(out: Path, plan: Mapping[str, Any], known: Mapping[int, Mapping[str, Any]]) -> None:
    """Refuse a look at data that were looked at before, unless a share of delta was kept for it."""
    same = {n: earlier for n, earlier in known.items() if {*earlier["prompts"]} & {*plan["prompts"]}}
    spent = sum(earlier["spend"] for earlier in same.values())
    if spent + plan["spend"] > 1 + ROUNDING:
        raise RunError(
            f"these certification prompts were looked at before, and {spent:g} of delta is spent",
            where=out / f"look-{max(same)}",
            value=f"--spend {plan['spend']:g}",
            allowed=f"{max(0.0, 1 - spent):g} at most" if spent < 1 else "no further look",
            do="certify on new prompts; keep a share for a second look by --spend 0.5 in the first",
        )
    other = [earlier["confidence"] for earlier in same.values() if earlier["confidence"] != plan["confidence"]]
    if other:
        raise RunError(
            "an earlier look at these prompts has another confidence",
            where=out,
            value=plan["confidence"],
            allowed=other[0],
            do="give the same confidence; it is of all looks together",
        )


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object of a look.

    Raises:
        RunError: The file is not there or not JSON.
    """
    try:
        found = json_value(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError("no such certificate or plan", where=path, do="give certificate.json") from error
    if not isinstance(found, dict):
        raise RunError("not a certificate or plan", where=path, do="give certificate.json")
    return found
