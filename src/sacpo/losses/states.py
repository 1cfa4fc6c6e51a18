"""What a model computes at the tokens of completions: log-probs, hidden states, and what may come first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from sacpo.data.rows import Rows
from sacpo.losses.head import exact, head_logps, split_model
from sacpo.losses.kernels import steady_kernels
from sacpo.losses.logps import forward_inputs, unwrapped


@dataclass(frozen=True)
class States:
    """What a frozen model computes of completions, in the order of `Rows.targets`.

    Attributes:
        logps: `log pi(token | all before it)`, nats. Shape: (targets,).
        last, middle: The tokens' own hidden states, of the last and the middle layer. Shape: (targets, hidden).
        ends: The last layer's state at each completion's last token, or its prompt's if it has none.
            Shape: (completions, hidden).
        first: Log-probs of the tokens that may come first behind each prompt, nats. Shape: (completions, vocabulary).
    """

    logps: torch.Tensor
    last: torch.Tensor
    middle: torch.Tensor
    ends: torch.Tensor
    first: torch.Tensor


@torch.no_grad()
def completion_states(model: nn.Module, rows: Rows) -> States:
    """Return what a model computes of completions; logits are held of prompts' ends and of some targets at a time.

    Args:
        model: A causal language model, or a peft model around one.
        rows: Prompts with their completions, laid out for the model.
    """
    policy = unwrapped(model)
    with steady_kernels():
        split = split_model(policy)
        called = policy if split is None else split.base
        out = called(**forward_inputs(called, policy, rows), output_hidden_states=True)
        states = [out.hidden_states[layer].flatten(0, 1) for layer in (-1, len(out.hidden_states) // 2)]
        prompts, place = rows.before.unique(return_inverse=True)
        if split is None:
            logits = out.logits.flatten(0, 1)
            said = exact(logits[rows.source]).log_softmax(1).gather(1, rows.targets[:, None])[:, 0]
            first = exact(logits[prompts])
        else:
            said = head_logps(split, states[0][rows.source], rows.targets)
            first = split.logits(states[0][prompts])
    lengths = torch.bincount(rows.owner, minlength=rows.n_completions)
    lasts = rows.before.clone()
    lasts[lengths > 0] = rows.own[lengths.cumsum(0)[lengths > 0] - 1]
    last, middle = (exact(layer[rows.own]) for layer in states)
    return States(said, last, middle, exact(states[0][lasts]), first.log_softmax(1)[place])
