"""The head of a large vocabulary, met by a few rows on a CPU in float32: the largest part of a step of a small model.

A matrix product of a few rows with all of the head's weights copies these before it multiplies. Block by block the
copy stays in the cache. The most probable token needs no logit of most others: products of 8-bit integers bound them,

    |h.w - s t.q| <= |h| |w - s q| + |h - t| s |q|        (Cauchy-Schwarz; s q is w in 8 bits, t is h in twice 8)

and only tokens that may be the largest are computed in float32. The result is that of all logits.
"""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import PreTrainedModel

from sacpo.losses.head import Split, bent, is_linear, split_model

LARGE = 2**23
"""Weights from which a head is met in blocks: 32 MiB, more than a core's own caches hold."""
FEW = 64
"""Rows up to which that is faster; of one row nothing is copied."""
BLOCK = 1024
"""Tokens of a block in float32: with some hundred weights each, it stays in a core's cache."""
SCREENED = 2**13
"""Tokens of a block of bounds."""
UNSURE = 2**12
"""Tokens of one row that are computed one by one; if more may be the largest, all are."""
STEPS = 127
ROUNDING = 1e-5
"""What float32 may add to a bound, as a share of |h| |w|."""
FASTER = 2.0
"""How many times as fast as in float32 a product of 8-bit integers must be: without their arithmetic it is slower."""


@dataclass(frozen=True)
class LastStates:
    """What a step leaves of each row: the last hidden states, or the logits where the model computes them itself.

    Attributes:
        values: Shape: (batch, hidden), or (batch, vocabulary) without a head.
        head: What turns states into logits.
    """

    values: torch.Tensor
    head: WideHead | None = None

    def __getitem__(self, rows: torch.Tensor) -> LastStates:
        """Return the rows that are named."""
        return LastStates(self.values[rows], self.head)

    def logits(self) -> torch.Tensor:
        """Return the next token's logits. Shape: (batch, vocabulary)."""
        return self.values if self.head is None else self.head.logits(self.values)

    def likeliest(self) -> torch.Tensor:
        """Return the most probable token of each row. Shape: (batch,)."""
        return self.values.argmax(-1) if self.head is None else self.head.likeliest(self.values)


class WideHead:
    """The head of a model, on a CPU in float32.

    Args:
        split: The model in front of its head; the head is a linear map.
    """

    def __init__(self, split: Split) -> None:
        self.split = split
        self.weight: torch.Tensor = split.head.weight  # type: ignore[assignment]
        self.bias: torch.Tensor | None = split.head.bias  # type: ignore[assignment]
        self._screen: tuple[tuple[int, int], _Screen] | None = None

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return logits. Shape: (batch, hidden) to (batch, vocabulary)."""
        if not 1 < len(states) <= FEW:
            return self.split.logits(states)
        found = states.new_empty(len(states), len(self.weight))
        for start in range(0, len(self.weight), BLOCK):
            block = slice(start, start + BLOCK)
            bias = None if self.bias is None else self.bias[block]
            found[:, block] = torch.nn.functional.linear(states, self.weight[block], bias)
        return bent(found, self.split.scale, self.split.cap)

    def likeliest(self, states: torch.Tensor) -> torch.Tensor:
        """Return the most probable tokens: what the head gives is bent, but its order stays. Shape: (batch,)."""
        if len(states) > FEW or not self.split.scale > 0 or integers_speedup() < FASTER:
            return self.logits(states).argmax(-1)
        now = self.weight.data_ptr(), self.weight._version
        if self._screen is None or self._screen[0] != now:
            self._screen = now, _Screen(self.weight.detach(), self.bias)
        return self._screen[1].likeliest(states)


class _Screen:
    """A head's weights in 8 bits, with what that leaves out.

    Args:
        weight: Shape: (vocabulary, hidden).
        bias: Shape: (vocabulary,), or None.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight, self.bias = weight, bias
        self.codes = torch.empty(weight.shape, dtype=torch.int8)
        self.scales, self.lengths, self.rests = (weight.new_empty(len(weight)) for _ in range(3))
        for start in range(0, len(weight), BLOCK):
            block = slice(start, start + BLOCK)
            scale, codes = _in_steps(weight[block])
            coded = codes * scale[:, None]
            self.codes[block], self.scales[block] = codes.to(torch.int8), scale
            self.lengths[block] = torch.linalg.vector_norm(coded, dim=1)
            self.rests[block] = torch.linalg.vector_norm(weight[block] - coded, dim=1)

    def likeliest(self, states: torch.Tensor) -> torch.Tensor:
        """Return the token of the largest product of each row. Shape: (batch, hidden) to (batch,)."""
        coarse, first = _in_steps(states)
        left = states - first * coarse[:, None]
        fine, second = _in_steps(left)
        rest = torch.linalg.vector_norm(left - second * fine[:, None], dim=1)
        length = torch.linalg.vector_norm(states, dim=1)
        codes, sizes = torch.cat([first, second]).to(torch.int8), torch.stack([coarse, fine])
        least = states.new_full((len(states),), -torch.inf)
        most = states.new_empty(len(states), len(self.weight))
        for start in range(0, len(self.weight), SCREENED):
            block = slice(start, start + SCREENED)
            products = torch._int_mm(codes, self.codes[block].T).view(2, len(states), -1)
            about = (products[0] * sizes[0, :, None]).add_(products[1] * sizes[1, :, None]).mul_(self.scales[block])
            if self.bias is not None:
                about += self.bias[block]
            bound = torch.outer(length, self.rests[block] + ROUNDING * self.lengths[block])
            bound.addr_(rest, self.lengths[block])
            least = torch.maximum(least, (about - bound).amax(1))
            torch.add(about, bound, out=most[:, block])
        return torch.stack([self._exact(*row) for row in zip(states, most, least, strict=True)])

    def _exact(self, state: torch.Tensor, most: torch.Tensor, least: torch.Tensor) -> torch.Tensor:
        """Return the largest of the tokens whose upper bound is not below the largest lower one."""
        tokens = (most >= least).nonzero().squeeze(1)
        if not 0 < len(tokens) <= UNSURE:  # none: not a number
            tokens = torch.arange(len(most))
        logits = self.weight[tokens] @ state if len(tokens) < len(most) else self.weight @ state
        return tokens[(logits if self.bias is None else logits + self.bias[tokens]).argmax()]


def _in_steps(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each row's step and how many of them its numbers are, from -127 to 127, whole numbers as floats."""
    step = rows.abs().amax(1) / STEPS
    return step, (rows / step.clamp(min=torch.finfo(rows.dtype).tiny)[:, None]).round_()


_heads: weakref.WeakKeyDictionary[Any, WideHead | None] = weakref.WeakKeyDictionary()


def wide_head(model: Any) -> WideHead | None:
    """Return the head of a model whose head is large, in float32 and on a CPU; None of others."""
    if not isinstance(model, PreTrainedModel) or model._forward_hooks or model._forward_pre_hooks:
        return None
    head = model.get_output_embeddings()
    if head is None or not is_linear(head) or head.weight.numel() < LARGE:
        return None
    if head.weight.dtype != torch.float32 or head.weight.device.type != "cpu" or "forward" in vars(model):
        return None
    known = _heads.get(model)
    if model not in _heads or (known is not None and known.split.head is not head):
        split = split_model(model)
        _heads[model] = known = None if split is None else WideHead(split)
    return known


@cache
def integers_speedup() -> float:
    """Return how many times as fast as in float32 a few rows meet a matrix of 8-bit integers on this CPU.

    It is timed once, with one thread: several wait for each other on a busy machine, longer than a product takes.
    """
    rows, matrix = torch.ones(16, 256), torch.ones(BLOCK, 256)
    codes = [part.to(torch.int8) for part in (rows, matrix)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _seconds(lambda: rows @ matrix.T) / _seconds(lambda: torch._int_mm(codes[0], codes[1].T))
    except (RuntimeError, AttributeError):  # not on this CPU, or not in this torch
        return 0.0
    finally:
        torch.set_num_threads(threads)


def _seconds(product: Any) -> float:
    taken = []
    for _ in range(10):  # the first one is also the warm-up
        start = time.perf_counter()
        product()
        taken.append(time.perf_counter() - start)
    return min(taken)
