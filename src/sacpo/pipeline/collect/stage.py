"""The stage that labels pairs and writes the data with its card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sacpo.audit import audit_preferences
from sacpo.data.answers import ANSWERS, BASELINE
from sacpo.data.records import Verdict, write_jsonl
from sacpo.errors import DataError
from sacpo.judging.verdicts import VERDICTS
from sacpo.pipeline.collect.card import card, figures
from sacpo.pipeline.collect.drawing import DRAWING, SOURCES, read_pairs
from sacpo.pipeline.collect.labels import Labeller, label
from sacpo.pipeline.collect.rows import TIE, rows_of
from sacpo.pipeline.judges import CriterionJudge
from sacpo.pipeline.outside import FromOutside
from sacpo.pipeline.stage import UNCOUNTED, Stage
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.collect import SAFE, LabelSpec
from sacpo.system.files import content_key, file_hash, read_json, replacing, write_atomic, write_json

DATA, PARQUET, CARD, FIGURES = "data.jsonl", "data.parquet", "README.md", "card.json"


@dataclass(frozen=True)
class FolderOfPairs(FromOutside):
    """Pairs that `DrawnPairs` wrote."""

    path: Path

    @cached_property
    def content(self) -> str:
        """The key of its files."""
        return content_key([file_hash(self.path / name) for name in (ANSWERS, BASELINE, SOURCES)])


@dataclass(frozen=True)
class Collected(Stage[Path]):
    """Labelled pairs in PKU-SafeRLHF's schema.

    Attributes:
        pairs: The pairs.
        labellers: Who labels them, by criterion.
        counted: What of `spec` the labels depend on beside them.
        seed: The root of what is drawn.
        spec: How labels are made.
    """

    pairs: FolderOfPairs
    labellers: Mapping[str, Labeller]
    counted: JsonMapping
    seed: int
    spec: LabelSpec = field(metadata=UNCOUNTED)

    @property
    def name(self) -> str:
        """`collect/data`."""
        return "collect/data"

    def work(self, out: Path, tools: Tools) -> None:
        """Label, and write the rows, the verdicts and the card."""
        pairs = read_pairs(self.pairs.path)
        labels = label(pairs, self.labellers, self.spec.score_scale, tools)
        rows, left = rows_of(pairs, labels, self.spec, self._categories(), self.seed)
        if not rows:
            raise no_labels(self.pairs.path, left, labels.verdicts)
        write_jsonl(out / DATA, rows)
        write_parquet(out / PARQUET, rows)
        write_jsonl(out / VERDICTS, dict.fromkeys(labels.verdicts))
        drawing = read_json(self.pairs.path / DRAWING)
        audit = audit_preferences([str(out / DATA)], format="pku-safe-rlhf")
        found = figures(drawing, left, rows, pairs, labels, self._panels(), tools.bench.store)
        write_json(out / FIGURES, {**found, "audit": audit})
        write_atomic(out / CARD, card(found, audit))

    def _categories(self) -> list[str]:
        judge = self.labellers.get(SAFE)
        return list(judge.rubric.categories) if isinstance(judge, CriterionJudge) and judge.rubric else []

    def _panels(self) -> dict[str, Any]:
        """Return every language model that judges, by its name in verdicts."""
        judges = [who.spec.judges for who in self.labellers.values() if isinstance(who, CriterionJudge)]
        return {spec.title: spec for panel in judges for spec in panel}

    def read(self, folder: Path) -> Path:
        """Return the file of rows."""
        return folder / DATA


def write_parquet(path: Path, rows: list[JsonObject]) -> None:
    """Write rows as a Parquet file."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    with replacing(path) as temporary:
        parquet.write_table(arrow.Table.from_pylist(rows), temporary)


def no_labels(pairs: Path, left: Mapping[str, int], verdicts: Sequence[Verdict]) -> DataError:
    """Return the error of data without a row, with what could not be read of the judges' replies."""
    unread = Counter(f"{one.criterion}: {one.reason}" for one in verdicts if one.reason)
    replies = f"; replies: {', '.join(f'{n} x {said}' for said, n in sorted(unread.items()))}" if unread else ""
    ties = any(why.startswith(TIE) for why in left)
    again = "see the replies in cache/verdicts.sqlite beside these pairs, mend the settings, then --ask-again"
    ways = {
        again: bool(unread),
        "label more of them": not unread and not all(why.startswith(TIE) for why in left),
        "sample other answers, or keep ties with 'ties: draw'": ties,
    }
    return DataError(
        "no pair has all its labels",
        where=pairs,
        value=", ".join(f"{why}: {n}" for why, n in left.items()) + replies,
        do="; ".join(way for way, helps in ways.items() if helps),
    )
