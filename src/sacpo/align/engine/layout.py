"""Choosing how a batch is laid out in rows, and the attention that computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from transformers import PreTrainedModel

from sacpo.data.packing import LayRows, Tree, flat_rows, packed_rows, padded_rows
from sacpo.errors import DataError, ModelError
from sacpo.losses.agreement import Agreement, check_layout
from sacpo.losses.head import split_model
from sacpo.losses.logps import completion_logps
from sacpo.losses.sharing import takes_flat
from sacpo.models.loading import context_length
from sacpo.models.tokens import require_embedded
from sacpo.system import processes
from sacpo.system.progress import Progress

LayoutName = Literal["auto", "padded", "packed"]
FLEX = "flex_attention"
FLEX_FROM = 2048
"""FlexAttention is tried where a tree has more tokens. Its compiler takes more than a minute before the first step on
an H100, and dense attention over shorter rows costs a tenth of a step there."""


@dataclass(frozen=True)
class RowLayout:
    """A row layout and its name.

    Attributes:
        name: "padded": one completion a row. "packed": each prompt once, several trees a row. "flat": packed in one
            row, with attention that goes tree by tree.
        rows: The layout.
    """

    name: Literal["padded", "packed", "flat"]
    rows: LayRows

    @property
    def rank(self) -> int:
        """How much it asks of a model: one that takes a layout takes those of lower rank."""
        return ("padded", "packed", "flat").index(self.name)


def choose_layout(
    wanted: LayoutName,
    model: PreTrainedModel,
    trees: Sequence[Tree],
    pad_id: int,
    progress: Progress,
    *,
    attention: str | None = None,
    compiled: bool = False,
    precision: torch.dtype | None = None,
    alone: bool = False,
) -> RowLayout:
    """Return the row layout for a model and these trees.

    Packed rows compute each prompt once and hold no padding but at their ends. They are taken where a few of these
    very trees give the same log-probs as one completion a row. On a CPU all trees then stand in one flat row, if that
    agrees too. On CUDA a model whose attention nobody chose computes rows of long trees with FlexAttention, likewise.

    Args:
        wanted: "packed" stops where packed rows do not agree, "auto" falls back to padded ones with a notice.
        model: The model, whose attention implementation may be changed.
        trees: What it will be trained on.
        pad_id: The padding token.
        progress: Where notices go.
        attention: The attention implementation that the user asked for; None: none.
        compiled: Whether the model is compiled; compilers do not know flat rows' masks.
        precision: The type that forward passes are autocast to; None: the weights' own.
        alone: Agree with no other process on it, since those of a launch wait at a barrier meanwhile.

    Raises:
        DataError: A tree is longer than the model's context.
        ModelError: "packed" is wanted and the model cannot share prompts in a row.
    """
    require_context(model, trees)
    padded = RowLayout("padded", partial(padded_rows, pad_id=pad_id))
    if wanted == "padded" or not trees:
        return padded
    flat = partial(flat_rows, pad_id=pad_id)
    agreed = _as_it_is if alone else _everywhere
    if takes_flat(model) and not compiled and agreed(check_layout(model, trees, pad_id=pad_id, shared=flat)).ok:
        return RowLayout("flat", flat)
    long = max(map(len, trees)) > FLEX_FROM
    flexible = long and attention is None and takes_flex(model)
    agreement = _with_flex(model, trees, pad_id, precision, agreed) if flexible else None
    if agreement is None or not agreement.ok:
        agreement = agreed(check_layout(model, trees, pad_id=pad_id))
    if agreement.ok:
        return RowLayout("packed", partial(packed_rows, pad_id=pad_id))
    if wanted == "packed":
        raise ModelError(
            f"prompts cannot be shared in a row: {agreement.reason}",
            where="layout",
            value=wanted,
            allowed=["auto", "padded"],
            do="set layout: auto, which takes one completion a row for this model",
        )
    progress.notice(f"one completion a row is used, not packed rows: {agreement.reason}")
    return padded


def require_context(model: PreTrainedModel, trees: Sequence[Tree]) -> None:
    """Refuse trees that are longer than the context that the model has positions for, or hold tokens unknown to it.

    Raises:
        DataError: One is longer.
        ModelError: One holds a token that the model has no embedding of.
    """
    largest = max((max(ids, default=0) for tree in trees for ids in (tree.prompt, *tree.completions)), default=0)
    require_embedded(largest, model)
    room = context_length(model)
    longest = max((len(tree.prompt) + max(map(len, tree.completions)) for tree in trees), default=0)
    if room is not None and 0 < room < longest:
        raise DataError(
            "records are longer than the model's context",
            value=f"{longest} tokens",
            allowed=f"at most {room} tokens",
            do=f"set max_length to {room} or less",
        )


def takes_flex(model: PreTrainedModel) -> bool:
    """Return whether a model on CUDA can use FlexAttention, which has no dropout."""
    config = model.config.get_text_config()
    dropout = any(getattr(config, name, 0.0) for name in ("attention_dropout", "attn_pdrop", "attn_dropout"))
    flexible = bool(getattr(model, "_supports_flex_attn", False))
    return model.device.type == "cuda" and flexible and not dropout and config._attn_implementation == "sdpa"


def _with_flex(
    model: PreTrainedModel,
    trees: Sequence[Tree],
    pad_id: int,
    precision: torch.dtype | None,
    agreed: Callable[[Agreement], Agreement],
) -> Agreement | None:
    """Switch to FlexAttention and return its agreement; switch back where it does not agree, or fails in any way.

    It is compiled, which needs a C compiler and Triton, and some versions of torch refuse it under autocast, where
    queries and keys keep the type of weights in float32 and values do not.
    """
    before = model.config._attn_implementation
    split_model(model)  # its look at four tokens would be compiled, too
    try:
        model.set_attn_implementation(FLEX)
    except (ValueError, ImportError):
        return None
    try:
        agreement = check_layout(model, trees, pad_id=pad_id)
        if precision is not None and agreement.ok:
            with torch.no_grad(), torch.autocast(model.device.type, dtype=precision):
                completion_logps(model, packed_rows(trees[:1], pad_id=pad_id).to(model.device))
    except torch.OutOfMemoryError:
        agreement = Agreement(float("inf"), False, "out of memory")
    except Exception as error:  # noqa: BLE001 - a compiler may fail with anything, and SDPA needs none
        agreement = Agreement(float("inf"), False, f"FlexAttention fails: {type(error).__name__}")
    agreement = agreed(agreement)
    if not agreement.ok:
        model.set_attn_implementation(before)
    return agreement


def _as_it_is(agreement: Agreement) -> Agreement:
    return agreement


def _everywhere(agreement: Agreement) -> Agreement:
    """Return an agreement that holds in all processes, so that all take the same layout."""
    failures = processes.added(torch.tensor([float(not agreement.ok)])).item()
    if agreement.ok and failures:
        return Agreement(float("inf"), False, "log-probs differ in another process")
    return agreement
