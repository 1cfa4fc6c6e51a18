"""Work of the data stages: sources, evaluation prompts, and what they share."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sacpo.data.prepare import prepare
from sacpo.data.records import (
    Demonstration,
    Labelled,
    Pair,
    Prompt,
    Record,
    iter_jsonl,
    read_jsonl,
    write_jsonl,
)
from sacpo.data.report import data_report
from sacpo.data.sources import read_source
from sacpo.data.splits import check_apart, check_shared
from sacpo.errors import DataError
from sacpo.pipeline.stages import At
from sacpo.pipeline.study import Study
from sacpo.recipe.schema import DataSpec, PromptsSpec
from sacpo.system.runs import write_json

TRAIN, HELDOUT, REPORT, PROMPTS = "train.jsonl", "heldout.jsonl", "report.json", "prompts.jsonl"
KINDS: dict[str, type[Record]] = {
    "pairs": Pair,
    "unpaired": Labelled,
    "demonstrations": Demonstration,
    "prompts": Prompt,
}


def read_data(study: Study, name: str, spec: DataSpec, out: Path) -> None:
    """Read, clean and split one data source."""
    seed = study.seed("data", name)
    if spec.format == "world":
        with placed(f"data.{name}"):
            records, dropped = _from_world(study, name, spec, seed), {}
    else:
        found = read_source(spec, name=name, seed=seed, as_=spec.as_)
        records, dropped = list(found.records), found.dropped
    prepared = prepare(records, spec, name=name, seed=study.seed("holdout"))
    write_jsonl(out / TRAIN, prepared.train)
    write_jsonl(out / HELDOUT, prepared.heldout)
    report = data_report(name, prepared.train, heldout=prepared.heldout, dropped={**dropped, **prepared.dropped})
    kind = next(kind for kind, cls in KINDS.items() if isinstance(records[0], cls))
    write_json(out / REPORT, {"kind": kind, **report})


@contextlib.contextmanager
def placed(section: str) -> Iterator[None]:
    """Put a section of the recipe in front of the place that a `DataError` names."""
    try:
        yield
    except DataError as error:
        where = section if error.where is None else f"{section}, {error.where}"
        raise DataError(error.what, where=where, value=error.value, allowed=error.allowed, do=error.do) from error


def _from_world(study: Study, name: str, spec: DataSpec, seed: int) -> list[Any]:
    assert spec.split is not None
    assert spec.limit is not None
    if spec.as_ == "demonstrations":
        return study.world.demonstrations(spec.limit, seed=seed, mix=spec.mix)
    if spec.as_ not in (None, "prompts"):
        raise DataError(
            "the world gives prompts and demonstrations",
            where="as",
            value=spec.as_,
            allowed=["prompts", "demonstrations"],
            do="let a step sample its pairs from these prompts",
        )
    return study.world.prompts(spec.split, spec.limit, seed=seed, mix=spec.mix)


def read_prompts(study: Study, name: str, spec: PromptsSpec, out: Path) -> None:
    """Read one set of evaluation prompts and say what it is a sample of."""
    seed = study.seed("prompts", name)
    if spec.format == "world":
        assert spec.split is not None
        assert spec.limit is not None
        with placed(f"prompts.{name}"):
            prompts = study.world.prompts(
                spec.split, spec.limit, seed=seed, mix=spec.mix, unseen_tasks=spec.unseen_tasks
            )
        population = study.world.population(spec.split, spec.unseen_tasks)
    else:
        prompts = [p for p in read_source(spec, name=name, seed=seed, as_="prompts").records if isinstance(p, Prompt)]
        population = f"{', '.join(map(study.recipe.hidden, spec.paths))} ({spec.format})"
    distinct = list({prompt.id: prompt for prompt in prompts}.values())
    write_jsonl(out / PROMPTS, distinct)
    kinds = {kind: sum(p.kind == kind for p in distinct) for kind in sorted({str(p.kind) for p in distinct})}
    write_json(
        out / REPORT,
        {
            "role": spec.role,
            "n": len(distinct),
            "kinds": {kind: n for kind, n in kinds.items() if kind},
            "population": population,
        },
    )


def check_overlap(study: Study, data: Sequence[str], sets: Sequence[str], out: Path, at: At) -> None:
    """Refuse prompts that training and evaluation, or selection and report, share, unless the recipe allows them."""
    training = {name: [*records_of(at(f"data/{name}")), *heldout_of(at(f"data/{name}"))] for name in data}
    evaluation = {name: prompts_of(at(f"prompts/{name}")) for name in sets}
    tuning = {name: prompts for name, prompts in evaluation.items() if study.recipe.prompts[name].role == "tuning"}
    others = {name: prompts for name, prompts in evaluation.items() if name not in tuning}
    allow = study.recipe.allow_shared_prompts
    warnings = check_shared(training, evaluation, allow=allow) + check_apart(tuning, others, allow=allow)
    write_json(out / REPORT, {"warnings": warnings})


def records_of(folder: Path) -> list[Any]:
    """Return the training records of a data stage."""
    return read_jsonl(folder / TRAIN, KINDS[report_of(folder)["kind"]])


def heldout_of(folder: Path) -> list[Any]:
    """Return the held-out records of a data stage; none where the stage holds nothing out."""
    if not (folder / HELDOUT).is_file():
        return []
    return read_jsonl(folder / HELDOUT, KINDS[report_of(folder)["kind"]])


def prompts_of(folder: Path) -> list[Prompt]:
    """Return the prompts of an evaluation set."""
    return read_jsonl(folder / PROMPTS, Prompt)


def report_of(folder: Path) -> dict[str, Any]:
    """Return a stage's report.json."""
    found: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return found


def texts_of(folder: Path) -> list[str]:
    """Return all texts of a data stage's training records, for a tokenizer to learn from."""
    texts: list[str] = []
    for record in iter_jsonl(folder / TRAIN, KINDS[report_of(folder)["kind"]]):
        prompt = record if isinstance(record, Prompt) else record.prompt  # type: ignore[attr-defined]
        texts += [message.content for message in prompt.messages]
        texts += [str(getattr(record, name)) for name in ("chosen", "rejected", "completion") if hasattr(record, name)]
    return texts
