"""Whether a model computes the same log-probs from rows with shared prompts as from plain rows."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from sacpo.data.packing import continuing_row, flat_rows, packed_rows, padded_rows
from sacpo.data.rows import Rows, Tree
from sacpo.losses.head import exact
from sacpo.losses.logps import completion_token_logps, unwrapped
from sacpo.losses.past import ContinuedRow, KeptRow
from sacpo.losses.sharing import obstacle, supports_shared_prefix

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
ROUGH_TOLERANCE = 0.1
"""Nats a token, for types of 16 bits, whose own rounding is a few hundredths in small models."""
TF32 = 2.0**-10
"""The rounding of float32 products where TF32 is allowed."""
ROUNDINGS = 3.0
"""Larger differences are those of rounding up to so many times what one rounding of the embeddings makes."""


@dataclass(frozen=True)
class Agreement:
    """How far packed and plain rows agree on real examples.

    Attributes:
        max_abs_difference: The largest difference of a token's log-prob, in nats; infinite where packing is impossible.
        ok: Whether packed rows may be used.
        reason: Why not; "" if they may.
    """

    max_abs_difference: float
    ok: bool
    reason: str


def check_layout(
    model: nn.Module,
    trees: Sequence[Tree],
    *,
    pad_id: int,
    tolerance: float | None = None,
    width: int | None = None,
    shared: Callable[[Sequence[Tree]], Rows] | None = None,
    examples: int = 3,
) -> Agreement:
    """Compare the log-probs of a few real examples laid out packed and plain, in evaluation mode without autocast.

    The examples are the longest tree, where windows and tables of positions end, and the first ones. Plain rows are
    padded for one tree at a time, so that short ones stay cheap.

    Args:
        model: A causal language model, or a peft model around one.
        trees: The examples to choose from.
        pad_id: The padding token.
        tolerance: Largest difference of a token's log-prob, in nats; None: by the model's type, see `TOLERANCE`, or
            what its rounding makes, see `ROUNDINGS`.
        width: As in `packed_rows`.
        shared: The layout that is compared with plain rows; None: `packed_rows`.
        examples: How many first ones are compared.
    """
    policy = unwrapped(model)
    reason = supports_shared_prefix(policy.config) or obstacle(policy.config, type(policy.base_model))
    if reason:
        return Agreement(float("inf"), False, reason)
    longest = max(range(len(trees)), key=lambda i: (len(trees[i]), -i))
    chosen = [trees[i] for i in dict.fromkeys([longest, *range(min(examples, len(trees)))])]
    laid = packed_rows(chosen, pad_id=pad_id, width=width) if shared is None else shared(chosen)
    with _frozen(model, policy.device):
        rows = [padded_rows([tree], pad_id=pad_id).to(policy.device) for tree in chosen]
        plain = torch.cat([completion_token_logps(model, row) for row in rows])
        try:
            packed = completion_token_logps(model, laid.to(policy.device))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a model may refuse with anything
            return Agreement(float("inf"), False, f"the model refuses its masks: {_first_line(error)}")
        difference = torch.cat([(plain - packed).abs(), plain.new_zeros(1)]).max().item()  # there may be no token
        allowed = TOLERANCE.get(policy.dtype, ROUGH_TOLERANCE) if tolerance is None else tolerance
        # NaN is not at most anything
        if difference <= allowed or (tolerance is None and _is_rounding(policy, model, rows, plain, packed)):
            return Agreement(difference, True, "")
    return Agreement(difference, False, f"log-probs differ by {difference:.3g} nats a token, {allowed:.3g} are allowed")


def check_continuation(
    model: nn.Module, trees: Sequence[Tree], others: Sequence[Tree], *, pad_id: int, examples: int = 4
) -> bool:
    """Return whether other completions behind a flat row's kept keys and values have the log-probs of plain rows.

    Args:
        model: A causal language model, or a peft model around one, that takes flat rows.
        trees: The examples to choose from, one completion each: the longest prompt's and the first ones are taken.
        others: For each of them its prompt with another completion.
        pad_id: The padding token.
        examples: How many are compared.
    """
    policy = unwrapped(model)
    longest = max(range(len(trees)), key=lambda i: (len(trees[i].prompt), -i))
    chosen = [*dict.fromkeys([longest, *range(len(trees))])][:examples]
    trees, others = [trees[i] for i in chosen], [others[i] for i in chosen]
    with _frozen(model, policy.device):
        rows = [padded_rows([tree], pad_id=pad_id) for tree in others]
        plain = torch.cat([completion_token_logps(model, part) for part in rows])
        row = KeptRow()
        try:
            completion_token_logps(model, flat_rows(trees, pad_id=pad_id), past=row)
            continuing = continuing_row(trees, others, pad_id=pad_id)
            found = completion_token_logps(model, continuing, past=ContinuedRow(row))
        except torch.OutOfMemoryError:
            raise
        except Exception:  # noqa: BLE001 - a model may refuse with anything
            return False
        near = bool((plain - found).abs().max() <= TOLERANCE.get(policy.dtype, ROUGH_TOLERANCE))
        return near or _is_rounding(policy, model, rows, plain, found)


def _is_rounding(
    policy: PreTrainedModel, model: nn.Module, rows: Sequence[Rows], plain: torch.Tensor, found: torch.Tensor
) -> bool:
    """Return whether log-probs are apart no more than the model's own rounding can make them.

    A large model in 16 bits gives one token log-probs that differ by tenths of a nat from kernel to kernel. How much
    is measured: the plain rows again, their embeddings moved at random by one rounding of the type. What a wrong mask
    makes is tens of times as large.
    """
    with moved_embeddings(policy, policy.dtype):
        noise = torch.cat([completion_token_logps(model, part) for part in rows]) - plain
    gap = found - plain
    worst, mean = gap.abs().max() <= ROUNDINGS * noise.abs().max(), gap.norm() <= ROUNDINGS * noise.norm()
    return bool(worst and mean)


@contextlib.contextmanager
def moved_embeddings(policy: PreTrainedModel, precision: torch.dtype) -> Iterator[None]:
    """Move the embeddings at random by one rounding of the type that is computed in: what changes is rounding's."""
    unit = torch.finfo(precision).eps
    if precision == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        unit = TF32
    generator = torch.Generator().manual_seed(0)

    def moved(module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        wide = exact(output)
        noise = 2 * torch.rand(output.shape, generator=generator) - 1
        return (wide + unit * wide * noise.to(wide)).to(output.dtype)

    handle = policy.get_input_embeddings().register_forward_hook(moved)
    try:
        yield
    finally:
        handle.remove()


def _first_line(error: Exception) -> str:
    """Return what an error says in a line; a compiler's goes on for pages."""
    return textwrap.shorten(next(iter(str(error).splitlines()), type(error).__name__), 200)


@contextlib.contextmanager
def _frozen(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Run in evaluation mode, without gradient and autocast, and give every module its mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
