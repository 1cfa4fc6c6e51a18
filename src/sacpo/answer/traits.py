"""What a frozen reference knows of completions and prompts, as traits that a score is learned from.

Of a completion: its hidden states, summed over its tokens (last and middle layer), at its end, and summed over the
tokens that the reference did not expect; and its log-prob, length, the number of unexpected tokens and their log-probs.
The last ones are what a reward model misses: the reference knows which statements do not belong to the task, but a head
on hidden states does not see how probable a token was. Of a prompt: the roots of the probabilities of the first token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from sacpo.data.packing import Tree, padded_rows
from sacpo.models.tokens import padding_token
from sacpo.system.progress import QUIET, Progress
from sacpo.theory.preference_process import Traits

UNEXPECTED = -3.0
"""A token whose log-prob is below it was not expected."""
FIRST_TOKENS, LOOKED_AT = 256, 512
"""Of so many first tokens, the likeliest over so many prompts, the probabilities are traits of a prompt."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Row:
    answer: Floats
    prompt: Floats


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
    found: dict[int, _Row] = {}
    model.eval()
    with progress.task("traits", len(trees), "completions") as task, torch.no_grad():
        for start in range(0, len(ordered), batch_size):
            places = ordered[start : start + batch_size]
            rows = padded_rows([trees[place] for place in places], pad_id=padding_token(tokenizer, model))
            moved = rows.to(model.device)
            out = model(moved.input_ids, attention_mask=moved.attention_mask, output_hidden_states=True)
            layers = out.hidden_states
            for row, place in enumerate(places):
                tree = trees[place]
                states = [layer[row, : len(tree)].float() for layer in (layers[-1], layers[len(layers) // 2])]
                found[place] = _traits(states, out.logits[row, : len(tree)].float(), tree, first_tokens)
            task.advance(len(places))
    one = [found[place] for place in range(len(trees))]
    return Traits(np.stack([row.answer for row in one]), np.stack([row.prompt for row in one]))


def _traits(states: Sequence[torch.Tensor], logits: torch.Tensor, tree: Tree, first_tokens: Sequence[int]) -> _Row:
    (completion,), start = tree.completions, len(tree.prompt)
    probs = logits[start - 1 : -1].log_softmax(-1)
    logps = probs.gather(1, torch.tensor(completion, device=probs.device)[:, None])[:, 0]
    odd = logps < UNEXPECTED
    last, middle = (state[start:] for state in states)
    seen = [logps.sum(), logps.new_tensor(len(completion)), odd.sum(), logps.clamp(max=UNEXPECTED).sum()]
    answer = torch.cat([last.sum(0), middle.sum(0), last[-1], last[odd].sum(0), torch.stack([*map(_float, seen)])])
    return _Row(answer.double().cpu().numpy(), (probs[0, list(first_tokens)] / 2).exp().double().cpu().numpy())


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
