"""Records: data sources read, cleaned and split; evaluation prompts; what they share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sacpo.data.prepare import prepare
from sacpo.data.records import Demonstration, Labelled, Pair, Prompt, Record, iter_jsonl, read_jsonl, write_jsonl
from sacpo.data.report import data_report
from sacpo.data.sources import read_source
from sacpo.data.splits import check_apart, check_shared
from sacpo.errors import DataError
from sacpo.pipeline.outside import Source
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonObject
from sacpo.recipe.schema import DataSpec, PromptsSpec, WorldSpec
from sacpo.system.files import read_json, write_json
from sacpo.world import World

TRAIN, HELDOUT, REPORT, PROMPTS = "train.jsonl", "heldout.jsonl", "report.json", "prompts.jsonl"
COMPLETIONS = ("chosen", "rejected", "completion")
KINDS: dict[str, type[Record]] = {
    "pairs": Pair,
    "unpaired": Labelled,
    "demonstrations": Demonstration,
    "prompts": Prompt,
}


class Records(Protocol):
    """Records to train on, wherever they come from."""

    @property
    def train(self) -> list[Any]:
        """Return the records."""
        ...

    @property
    def heldout(self) -> list[Any]:
        """Return those held out."""
        ...


@dataclass(frozen=True)
class StoredRecords:
    """What a stage of records left in its folder; each part is read when it is asked for."""

    folder: Path

    @property
    def report(self) -> JsonObject:
        """What the records are and which were dropped."""
        return report_of(self.folder)

    @property
    def kind(self) -> type[Record]:
        """The type of the records."""
        return KINDS[self.report["kind"]]

    @property
    def train(self) -> list[Any]:
        """The training records."""
        return read_jsonl(self.folder / TRAIN, self.kind)

    @property
    def heldout(self) -> list[Any]:
        """The held-out records; none where nothing is held out."""
        path = self.folder / HELDOUT
        return read_jsonl(path, self.kind) if path.is_file() else []

    def texts(self) -> list[str]:
        """Return all texts of the training records, for a tokenizer to learn from."""
        texts: list[str] = []
        for record in iter_jsonl(self.folder / TRAIN, self.kind):
            prompt = record if isinstance(record, Prompt) else record.prompt  # type: ignore[attr-defined]
            texts += [message.content for message in prompt.messages]
            texts += [str(getattr(record, part)) for part in COMPLETIONS if hasattr(record, part)]
        return texts


def write_records(out: Path, train: list[Any], report: JsonObject, heldout: list[Any] | None = None) -> None:
    """Write a folder that `StoredRecords` reads."""
    write_jsonl(out / TRAIN, train)
    if heldout is not None:
        write_jsonl(out / HELDOUT, heldout)
    write_json(out / REPORT, report)


@dataclass(frozen=True)
class Data(Stage[StoredRecords]):
    """One data source, read, cleaned and split."""

    source: Source
    world: WorldSpec | None
    seed: int
    holdout_seed: int

    @property
    def name(self) -> str:
        """`data/NAME`."""
        return f"data/{self.source.name}"

    def work(self, out: Path, tools: Tools) -> None:
        """Write the records, those held out, and a report on both."""
        name, spec = self.source.name, self.source.spec
        assert isinstance(spec, DataSpec)
        if spec.format == "world":
            with placed(f"data.{name}"):
                records, dropped = self._from_world(spec), {}
        else:
            found = read_source(spec, name=name, seed=self.seed, as_=spec.as_)
            records, dropped = list(found.records), found.dropped
        if fewer := fewer_than_asked(f"data.{name}", len(records), spec.limit):
            tools.progress.notice(fewer)
        prepared = prepare(records, spec, name=name, seed=self.holdout_seed)
        report = data_report(name, prepared.train, heldout=prepared.heldout, dropped={**dropped, **prepared.dropped})
        kind = next(kind for kind, cls in KINDS.items() if isinstance(records[0], cls))
        write_records(out, prepared.train, {"kind": kind, **report}, prepared.heldout)

    def _from_world(self, spec: DataSpec) -> list[Any]:
        assert spec.split is not None and spec.limit is not None and self.world is not None
        world = World(self.world)
        if spec.as_ == "demonstrations":
            return world.demonstrations(spec.limit, seed=self.seed, mix=spec.mix)
        return world.prompts(spec.split, spec.limit, seed=self.seed, mix=spec.mix)

    def read(self, folder: Path) -> StoredRecords:
        """Return the records."""
        return StoredRecords(folder)


@contextlib.contextmanager
def placed(section: str) -> Iterator[None]:
    """Put a section of the recipe in front of the place that a `DataError` names."""
    try:
        yield
    except DataError as error:
        where = section if error.where is None else f"{section}, {error.where}"
        raise DataError(error.what, where=where, value=error.value, allowed=error.allowed, do=error.do) from error


@dataclass(frozen=True)
class Prompts(Stage[list[Prompt]]):
    """One set of evaluation prompts."""

    source: Source
    world: WorldSpec | None
    seed: int

    @property
    def name(self) -> str:
        """`prompts/NAME`."""
        return f"prompts/{self.source.name}"

    @property
    def spec(self) -> PromptsSpec:
        """What the recipe says."""
        assert isinstance(self.source.spec, PromptsSpec)
        return self.source.spec

    def work(self, out: Path, tools: Tools) -> None:
        """Write the prompts, each once, and say what they are a sample of."""
        name, spec, distinct = self.source.name, self.spec, self.drawn()
        if fewer := fewer_than_asked(f"prompts.{name}", len(distinct), spec.limit):
            tools.progress.notice(fewer)
        if spec.format == "world":
            assert spec.split is not None and self.world is not None
            population = World(self.world).population(spec.split, spec.unseen_tasks)
        else:
            population = f"{', '.join(map(tools.folder.hidden, spec.paths))} ({spec.format})"
        kinds = {kind: sum(p.kind == kind for p in distinct) for kind in sorted({str(p.kind) for p in distinct})}
        write_jsonl(out / PROMPTS, distinct)
        report = {
            "role": spec.role,
            "n": len(distinct),
            "kinds": {kind: n for kind, n in kinds.items() if kind},
            "population": population,
        }
        write_json(out / REPORT, report)

    def drawn(self) -> list[Prompt]:
        """Return the prompts, each once, from the world or the source.

        Raises:
            DataError: The world has fewer, or the source cannot be read.
        """
        name, spec = self.source.name, self.spec
        if spec.format == "world":
            assert spec.split is not None and spec.limit is not None and self.world is not None
            with placed(f"prompts.{name}"):
                found: list[Any] = World(self.world).prompts(
                    spec.split, spec.limit, seed=self.seed, mix=spec.mix, unseen_tasks=spec.unseen_tasks
                )
        else:
            found = read_source(spec, name=name, seed=self.seed, as_="prompts").records
        return [*{prompt.id: prompt for prompt in found if isinstance(prompt, Prompt)}.values()]

    def read(self, folder: Path) -> list[Prompt]:
        """Return the prompts."""
        return read_jsonl(folder / PROMPTS, Prompt)


@dataclass(frozen=True)
class Overlap(Stage[list[Any]]):
    """Prompts that training and evaluation, or selection and report, share: refused, or told where allowed."""

    data: tuple[Data, ...]
    prompts: tuple[Prompts, ...]
    allow: bool

    @property
    def name(self) -> str:
        """`overlap`."""
        return "overlap"

    def work(self, out: Path, tools: Tools) -> None:
        """Write the warnings."""
        training = {}
        for stage in self.data:
            found = tools.read(stage)
            training[stage.source.name] = [*found.train, *found.heldout]
        evaluation = {stage.source.name: tools.read(stage) for stage in self.prompts}
        tuning = {stage.source.name for stage in self.prompts if stage.spec.role == "tuning"}
        chosen_by = {name: prompts for name, prompts in evaluation.items() if name in tuning}
        others = {name: prompts for name, prompts in evaluation.items() if name not in tuning}
        warnings = check_shared(training, evaluation, allow=self.allow)
        warnings += check_apart(chosen_by, others, allow=self.allow)
        write_json(out / REPORT, {"warnings": warnings})

    def read(self, folder: Path) -> list[Any]:
        """Return the warnings."""
        found: list[Any] = report_of(folder)["warnings"]
        return found


def fewer_than_asked(where: str, n: int, limit: int | None) -> str:
    """Return that a source holds fewer records than its limit asks for; "" where it does not."""
    return f"{where}: {n:,}, fewer than its limit of {limit:,}" if limit is not None and n < limit else ""


def report_of(folder: Path) -> JsonObject:
    """Return a stage's report.json."""
    return read_json(folder / REPORT)
