"""Stages that only single verbs have: merges and exports as folders, a step with its held-out accuracy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sacpo.align.heldout import preferences, score_heldout
from sacpo.errors import RecipeError
from sacpo.merge import copy_companions, merge_checkpoints, tabulate, write_one_adapter
from sacpo.merge.source import Checkpoint, Merge
from sacpo.merge.stacked import write_merged
from sacpo.models.adapters.factors import write_stack
from sacpo.models.adapters.stack import Stack
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.train import Align
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonObject
from sacpo.stats.intervals import win_rate
from sacpo.system import processes
from sacpo.system.files import write_json

HELDOUT = "heldout.json"


@dataclass(frozen=True)
class Merged(Stage[list[Path]]):
    """A merge at several weights, in one pass, each in a folder `q0.25`.

    Attributes:
        merge: The merge of two models at one of the weights.
        weights: All weights q of the later model.
        places: Where the models are: adapters name the way to their base.
        dtype: What weights are stored in; None: the later model's dtype.
    """

    merge: Merge
    weights: tuple[float, ...]
    places: tuple[str, ...]
    dtype: str | None = None

    @property
    def name(self) -> str:
        """`merge`."""
        return "merge"

    @property
    def names(self) -> list[str]:
        """The folders' names."""
        return [f"q{weight:g}" for weight in self.weights]

    def work(self, out: Path, tools: Tools) -> None:
        """Write adapters where the models are adapters on one base, else weights."""
        merges = [replace(self.merge, weights=(1.0 - weight, weight)) for weight in self.weights]
        stacks = [_adapters(merge) for merge in merges]
        if self.dtype is not None and any(stack is not None for stack in stacks):
            raise RecipeError(
                "models on one base merge into adapters, whose weights are not stored anew",
                where="dtype",
                value=self.dtype,
                do="leave it out, or write merged weights of both models first: sacpo export MODEL --out FOLDER",
            )
        for name, stack in zip(self.names, stacks, strict=True):
            if stack is not None:
                write_stack(stack, out / name, tools.home(self) / name)
                copy_companions(self.merge.later.folder, out / name)
        if None in stacks:
            terms, rows = tabulate([merge.combination() for merge in merges])
            outs = [out / name for name in self.names]
            merge_checkpoints(terms, rows, outs, dtype=self.dtype, progress=tools.progress)

    def read(self, folder: Path) -> list[Path]:
        """Return the merged models' folders."""
        return [folder / name for name in self.names]


@dataclass(frozen=True)
class AlignAlone(Align):
    """One alignment step, then how often its reward prefers the preferred completion of held-out pairs."""

    def work(self, out: Path, tools: Tools) -> None:
        """Train on the rest, then score the held-out pairs under the new model and its reference."""
        super().work(out, tools)
        if processes.is_first():
            write_json(out / HELDOUT, self._accuracy(out, tools))

    def _accuracy(self, out: Path, tools: Tools) -> JsonObject:
        pairs = [record for source in self.records for record in tools.read(source).heldout]
        scores: list[torch.Tensor] = []
        clusters: list[str] = []
        for model in (self.model, Checkpoint(out / "model")):
            job = replace(self.job(tools, self.step), model=tools.path(model))
            logps, clusters = score_heldout(job, tools.load(model, self.base), pairs, progress=tools.progress)
            scores.append(logps)
        correct = preferences(scores[1] - scores[0])["correct"]
        independent: JsonObject = {} if not self.training.get("load_best_model_at_end") else {"independent": False}
        accuracy = win_rate(correct, clusters).to_json() if correct else None
        return {"pairs": len(correct), "accuracy": accuracy, **independent}


def _adapters(merge: Merge) -> Stack | None:
    """Return a merge as adapters on the models' one base, or None where they have weights of their own."""
    stack = merge.stack()
    return stack if stack is not None and stack.members else None


@dataclass(frozen=True)
class Exported(Stage[Path]):
    """A model of a base and adapters as one standard folder: merged weights, or one adapter."""

    model: Checkpoint
    adapter: bool

    @property
    def name(self) -> str:
        """`export`."""
        return "export"

    def work(self, out: Path, tools: Tools) -> None:
        """Write it."""
        if self.adapter:
            write_one_adapter(self.model.place, out)
            return
        stack = self.model.stack()
        write_merged(stack, out, Path(self.model.place) if stack.members else None, progress=tools.progress)

    def read(self, folder: Path) -> Path:
        """Return the folder."""
        return folder
