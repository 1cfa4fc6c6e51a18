"""Features of completions: the mean of the last layer's hidden states over a completion's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from sacpo.data.packing import Tree, padded_rows
from sacpo.models.tokens import padding_token
from sacpo.system.progress import QUIET, Progress


def mean_states(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    trees: Sequence[Tree],
    *,
    batch_size: int = 64,
    progress: Progress = QUIET,
) -> NDArray[np.float64]:
    """Return the features of completions under a frozen model.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        trees: Prompts with one completion each.
        batch_size: Completions a forward pass.
        progress: Where to show it.

    Shape:
        (completions, hidden size).
    """
    ordered = sorted(range(len(trees)), key=lambda place: (len(trees[place]), place))
    found: dict[int, NDArray[np.float64]] = {}
    model.eval()
    with progress.task("features", len(trees), "completions") as task, torch.no_grad():
        for start in range(0, len(ordered), batch_size):
            places = ordered[start : start + batch_size]
            rows = padded_rows([trees[place] for place in places], pad_id=padding_token(tokenizer, model))
            moved = rows.to(model.device)
            states = model.base_model(moved.input_ids, attention_mask=moved.attention_mask).last_hidden_state
            for row, place in enumerate(places):
                own = states[row, len(trees[place].prompt) : len(trees[place])]
                found[place] = own.double().mean(0).cpu().numpy()
            task.advance(len(places))
    return np.stack([found[place] for place in range(len(trees))])
