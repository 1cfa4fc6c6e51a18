"""The head on a CPU, met here by each row's last state: of a large vocabulary the largest part of a small model's step.

To a head that meets the last column of all states (`logits_to_keep`) torch gives a copy of its weights for each row.
Each row's state by itself has one product with them.

Even that copies the weights before it multiplies. In float32 and block by block the copy stays in the cache. The most
probable token needs no logit of most others: products of 8-bit integers bound them,

    |h.w - s t.q| <= |h| |w - s q| + |h - t| s |q|        (Cauchy-Schwarz; s q is w in 8 bits, t is h in twice 8)

and only tokens that may be the largest are computed. What comes out is the largest of all logits, up to what float32
rounds; of equal ones the first.
"""

from __future__ import annotations

import inspect
import weakref
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from sacpo.losses.head import Split, bent, called_as_it_is, is_linear, split_model

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
ORDINARY = 1e-15, 1e15
"""Between these the largest number of a state lies: float32 neither loses its square nor overflows."""


@dataclass(frozen=True)
class LastStates:
    """What a step leaves of each row: the last hidden states, or the logits where the model computes them itself.

    Attributes:
        values: Shape: (batch, hidden), or (batch, vocabulary) without a head.
        head: What turns states into logits.
    """

    values: torch.Tensor
    head: LastHead | None = None

    def __getitem__(self, rows: torch.Tensor) -> LastStates:
        """Return the rows that are named."""
        return LastStates(self.values[rows], self.head)

    def logits(self) -> torch.Tensor:
        """Return the next token's logits. Shape: (batch, vocabulary)."""
        return self.values if self.head is None else self.head.logits(self.values)

    def likeliest(self) -> torch.Tensor:
        """Return the most probable token of each row. Shape: (batch,)."""
        return first_largest(self.values) if self.head is None else self.head.likeliest(self.values)


def first_largest(logits: torch.Tensor) -> torch.Tensor:
    """Return the largest one of each row; of equal ones the first. Shape: (batch, vocabulary) to (batch,).

    Torch looks at one after the other for that, at many at once for the largest value: so first at each block's.
    """
    size = logits.shape[1]
    whole = size // BLOCK * BLOCK
    if size <= BLOCK:
        return logits.argmax(-1)
    blocks = [
        part.amax(-1) for part in (logits[:, :whole].unflatten(1, (-1, BLOCK)), logits[:, None, whole:]) if part.numel()
    ]
    start = torch.cat(blocks, 1).argmax(-1, keepdim=True) * BLOCK
    tokens = (start + torch.arange(BLOCK, device=logits.device)).clamp(max=size - 1)
    return tokens.gather(1, logits.gather(1, tokens).argmax(-1, keepdim=True)).squeeze(1)


class LastHead:
    """The head of a model, on a CPU.

    Args:
        split: The model in front of its head; the head is a linear map.
    """

    def __init__(self, split: Split) -> None:
        self.split = split
        self._screen: _Screen | None = None

    @property
    def wide(self) -> bool:
        """Whether blocks and bounds are worth it."""
        return self.weight.dtype == torch.float32 and self.weight.numel() >= LARGE

    @property
    def weight(self) -> torch.Tensor:
        """The weights as they are now. Shape: (vocabulary, hidden)."""
        found: torch.Tensor = self.split.head.weight.detach()  # type: ignore[operator]
        return found

    @property
    def bias(self) -> torch.Tensor | None:
        """What is added to the logits. Shape: (vocabulary,)."""
        found: torch.Tensor | None = self.split.head.bias  # type: ignore[assignment]
        return found

    def renew(self) -> None:
        """Forget what was made of the weights if they have changed since: to be called before a decoding."""
        if self._screen is not None and not self._screen.is_of(self.weight):
            self._screen = None

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return logits. Shape: (batch, hidden) to (batch, vocabulary)."""
        if not self.wide or not 1 < len(states) <= FEW:
            return self.split.logits(states)
        weight, bias = self.weight, self.bias
        found = states.new_empty(len(states), len(weight))
        for start in range(0, len(weight), BLOCK):
            block = slice(start, start + BLOCK)
            shift = None if bias is None else bias[block]
            found[:, block] = torch.nn.functional.linear(states, weight[block], shift)
        return bent(found, self.split.scale, self.split.cap)

    def likeliest(self, states: torch.Tensor) -> torch.Tensor:
        """Return the most probable tokens. Shape: (batch, hidden) to (batch,).

        All logits are looked at where products of integers are not exact, and where bent logits may be equal.
        """
        largest = states.abs().amax(1)
        ordinary = bool(((largest > ORDINARY[0]) & (largest < ORDINARY[1])).all())
        bends = self.split.cap is not None or not self.split.scale > 0
        if not self.wide or len(states) > FEW or bends or not ordinary or not exact_integers():
            return first_largest(self.logits(states))
        if self._screen is None:
            self._screen = _Screen(self.weight)
        return self._screen.likeliest(states, self.weight, self.bias)


class _Screen:
    """A head's weights in 8 bits, with what that leaves out.

    Args:
        weight: Shape: (vocabulary, hidden).
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self.codes = torch.empty(weight.shape, dtype=torch.int8)
        self.scales, self.lengths, self.rests = (weight.new_empty(len(weight)) for _ in range(3))
        self.sums = _sums(weight)
        for start in range(0, len(weight), BLOCK):
            block = slice(start, start + BLOCK)
            scale, codes = _in_steps(weight[block])
            coded = codes * scale[:, None]
            self.codes[block], self.scales[block] = codes.to(torch.int8), scale
            self.lengths[block] = torch.linalg.vector_norm(coded.double(), dim=1)
            self.rests[block] = torch.linalg.vector_norm((weight[block] - coded).double(), dim=1)

    def is_of(self, weight: torch.Tensor) -> bool:
        """Tell whether it was made of these weights, whoever may have written into them."""
        return weight.shape == self.codes.shape and torch.equal(self.sums, _sums(weight))

    def likeliest(self, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return the token of the largest product of each row. Shape: (batch, hidden) to (batch,)."""
        coarse, first = _in_steps(states)
        left = states - first * coarse[:, None]
        fine, second = _in_steps(left)
        rest = torch.linalg.vector_norm(left - second * fine[:, None], dim=1)
        length = torch.linalg.vector_norm(states, dim=1)
        codes, sizes = torch.cat([first, second]).to(torch.int8), torch.stack([coarse, fine])
        least = states.new_full((len(states),), -torch.inf)
        most = states.new_empty(len(states), len(self.codes))
        for start in range(0, len(self.codes), SCREENED):
            block = slice(start, start + SCREENED)
            products = torch._int_mm(codes, self.codes[block].T).view(2, len(states), -1)
            about = (products[0] * sizes[0, :, None]).add_(products[1] * sizes[1, :, None]).mul_(self.scales[block])
            bound = torch.outer(length, self.rests[block] + ROUNDING * self.lengths[block])
            bound.addr_(rest, self.lengths[block])
            if bias is not None:
                about += bias[block]
                bound += ROUNDING * bias[block].abs()
            least = torch.maximum(least, (about - bound).amax(1))
            torch.add(about, bound, out=most[:, block])
        found = [_largest(*row, weight, bias) for row in zip(states, most, least, strict=True)]
        return torch.stack(found)


def _largest(
    state: torch.Tensor, most: torch.Tensor, least: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Return the largest of the tokens whose upper bound is not below the largest lower one; the first of equal ones.

    Each product is a sum of its own, in float64: those of equal weights are equal.
    """
    tokens = (most >= least).nonzero().squeeze(1)
    if not 0 < len(tokens) <= UNSURE:  # none: weights that are no numbers
        logits = weight @ state
        return (logits if bias is None else logits + bias).argmax()
    logits = (weight[tokens].double() * state.double()).sum(1)
    return tokens[(logits if bias is None else logits + bias[tokens].double()).argmax()]


def _in_steps(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each row's step and how many of them its numbers are, from -127 to 127, whole numbers as floats."""
    step = rows.abs().amax(1) / STEPS
    return step, (rows / step.clamp(min=torch.finfo(rows.dtype).tiny)[:, None]).round_()


def _sums(weight: torch.Tensor) -> torch.Tensor:
    """Return a sum of each row, which differs for other rows: each number counts with another weight."""
    lots = torch.rand(weight.shape[1], generator=torch.Generator().manual_seed(0)) + 0.5
    return weight @ lots


_heads: weakref.WeakKeyDictionary[Any, LastHead | None] = weakref.WeakKeyDictionary()


def last_head(model: Any) -> LastHead | None:
    """Return the head of a model on a CPU; None of others.

    Others are those without a linear map for a head or without keys and values, and those whose calls are watched or
    in the place of their class's.
    """
    if not called_as_it_is(model) or "past_key_values" not in inspect.signature(model.forward).parameters:
        return None
    head = model.get_output_embeddings()
    if head is None or not is_linear(head) or head.weight.device.type != "cpu":
        return None
    split = split_model(model)
    if split is None:
        return None
    known = _heads.get(model)
    if known is None or known.split is not split:
        _heads[model] = known = LastHead(split)
    known.renew()
    return known


@cache
def exact_integers() -> bool:
    """Tell whether this CPU multiplies 8-bit integers exactly, and has arithmetic for it.

    Without it products are as slow as in float32, and with some instructions sums of two products do not fit. No clock
    is asked: it would decide between ways that round differently.
    """
    try:
        if not torch.cpu._is_vnni_supported():
            return False
        draw = torch.Generator().manual_seed(0)
        rows, matrix = (torch.randint(-STEPS, STEPS + 1, (n, 256), generator=draw) for n in (16, BLOCK))
        rows[:8] = rows[:8].sign() * STEPS
        matrix[::2] = matrix[::2].sign() * STEPS
        rows[0], matrix[0] = STEPS, -STEPS
        found = torch._int_mm(rows.to(torch.int8), matrix.to(torch.int8).T)
    except (RuntimeError, AttributeError):  # not on this CPU, or not in this torch
        return False
    return torch.equal(found.long(), rows @ matrix.T)
