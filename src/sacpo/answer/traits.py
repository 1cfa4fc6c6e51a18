"""What a frozen reference knows of completions and prompts, as traits that a score is learned from.

Of a completion: its hidden states, summed over its tokens (last and middle layer), at its end, and summed over the
tokens that the reference did not expect; and its log-prob, length, the number of unexpected tokens and their log-probs.
The last ones are what a reward model misses: the reference knows which statements do not belong to the task, but a head
on hidden states does not see how probable a token was. Of a prompt: the roots of the probabilities of the first token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from sacpo.data.packing import Rows, Tree, padded_rows
from sacpo.models.tokens import padding_token
from sacpo.system.progress import QUIET, Progress
from sacpo.theory.preference_process import Traits

UNEXPECTED = -3.0
"""A token whose log-prob is below it was not expected."""
FIRST_TOKENS, LOOKED_AT = 256, 512
"""Of so many first tokens, the likeliest over so many prompts, the probabilities are traits of a prompt."""
Floats = NDArray[np.float64]


def completion_traits(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    trees: Sequence[Tree],
    first_tokens: Sequence[int],
    *,
    batch_size: int = 64,
    progress: Progress = QUIET,
) -> Traits:
    """Return the traits of completions and of their prompts.

    Args:
        model: The reference, a causal language model.
        tokenizer: Its tokenizer.
        trees: Prompts with one completion each.
        first_tokens: The tokens whose probabilities are a prompt's traits; see `likeliest_first_tokens`.
        batch_size: Completions a forward pass.
        progress: Where to show it.

    Shape:
        (completions, 4 x hidden size + 4) and (completions, tokens).
    """
    ordered = sorted(range(len(trees)), key=lambda place: (len(trees[place]), place))
    found: list[tuple[Floats, Floats]] = []
    model.eval()
    with progress.task("traits", len(trees), "completions") as task, torch.no_grad():
        for start in range(0, len(ordered), batch_size):
            places = ordered[start : start + batch_size]
            some = [trees[place] for place in places]
            rows = padded_rows(some, pad_id=padding_token(tokenizer, model)).to(model.device)
            found.append(_traits(model, rows, some, list(first_tokens)))
            task.advance(len(places))
    back = np.argsort(ordered)
    answers, prompts = (np.concatenate(parts)[back] for parts in zip(*found, strict=True))
    return Traits(answers, prompts)


def _traits(model: Any, rows: Rows, trees: Sequence[Tree], first_tokens: list[int]) -> tuple[Floats, Floats]:
    """Return the traits of some rows, one completion each."""
    out = model(rows.input_ids, attention_mask=rows.attention_mask, output_hidden_states=True)
    last, middle = (out.hidden_states[layer].float() for layer in (-1, len(out.hidden_states) // 2))
    starts = torch.tensor([len(tree.prompt) for tree in trees], device=last.device)
    ends = torch.tensor([len(tree) for tree in trees], device=last.device)
    place, row = torch.arange(last.shape[1], device=last.device), torch.arange(len(trees), device=last.device)
    own = (place >= starts[:, None]) & (place < ends[:, None])
    # one row at a time: logits in float32 are the largest tensor
    totals = torch.stack([logits.float().logsumexp(-1) for logits in out.logits])
    said = out.logits[:, :-1].gather(2, rows.input_ids[:, 1:, None])[:, :, 0].float() - totals[:, :-1]
    logps = torch.cat([said.new_zeros(len(trees), 1), said], 1) * own
    odd = (logps < UNEXPECTED) & own
    numbers = [logps.sum(1), own.sum(1), odd.sum(1), (logps.clamp(max=UNEXPECTED) * own).sum(1)]
    sums = [(states * mask[:, :, None]).sum(1) for states, mask in ((last, own), (middle, own), (last, odd))]
    answer = torch.cat([*sums[:2], last[row, ends - 1], sums[2], torch.stack([*map(_float, numbers)], 1)], 1)
    first = out.logits[row, starts - 1].float()[:, first_tokens] - totals[row, starts - 1][:, None]
    return answer.double().cpu().numpy(), (first / 2).exp().double().cpu().numpy()


def _float(value: torch.Tensor) -> torch.Tensor:
    return value.float()


def likeliest_first_tokens(model: Any, tokenizer: PreTrainedTokenizerBase, trees: Sequence[Tree]) -> list[int]:
    """Return the tokens that completions of these prompts most probably begin with, by id.

    The first `LOOKED_AT` trees are looked at.
    """
    total: torch.Tensor | None = None
    model.eval()
    with torch.no_grad():
        for tree in trees[:LOOKED_AT]:
            prompt = torch.tensor([tree.prompt], device=model.device)
            probs = model(prompt).logits[0, -1].float().softmax(-1)
            total = probs if total is None else total + probs
    assert total is not None
    return sorted(total.topk(min(FIRST_TOKENS, len(total))).indices.tolist())
