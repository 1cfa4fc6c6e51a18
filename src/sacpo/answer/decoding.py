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

from sacpo.answer.past import ModelPast, Past
from sacpo.answer.plain import PlainPast, is_plain

SHRINK_AT = 0.75  # the batch is cut when at most this share of its rows is still being decoded


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
    model: object, rows: Sequence[Row], sampling: Sampling, *, end_ids: frozenset[int], pad_id: int
) -> list[list[int]]:
    """Continue every row up to an end token, which is kept, or to its limit; return the new tokens.

    Args:
        model: A causal language model with a cache.
        rows: The batch.
        sampling: How tokens are chosen.
        end_ids: Tokens that end an answer.
        pad_id: Fills shorter prompts on the left; masked.
    """
    answers: list[list[int]] = [[] for _ in rows]
    for step in steps(model, rows, sampling, end_ids=end_ids, pad_id=pad_id):
        for row, token in step:
            answers[row].append(token)
    return answers


@torch.no_grad()
def steps(
    model: Any, rows: Sequence[Row], sampling: Sampling, *, end_ids: frozenset[int], pad_id: int
) -> Iterator[list[tuple[int, int]]]:
    """Yield the next token of every row that has not ended, as (row, token), step by step; arguments as of `decode`."""
    prompts, places = _once([row.prompt for row in rows])
    inputs, mask = _left_padded(prompts, pad_id, model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    uniforms = _uniform_table(rows, sampling, model.device)
    ends = torch.tensor(sorted(end_ids), device=model.device)
    limits = torch.tensor([row.limit for row in rows], device=model.device)
    active = torch.arange(len(rows), device=model.device)
    alive = torch.ones(len(rows), dtype=torch.bool, device=model.device)
    past, step = _past(model, inputs.shape[1] + max(row.limit for row in rows)), 0
    while True:
        logits = past.step(inputs, mask, positions)
        if step == 0 and len(logits) < len(rows):  # each prompt was computed once for all rows that have it
            if not past.can_select:
                inputs, mask = _left_padded([row.prompt for row in rows], pad_id, model.device)
                positions, past = (mask.cumsum(-1) - 1).clamp(min=0), ModelPast(model)
                continue
            index = torch.tensor(places, device=model.device)
            past.select(index)
            logits, mask, positions = logits[index], mask[index], positions[index]
        numbers = uniforms[active, step] if uniforms is not None else None
        chosen = choose(logits, sampling, numbers)
        yield _living(active, alive, chosen)
        step += 1
        alive = alive & ~torch.isin(chosen, ends) & (limits[active] > step)
        n_alive = int(alive.sum())
        if n_alive == 0:
            return
        if n_alive <= SHRINK_AT * len(alive) and past.can_select:
            kept = alive.nonzero().squeeze(-1)
            past.select(kept)
            active, chosen, mask, positions, alive = (t[kept] for t in (active, chosen, mask, positions, alive))
        inputs = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=-1)
        positions = positions[:, -1:] + alive[:, None]  # ended rows stand still: they may be at the context's end


def _past(model: object, capacity: int) -> Past:
    return PlainPast(model, capacity) if is_plain(model) else ModelPast(model)


def _once(prompts: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], list[int]]:
    """Return each distinct prompt once, and which of them each row has."""
    known: dict[tuple[int, ...], int] = {}
    places = [known.setdefault(tuple(prompt), len(known)) for prompt in prompts]
    return [*known], places


def choose(logits: torch.Tensor, sampling: Sampling, uniforms: torch.Tensor | None) -> torch.Tensor:
    """Choose one token a row: the most probable one, or the one at quantile `uniforms` of its distribution.

    Inverting the cumulative distribution takes one random number a token, whatever the vocabulary's size, and gives
    models that differ a little the same token most of the time.

    Shape: logits (batch, vocabulary); uniforms (batch,), needed to sample; result (batch,).
    """
    if not sampling.do_sample or uniforms is None:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.double() / sampling.temperature, dim=-1)
    if sampling.top_p < 1.0:
        probabilities = nucleus(probabilities, sampling.top_p)
    cumulative = probabilities.cumsum(-1)
    found = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True).squeeze(-1)
    return found.clamp(max=logits.shape[-1] - 1)


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


def _living(active: torch.Tensor, alive: torch.Tensor, chosen: torch.Tensor) -> list[tuple[int, int]]:
    found = zip(active.tolist(), alive.tolist(), chosen.tolist(), strict=True)
    return [(row, token) for row, going, token in found if going]
