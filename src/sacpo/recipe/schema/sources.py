"""Where records and prompts come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from sacpo.recipe.formats import KIND_OF_FORMAT, FormatName, RecordKind
from sacpo.recipe.section import MOST, Fraction, Names, Section


class SourceSpec(Section):
    """Where records come from: a hub id, local files, or the world."""

    format: FormatName
    path: str | Names | None = Field(
        None, description="hub id, or local JSON, JSONL(.gz), CSV, Parquet, Arrow, or a folder of `save_to_disk`"
    )
    revision: str | None = Field(None, description="hub revision")
    split: str | None = Field(None, description="hub split; for the world: sft, pairs, tuning, report, ...")
    label: Literal["better", "safer"] | None = Field(None, description="PKU-SafeRLHF: which of its two labels")
    columns: dict[str, str] = Field({}, description="canonical column name: this file's column name")
    limit: int | None = Field(None, ge=1, le=MOST, description="keep this many records, drawn with the recipe's seed")
    kind: Literal["ordinary", "restricted", "borderline"] | None = Field(None, description="prompts: what they are")
    mix: dict[Literal["ordinary", "restricted", "borderline"], Fraction] | None = Field(
        None, description="world: share of each kind of task"
    )

    @model_validator(mode="after")
    def _origin(self) -> SourceSpec:
        if self.format == "world":
            if self.path is not None:
                raise ValueError("format 'world' takes no 'path'")
            if self.split is None or self.limit is None:
                raise ValueError("format 'world' needs 'split' and 'limit'")
        elif self.path is None or not all(path.strip() for path in self.paths):
            raise ValueError(f"format '{self.format}' needs a 'path'")
        if self.format == "world":
            self.unused(("revision", "label", "columns", "kind"), "the world's prompts say themselves what they are")
        else:
            self.unused(("mix",), "only the world can mix its tasks")
        if self.format == "xstest":
            self.unused(("kind",), "XSTest's rows say what they are")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The path or paths, as a tuple."""
        if self.path is None:
            return ()
        return (self.path,) if isinstance(self.path, str) else self.path


class DataSpec(SourceSpec):
    """A named source of training records."""

    as_: RecordKind | None = Field(
        None, alias="as", description="what the records are used as; the format's own kind by default"
    )
    soft_labels: Literal["keep", "harden"] = Field("keep", description="keep preference probabilities, or round them")
    ties: Literal["keep", "drop"] = Field("keep", description="pairs whose probability is exactly one half")
    holdout: Fraction = Field(
        0.0,
        description="share of the prompts whose pairs are held out for implicit-reward accuracy; of prompts it counts "
        "for the pairs that are sampled for them",
    )

    @model_validator(mode="after")
    def _used(self) -> DataSpec:
        if self.holds not in ("pairs", None):
            pairs = ("soft_labels", "ties", *(() if self.holds == "prompts" else ("holdout",)))
            self.unused(pairs, f"it is about pairs, and this source gives {self.holds}")
        return self

    @property
    def holds(self) -> RecordKind | None:
        """What its records are; None where only its rows tell."""
        return self.as_ or KIND_OF_FORMAT[self.format]


class PromptsSpec(SourceSpec):
    """A named set of evaluation prompts."""

    role: Literal["tuning", "report", "certification"]
    unseen_tasks: bool = Field(False, description="world: tasks that no training prompt asks for")

    @model_validator(mode="after")
    def _used(self) -> PromptsSpec:
        if self.format != "world":
            self.unused(("unseen_tasks",), "only the world knows its tasks")
        return self


Data = str | Path | DataSpec | Sequence[str | Path | DataSpec]
"""What a single verb reads: files, hub ids, or descriptions as in a recipe."""
