"""Whether a certificate still holds: every file as it was, every number as it follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sacpo.certify.judged import verdicts_by_model
from sacpo.certify.looks import PLAN, read_object
from sacpo.certify.plan import plan_of
from sacpo.certify.request import make_plan, request
from sacpo.certify.terms import bounds_of, terms
from sacpo.certify.tests import run_tests
from sacpo.data.records import Prompt, read_jsonl
from sacpo.errors import RunError, UserError
from sacpo.plain import JsonMapping, JsonObject
from sacpo.system.files import content_key, file_hash
from sacpo.system.runs import verify

SHOWN = 5
ROLES = ("tuning", "certification", "bind", "labels")
TERMS = ("objective", "confidence", "spend", "population", "unit")
STAGES, CHOSEN, PROMPTS, MANIFEST = "stages", "chosen", "prompts.jsonl", "manifest.json"


def verify_certificate(certificate: str | Path) -> JsonObject:
    """Return a certificate that still holds.

    Every file is hashed again, the plan is made again from the tuning verdicts and the tests are done again. Of a run,
    the stages must be those that the certificate was made of.

    Args:
        certificate: certificate.json, in the folder that keeps its looks or in the run's.

    Raises:
        RunError: It is void; the message says what changed.
    """
    path = Path(certificate)
    found = read_object(path)
    try:
        reasons = _changed(_root(path, found), found)
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


def _root(path: Path, found: JsonMapping) -> Path:
    """Return the folder that a certificate's paths begin at: its own, or the run that it belongs to."""
    if "run" not in found:
        return path.parent
    place = path.resolve()
    run = next((folder for folder in place.parents if (folder / STAGES).is_dir()), None)
    if run is None:
        raise RunError("the run of this certificate is not here", where=path, do="give runs/NAME/certificate.json")
    return run


def _changed(root: Path, found: JsonMapping) -> list[str]:
    """Return what changed; the first kind of change only, since the others follow from it."""
    body = {name: value for name, value in found.items() if name != "sha256"}
    if content_key(body) != found["sha256"] or found["certified"] is None:
        return ["its text was changed"]
    files = [
        f"{path} {'changed' if (root / path).is_file() else 'is gone'}"
        for role in found["files"].values()
        for path, known in role.items()
        if not (root / path).is_file() or file_hash(root / path) != known
    ]
    run = found.get("run", {})
    return files or _other_stages(root, run) or (_published(root) if run else []) or _recomputed(root, found)


def _published(root: Path) -> list[str]:
    """Return what of the run's chosen model, which stands at its top, is not as it was written."""
    folder = root / STAGES / CHOSEN
    try:
        if (folder / MANIFEST).is_file():
            verify(folder)
    except RunError as error:
        return [f"the chosen model: {error.what}, {error.where}"]
    return []


def _other_stages(root: Path, run: JsonMapping) -> list[str]:
    """Return the stages of a run that were done anew from something else: another model, judge or prompt set."""
    return [
        f"stage {name} was done anew, from another model, judge or data"
        for name, key in run.get("keys", {}).items()
        if read_object(root / STAGES / name / MANIFEST)["key"] != key
    ]


def _recomputed(root: Path, found: JsonMapping) -> list[str]:
    plan = {name: value for name, value in found["plan"].items() if name != "sha256"}
    if content_key(plan) != found["plan"]["sha256"]:
        return ["its plan was changed"]
    looks = root / found["run"]["looks"] if "run" in found else root
    if content_key(read_object(looks / f"look-{found['look']}" / PLAN)) != found["plan"]["sha256"]:
        return ["its plan is not the one that was written down before the verdicts were opened"]
    try:
        again, tests = (_of_run if "run" in found else _of_folders)(root, found["folders"], plan)
    except UserError as error:
        return [f"it cannot be made again: {error.what}"]
    if again["data"] != plan["data"]:
        return ["a folder that it covers holds more files than before"]
    if [one["model"] for one in again["order"]] != [one["model"] for one in plan["order"]]:
        return ["the order of the candidates does not follow from the tuning verdicts"]
    same = all(tests[name] == found["tests"][name] for name in ("certified", "all_certified", "candidates"))
    return [] if same else ["the tests give another result"]


def _of_folders(root: Path, places: Mapping[str, Sequence[str]], plan: JsonMapping) -> tuple[JsonObject, ...]:
    """Return the plan and the tests, made again from judged folders."""
    tuning, certification, bind, labels = ([root / path for path in places[role]] for role in ROLES)
    spec = plan["bounds"]
    own = terms(spec, labels=plan["labels"], per=plan.get("per"), **{name: plan[name] for name in TERMS})
    asked = request(own, tuning, certification, bind, labels)
    again = make_plan(asked, asked.files())
    said, truth = (verdicts_by_model(folders, asked.terms.unit) for folders in (asked.certification, asked.labels))
    return again, run_tests(again, bounds_of(spec), said, truth)


def _of_run(root: Path, places: Mapping[str, Sequence[str]], plan: JsonMapping) -> tuple[JsonObject, ...]:
    """Return the plan and the tests, made again from a run's stages."""
    own = terms(plan["bounds"], labels=plan["labels"], per=plan.get("per"), **{name: plan[name] for name in TERMS})
    tuning, sealed, truth, goal = (
        verdicts_by_model([root / path for path in places[role]], own.unit)
        for role in ("tuning", "certification", "labels", "objective" if "objective" in places else "tuning")
    )
    prompts = [prompt for path in places["prompts"] for prompt in read_jsonl(root / path / PROMPTS, Prompt)]
    again = plan_of(own, tuning, [prompt.id for prompt in prompts], plan["data"], goal=goal)
    order = [one for one in again["order"] if one["model"] in sealed]
    return again, run_tests({**again, "order": order}, own.bounds, sealed, truth)
