"""What a frozen reference knows of completions and prompts, as traits that a score is learned from.

Of a completion: its hidden states, summed over its tokens (last and middle layer), at its end, and summed over the
tokens that the reference did not expect; and its log-prob, length, the number of unexpected tokens and their log-probs.
The last ones are what a reward model misses: the reference knows which statements do not belong to the task, but a head
on hidden states does not see how probable a token was. Of a prompt: the roots of the probabilities of the first token.
Where it is asked for, they tell more finely how surprising the tokens are, by several bounds in the place of one.

Completions to one prompt are computed with the prompt once, where the layout of rows allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from sacpo.answer.batches import TOKENS_AT_ONCE, batched, rows_at_once
from sacpo.data.packing import LayRows, Rows, Tree, padded_rows
from sacpo.losses.states import completion_states
from sacpo.models.tokens import padding_token
from sacpo.system.progress import QUIET, Progress
from sacpo.theory.preference_process import Traits

UNEXPECTED = -3.0
"""A token whose log-prob is below it was not expected."""
FIRST_TOKENS, LOOKED_AT = 256, 512
"""Of so many first tokens, the likeliest over so many prompts, the probabilities are traits of a prompt."""
LOGP = -4
"""The trait of a completion that is its log-prob, nats."""
BOUNDS = (-1.0, -2.0, -5.0, -7.0)
"""Further bounds: tokens with a log-prob below are counted, and by how many nats they are below is summed."""
NUMBERS = 2 * len(BOUNDS) + 5
"""Traits that tell how surprising a completion's tokens are, and how many, where all are asked for: the last ones."""
Floats = NDArray[np.float64]


def completion_traits(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    trees: Sequence[Tree],
    first_tokens: Sequence[int],
    *,
    layout: LayRows | None = None,
    bounds: Sequence[float] = (),
    tokens: int = TOKENS_AT_ONCE,
    progress: Progress = QUIET,
) -> Traits:
    """Return the traits of completions and of their prompts.

    Args:
        model: The reference, a causal language model.
        tokenizer: Its tokenizer.
        trees: Prompts with one completion each.
        first_tokens: The tokens whose probabilities are a prompt's traits; see `likeliest_first_tokens`.
        layout: How trees are laid out, prompts once where it shares them; None: each completion in a padded row.
        bounds: Tell by these bounds, too, how surprising tokens are; see `BOUNDS`.
        tokens: Tokens of a forward pass with prompts of each completion, or one completion that has more.
        progress: Where to show it.

    Shape:
        (completions, 4 x hidden size + 4, or with bounds + 2 x bounds + 5) and (completions, tokens).
    """
    rows_of = layout or partial(padded_rows, pad_id=padding_token(tokenizer, model))
    batches = batched(trees, tokens, rows_at_once(model), together=layout is not None)
    found: list[tuple[Floats, Floats]] = []
    model.eval()
    with progress.task("traits", len(trees), "completions") as task, torch.no_grad():
        for places in batches:
            rows = rows_of([trees[place] for place in places]).to(model.device)
            found.append(_traits(model, rows, first_tokens, bounds))
            task.advance(len(places))
    back = np.argsort(np.concatenate(batches))
    answers, prompts = (np.concatenate(parts)[back] for parts in zip(*found, strict=True))
    return Traits(answers, prompts)


def _traits(model: Any, rows: Rows, first_tokens: Sequence[int], bounds: Sequence[float]) -> tuple[Floats, Floats]:
    """Return the traits of some completions."""
    states = completion_states(model, rows)
    odd = states.logps < UNEXPECTED

    def total(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(rows.n_completions, *values.shape[1:]).index_add_(0, rows.owner, values)

    logps = states.logps
    numbers = [logps, torch.ones_like(logps), odd.float(), logps.clamp(max=UNEXPECTED)]
    sums = [total(states.last), total(states.middle), states.ends, total(states.last * odd[:, None])]
    if bounds:
        finer = [values for bound in bounds for values in ((logps < bound).float(), (logps - bound).clamp(max=0))]
        least = logps.new_zeros(rows.n_completions).scatter_reduce_(0, rows.owner, logps, "amin")
        sums += [total(values)[:, None] for values in finer] + [least[:, None]]
    answers = torch.cat([*sums, torch.stack([total(values) for values in numbers], 1)], 1)
    roots = (states.first[:, [*first_tokens]] / 2).exp()
    return answers.double().cpu().numpy(), roots.double().cpu().numpy()


def likeliest_first_tokens(
    model: Any, tokenizer: PreTrainedTokenizerBase, trees: Sequence[Tree], *, tokens: int = TOKENS_AT_ONCE
) -> list[int]:
    """Return the tokens that completions of these prompts most probably begin with, by id.

    The first `LOOKED_AT` trees are looked at.
    """
    prompts = [Tree(tree.prompt, ((),)) for tree in trees[:LOOKED_AT]]
    pad_id = padding_token(tokenizer, model)
    model.eval()
    total = sum(
        completion_states(model, padded_rows([prompts[place] for place in places], pad_id=pad_id).to(model.device))
        .first.exp()
        .sum(0)
        for places in batched(prompts, tokens, rows_at_once(model), together=False)
    )
    assert isinstance(total, torch.Tensor)
    return sorted(total.topk(min(FIRST_TOKENS, len(total))).indices.tolist())
