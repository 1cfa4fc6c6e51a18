"""Choosing how a batch is laid out in rows: one completion a row, or packed with shared prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from transformers import PreTrainedModel

from sacpo.align.objective import Layout
from sacpo.data.packing import Tree, padded_rows
from sacpo.progress import Progress

Layouts = Literal["auto", "padded", "packed"]


@dataclass(frozen=True)
class Chosen:
    """A row layout and its name."""

    name: str
    rows: Layout


def choose_layout(
    wanted: Layouts, model: PreTrainedModel, trees: Sequence[Tree], pad_id: int, progress: Progress
) -> Chosen:
    """Return the wanted row layout."""
    return Chosen("padded", partial(padded_rows, pad_id=pad_id))
