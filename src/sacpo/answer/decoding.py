"""Decoding a batch of prompts with a key-value cache, each row with random numbers of its own.

A row's tokens depend on its own prompt and its own random numbers only; which rows share the batch changes them no
more than the rounding of matrix products does. Rows that have ended leave the batch where the cache allows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sacpo.answer.head import LastHead, LastStates, last_head
from sacpo.answer.past import ModelPast, Past
from sacpo.answer.plain import PlainPast, is_plain
from sacpo.losses.head import exact

SHRINK_AT = 0.75  # the batch is cut when at most this share of its rows is still being decoded
REFILL_AT = 0.5  # others join when at most this share of the places is taken: a join copies what all rows remember

COLDEST = 1e-38
"""Temperatures below it are 0 in float32: only the largest logits are left anyway."""
SUMMED = 1024
"""Tokens whose probabilities are added up before it is asked among which of them a random number lies."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen from the logits.

    Attributes:
        do_sample: Draw from the distribution; otherwise take the most probable token.
        temperature: Divides the logits.
        top_p: Keep the fewest most probable tokens whose probabilities add up to at least this.
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True)
class Row:
    """One prompt to continue.

    Attributes:
        prompt: Its token ids.
        limit: The most tokens to decode.
        uniforms: At least `limit` numbers in [0, 1), one for each token; unused without sampling.
    """

    prompt: Sequence[int]
    limit: int
    uniforms: np.ndarray[Any, np.dtype[np.float64]] | None = None


def decode(
    model: object,
    rows: Sequence[Row],
    sampling: Sampling,
    *,
    end_ids: frozenset[int],
    pad_id: int,
    at_once: int | None = None,
) -> list[list[int]]:
    """Continue every row up to an end token, which is kept, or to its limit; return the new tokens.

    Args:
        model: A causal language model with a cache.
        rows: What to continue.
        sampling: How tokens are chosen.
        end_ids: Tokens that end an answer.
        pad_id: Fills shorter prompts on the left; masked.
        at_once: The most rows in a batch, in which others take the places of those that have ended; None: all.
    """
    answers: list[list[int]] = [[] for _ in rows]
    for step in steps(model, rows, sampling, end_ids=end_ids, pad_id=pad_id, at_once=at_once):
        for row, token in step:
            answers[row].append(token)
    return answers


@torch.no_grad()
def steps(
    model: Any,
    rows: Sequence[Row],
    sampling: Sampling,
    *,
    end_ids: frozenset[int],
    pad_id: int,
    at_once: int | None = None,
) -> Iterator[list[tuple[int, int]]]:
    """Yield the next token of rows that have not ended, as (row, token), step by step; arguments as of `decode`."""
    width = at_once or len(rows)
    choice, head = _Choice(rows, sampling, end_ids, model.device), last_head(model)
    waiting, batch = [*range(len(rows))], None
    while waiting or batch is not None:
        if waiting and (batch is None or (batch.past.can_join and len(batch.living()) <= REFILL_AT * width)):
            room = width - (0 if batch is None else len(batch.living()))
            taken, waiting = waiting[:room], waiting[room:]
            fresh = _begun(model, head, rows, taken, pad_id, choice)
            yield fresh.said()
            batch = fresh if batch is None else batch.joined(fresh)
        else:
            assert batch is not None
            batch.step(choice)
            yield batch.said()
        batch = batch.cut()


class _Choice:
    """How tokens are chosen, and which rows end by them.

    Attributes:
        counts: How many tokens each row has.
    """

    def __init__(self, rows: Sequence[Row], sampling: Sampling, end_ids: frozenset[int], device: torch.device) -> None:
        self.sampling = sampling
        self.uniforms = _uniform_table(rows, sampling, device)
        self.ends = torch.tensor(sorted(end_ids), device=device)
        self.limits = torch.tensor([row.limit for row in rows], device=device)
        self.counts = torch.zeros(len(rows), dtype=torch.long, device=device)

    def choose(self, states: LastStates, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next token of these rows, and whether each goes on behind it; of ended rows neither counts."""
        at = self.counts[rows].clamp(max=self.limits[rows] - 1)
        if self.uniforms is None:
            chosen = states.likeliest()
        else:
            chosen = choose(states.logits(), self.sampling, self.uniforms[rows, at])
        self.counts[rows] = at + 1
        return chosen, ~torch.isin(chosen, self.ends) & (at + 1 < self.limits[rows])


@dataclass
class _Batch:
    """Rows that are decoded together.

    Attributes:
        past: The model and what it remembers of them.
        rows: Their numbers.
        mask: Which remembered tokens are no padding.
        positions: Of the tokens that are read next.
        tokens: These: each row's last one, (batch,).
        spoke: Whether it was chosen by the last step: it was not if the row had ended before.
        alive: Whether the row goes on behind it.
    """

    past: Past
    rows: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    tokens: torch.Tensor
    spoke: torch.Tensor
    alive: torch.Tensor

    def said(self) -> list[tuple[int, int]]:
        """Return what the last step chose, by row."""
        found = zip(self.rows.tolist(), self.spoke.tolist(), self.tokens.tolist(), strict=True)
        return [(row, token) for row, spoke, token in found if spoke]

    def living(self) -> torch.Tensor:
        """Return the places of the rows that go on."""
        return self.alive.nonzero().squeeze(-1)

    def step(self, choice: _Choice) -> None:
        """Read each row's last token and choose the next."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=-1)
        states = self.past.step(self.tokens[:, None], self.mask, self.positions)
        self.spoke = self.alive
        self.tokens, goes_on = choice.choose(states, self.rows)
        self.alive = self.alive & goes_on
        self.positions = self.positions + self.alive[:, None]  # ended rows stand still: at the context's end, perhaps

    def cut(self) -> _Batch | None:
        """Drop the rows that have ended if that is worth a copy of the others; None where none is left."""
        kept = self.living()
        if len(kept) == 0:
            return None
        if len(kept) <= SHRINK_AT * len(self.alive) and self.past.can_select:
            self.select(kept)
        return self

    def select(self, kept: torch.Tensor) -> None:
        """Keep these rows."""
        self.past.select(kept)
        for name in ("rows", "mask", "positions", "tokens", "spoke", "alive"):
            setattr(self, name, getattr(self, name)[kept])

    def joined(self, other: _Batch) -> _Batch:
        """Return this batch's and another's living rows as one: their pasts end at the same column."""
        sides = [side for side in (self, other) if len(side.living())]
        for side in sides:
            if len(side.living()) < len(side.alive):
                side.select(side.living())
        if len(sides) < 2:
            return sides[0] if sides else other
        width = int(max(side.positions.max() for side in sides))  # what the longest row has read
        self.past.join(other.past, width)
        masks = [_aligned(side.mask, width) for side in sides]
        names = ("rows", "positions", "tokens", "spoke", "alive")
        both = {name: torch.cat([getattr(side, name) for side in sides]) for name in names}
        return _Batch(past=self.past, mask=torch.cat(masks), **both)


def _begun(
    model: Any, head: LastHead | None, rows: Sequence[Row], numbers: list[int], pad_id: int, choice: _Choice
) -> _Batch:
    """Return a batch of rows with their first tokens; each distinct prompt is computed once, if the cache allows it."""
    device = model.device
    prompts, places = _once([rows[number].prompt for number in numbers])
    inputs, mask = _left_padded(prompts, pad_id, device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    past = _past(model, head, inputs.shape[1] + max(rows[number].limit for number in numbers))
    states = past.step(inputs, mask, positions)
    if len(prompts) < len(numbers):
        if past.can_select:
            index = torch.tensor(places, device=device)
            past.select(index)
            states, mask, positions = states[index], mask[index], positions[index]
        else:
            inputs, mask = _left_padded([rows[number].prompt for number in numbers], pad_id, device)
            positions, past = (mask.cumsum(-1) - 1).clamp(min=0), ModelPast(model, head)
            states = past.step(inputs, mask, positions)
    chosen = torch.tensor(numbers, device=device)
    tokens, alive = choice.choose(states, chosen)
    spoke = torch.ones_like(alive)
    return _Batch(past, chosen, mask, positions[:, -1:] + alive[:, None], tokens, spoke, alive)


def _past(model: object, head: LastHead | None, capacity: int) -> Past:
    return PlainPast(model, capacity, head) if is_plain(model) else ModelPast(model, head)


def _aligned(mask: torch.Tensor, width: int) -> torch.Tensor:
    """Return a mask of `width` columns that ends where it ended: padding is added or cut on its left."""
    return torch.nn.functional.pad(mask, (width - mask.shape[1], 0))


def _once(prompts: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], list[int]]:
    """Return each distinct prompt once, and which of them each row has."""
    known: dict[tuple[int, ...], int] = {}
    places = [known.setdefault(tuple(prompt), len(known)) for prompt in prompts]
    return [*known], places


def choose(logits: torch.Tensor, sampling: Sampling, uniforms: torch.Tensor) -> torch.Tensor:
    """Draw one token a row: the one at quantile `uniforms` of its distribution.

    Inverting the cumulative distribution takes one random number a token, whatever the vocabulary's size, and gives
    models that differ a little the same token most of the time. Sums of `SUMMED` tokens say in which of them it lies.

    Shape: logits (batch, vocabulary); uniforms and result (batch,).
    """
    if sampling.top_p < 1.0:
        weights = nucleus(torch.softmax(logits.double() / sampling.temperature, dim=-1), sampling.top_p)
    else:
        weights = exact(logits)
        weights = (weights - weights.amax(-1, keepdim=True)).div_(max(sampling.temperature, COLDEST)).exp_()
    size = weights.shape[1]
    if size <= SUMMED:
        weights = weights.double()
        return _reached(weights, uniforms * weights.sum(-1))[0]
    whole = size // SUMMED * SUMMED
    sums = [weights[:, :whole].unflatten(1, (-1, SUMMED)).sum(-1), weights[:, whole:].sum(-1, keepdim=True)]
    totals = torch.cat(sums, 1).double()
    block, rest = _reached(totals, uniforms * totals.sum(-1))
    tokens = block[:, None] * SUMMED + torch.arange(SUMMED, device=logits.device)
    inside = weights.gather(1, tokens.clamp(max=size - 1)).double().masked_fill(tokens >= size, 0.0)
    return block * SUMMED + _reached(inside, rest)[0]


def _reached(weights: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first place up to which weights add up to more than the target, and what the target has beyond before.

    A target that rounding puts behind all of them is at the last one that is not 0.

    Shape: weights (batch, places); the others (batch,).
    """
    cumulative = weights.cumsum(-1)
    found = torch.searchsorted(cumulative, target[:, None], right=True).squeeze(-1)
    found = torch.minimum(found, (cumulative < cumulative[:, -1:]).sum(-1))
    places = found[:, None]
    return found, target - (cumulative.gather(1, places) - weights.gather(1, places)).squeeze(-1)


def nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero all but the fewest most probable tokens whose probabilities add up to at least `top_p`.

    Shape: (batch, vocabulary), also the result, which is not normalised.
    """
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = torch.nn.functional.pad(ranked.cumsum(-1)[:, :-1], (1, 0))
    return torch.zeros_like(probabilities).scatter(-1, order, ranked.where(before < top_p, 0.0))


def _left_padded(
    prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(prompt) for prompt in prompts)
    inputs = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(inputs, device=device), torch.tensor(mask, device=device)


def _uniform_table(rows: Sequence[Row], sampling: Sampling, device: torch.device) -> torch.Tensor | None:
    if not sampling.do_sample:
        return None
    table = np.zeros((len(rows), max(row.limit for row in rows)))
    for line, row in zip(table, rows, strict=True):
        assert row.uniforms is not None
        line[: row.limit] = row.uniforms[: row.limit]
    return torch.from_numpy(table).to(device)
