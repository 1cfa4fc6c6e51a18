"""Choosing how a batch is laid out in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from transformers import PreTrainedModel

from sacpo.align.objective import Layout
from sacpo.data.packing import Tree, packed_rows, padded_rows
from sacpo.errors import DataError
from sacpo.losses.agreement import check_layout
from sacpo.models import context_length
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
    """Return the row layout for a model and these trees.

    Packed rows compute each prompt once and hold no padding but at their ends. "auto" and "packed" take them where a
    few of these very trees give the same log-probs as one completion a row; where they do not, the fallback to padded
    rows comes with a notice.

    Raises:
        DataError: A tree is longer than the model's context.
    """
    require_context(model, trees)
    padded = Chosen("padded", partial(padded_rows, pad_id=pad_id))
    if wanted == "padded" or not trees:
        return padded
    agreement = check_layout(model, trees, pad_id=pad_id)
    if agreement.ok:
        return Chosen("packed", partial(packed_rows, pad_id=pad_id))
    progress.notice(f"one completion a row is used, not packed rows: {agreement.reason}")
    return padded


def require_context(model: PreTrainedModel, trees: Sequence[Tree]) -> None:
    """Refuse trees that are longer than the context that the model has positions for.

    Raises:
        DataError: One is.
    """
    room = context_length(model)
    longest = max((len(tree.prompt) + max(map(len, tree.completions)) for tree in trees), default=0)
    if room is not None and 0 < room < longest:
        raise DataError(
            "records are longer than the model's context",
            value=f"{longest} tokens",
            allowed=f"at most {room} tokens",
            do=f"set max_length to {room} or less",
        )
