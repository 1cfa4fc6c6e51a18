"""Choosing how a batch is laid out in rows."""

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
    """Return the row layout for a model and these trees; a layout other than the wanted one comes with a notice.

    One completion a row is right for every architecture, so "auto" is that for now and "packed" falls back to it.
    """
    if wanted == "packed":
        progress.notice("packed rows are not available: one completion a row is used")
    return Chosen("padded", partial(padded_rows, pad_id=pad_id))
