"""Whether a certificate still holds: every file as it was, every number as it follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sacpo.certify.judged import verdicts_by_model
from sacpo.certify.looks import PLAN, read_object
from sacpo.certify.plan import bounds_of, make_plan, request
from sacpo.certify.tests import run_tests
from sacpo.errors import RunError, UserError
from sacpo.system.files import content_key, file_hash

SHOWN = 5
ROLES = ("tuning", "certification", "bind")


def verify_certificate(certificate: str | Path) -> dict[str, Any]:
    """Return a certificate that still holds.

    Every file is hashed again, the plan is made again from the tuning verdicts and the tests are done again.

    Args:
        certificate: certificate.json, in the folder that keeps its looks.

    Raises:
        RunError: It is void; the message says what changed.
    """
    path = Path(certificate)
    found = read_object(path)
    try:
        reasons = _changed(path.parent, found)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError("not a certificate", where=path, value=error, do="give certificate.json") from error
    if reasons:
        raise RunError(
            f"the certificate is void: {reasons[0]}",
            where=path,
            value=reasons[:SHOWN],
            do="certify again, on prompts that nothing was chosen with",
        )
    return found


def _changed(folder: Path, found: Mapping[str, Any]) -> list[str]:
    """Return what changed; the first kind of change only, since the others follow from it."""
    body = {name: value for name, value in found.items() if name != "sha256"}
    if content_key(body) != found["sha256"] or found["certified"] is None:
        return ["its text was changed"]
    files = [
        f"{path} {'changed' if (folder / path).is_file() else 'is gone'}"
        for role in found["files"].values()
        for path, known in role.items()
        if not (folder / path).is_file() or file_hash(folder / path) != known
    ]
    return files or _recomputed(folder, found)


def _recomputed(folder: Path, found: Mapping[str, Any]) -> list[str]:
    plan = {name: value for name, value in found["plan"].items() if name != "sha256"}
    if content_key(plan) != found["plan"]["sha256"]:
        return ["its plan was changed"]
    if content_key(read_object(folder / f"look-{found['look']}" / PLAN)) != found["plan"]["sha256"]:
        return ["its plan is not the one that was written down before the verdicts were opened"]
    try:
        again, tests = _again(folder, found["folders"], plan)
    except UserError as error:
        return [f"it cannot be made again: {error.what}"]
    if again["data"] != plan["data"]:
        return ["a folder that it covers holds more files than before"]
    if [one["model"] for one in again["order"]] != [one["model"] for one in plan["order"]]:
        return ["the order of the candidates does not follow from the tuning verdicts"]
    same = all(tests[name] == found["tests"][name] for name in ("certified", "all_certified", "not_tested"))
    return [] if same else ["the tests give another result"]


def _again(folder: Path, places: Mapping[str, Sequence[str]], plan: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the plan and the tests, made again from the files."""
    tuning, certification, bind = ([folder / path for path in places[role]] for role in ROLES)
    spec = plan["bounds"]
    how = {name: plan[name] for name in ("objective", "confidence", "spend", "population", "unit")}
    asked = request(tuning, certification, spec, bind=bind, **how)
    again = make_plan(asked, asked.files())
    return again, run_tests(again, bounds_of(spec), verdicts_by_model(asked.certification, asked.unit))
