"""Log-probs from a head that is not trained, as under LoRA: their gradient is known in the forward pass.

For one target y with hidden state h the gradient of log softmax(W h)[y] is W[y] - sum_v p_v W[v], whatever the loss
does with the log-prob afterwards. So the forward pass keeps this one vector a target, and no logit is computed twice.
The vocabulary is met block by block: the sums over it are carried on, and rescaled where a larger logit is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

TARGETS_AT_ONCE = 1024
"""Targets that meet a block of the vocabulary together, so that a large head is not read for a few of them."""
BLOCK_LOGITS = 2**22
"""Logits of a block, in float32: 16 MiB, which a CPU's last cache holds."""


@dataclass(frozen=True)
class FrozenHead:
    """A linear head whose weights take no gradient.

    Attributes:
        weight: Shape: (vocabulary, hidden).
        bias: Shape: (vocabulary,), or None.
        scale: What its output is multiplied by.
        cap: c, where logits are bent to c tanh(logits / c); None: they are not.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    scale: float
    cap: float | None

    def block(self, inputs: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of a block of the vocabulary, in float32 or wider, and its weights."""
        matrix = self.weight[rows].to(inputs.dtype)
        shift = None if self.bias is None else self.bias[rows].to(inputs.dtype)
        logits = nn.functional.linear(inputs, matrix, shift)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap), matrix

    def slope(self, logits: torch.Tensor) -> torch.Tensor | float:
        """Return the derivative of the logits by the head's own output."""
        return self.scale if self.cap is None else self.scale * (1 - (logits / self.cap) ** 2)


@dataclass(frozen=True)
class Known:
    """What is known of some targets when the whole vocabulary was met.

    Attributes:
        logps: Log-probs, in nats. Shape: (targets,).
        gradient: Of each log-prob by its hidden state. Shape: (targets, hidden); None: not asked for.
        statistics: Entropy, mean logit, and whether the target is the most probable token. Shape: (targets,) each;
            None: not asked for.
    """

    logps: torch.Tensor
    gradient: torch.Tensor | None
    statistics: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None


def frozen_logps(head: FrozenHead, hidden: torch.Tensor, targets: torch.Tensor, chunk: int | None, seen: Any) -> Any:
    """Return the log-prob of each target given the hidden state that predicts it, in nats.

    Args:
        head: The head.
        hidden: Shape: (targets, hidden).
        targets: Token ids. Shape: (targets,).
        chunk: Targets at a time; None: `TARGETS_AT_ONCE`.
        seen: `TokenStatistics` to fill, or None.

    Shape: (targets,) float32, or float64 if the model is.
    """
    return cast(Any, _FrozenLogps.apply)(hidden, targets, head, chunk or TARGETS_AT_ONCE, seen, torch.is_grad_enabled())


class _FrozenLogps(torch.autograd.Function):
    """log softmax(cap(scale (h W^T + b)))[target], keeping its gradient by h."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, targets: torch.Tensor, head: FrozenHead, chunk: int, seen: Any, recorded: bool
    ) -> torch.Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.weight.dtype
        wanted = recorded and ctx.needs_input_grad[0]
        with torch.autocast(device, enabled=False):
            parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
            found = [meet(head, inputs.to(dtype), tokens, wanted, seen is not None) for inputs, tokens in parts]
        if seen is not None:
            seen.parts += [part.statistics for part in found]
        if wanted:
            gradient = torch.cat([cast(torch.Tensor, part.gradient) for part in found])
            ctx.save_for_backward(gradient.to(hidden.dtype))
        return torch.cat([part.logps for part in found])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad[:, None]).to(gradient.dtype), *[None] * 5


def meet(head: FrozenHead, inputs: torch.Tensor, targets: torch.Tensor, wanted: bool, told: bool) -> Known:
    """Return what is known of targets after all blocks of the vocabulary.

    Args:
        head: The head.
        inputs: Hidden states in the type of the products. Shape: (targets, hidden).
        targets: Token ids. Shape: (targets,).
        wanted: Whether to compute the gradient.
        told: Whether to compute the statistics.
    """
    n, vocabulary = len(targets), len(head.weight)
    wide = torch.float64 if inputs.dtype == torch.float64 else torch.float32
    largest = torch.full((n, 1), -torch.inf, dtype=wide, device=inputs.device)
    chosen, total, weighted, plain = (torch.zeros_like(largest) for _ in range(4))
    mean = torch.zeros(inputs.shape if wanted else (0,), dtype=wide, device=inputs.device)
    step = max(BLOCK_LOGITS // max(n, 1), 1)
    for start in range(0, vocabulary, step):
        logits, matrix = head.block(inputs, slice(start, start + step))
        here = (targets >= start) & (targets < start + step)
        place = (targets - start).clamp(0, logits.shape[1] - 1)[:, None]
        chosen = torch.where(here[:, None], logits.gather(1, place), chosen)
        grown = torch.maximum(largest, logits.amax(1, keepdim=True))
        fading, largest = torch.exp(largest - grown), grown
        shares = torch.exp(logits - largest)
        total = total * fading + shares.sum(1, keepdim=True)
        if told:
            weighted = weighted * fading + (shares * logits).sum(1, keepdim=True)
            plain = plain + logits.sum(1, keepdim=True)
        if wanted:
            slopes = shares.mul_(head.slope(logits)) if head.cap is not None else shares
            mean = mean.mul_(fading).add_(slopes.to(inputs.dtype) @ matrix)
    norms = largest + total.log()
    gradient = None
    if wanted:
        own = head.weight[targets].to(wide) * head.slope(chosen)
        gradient = own - mean / total * (1.0 if head.cap is not None else head.scale)
    statistics = None
    if told:
        statistics = tuple(t.squeeze(1) for t in (norms - weighted / total, plain / vocabulary, chosen >= largest))
    return Known((chosen - norms).squeeze(1), gradient, cast(Any, statistics))
