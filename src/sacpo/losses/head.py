"""The language-model head: splitting a model in front of it, and log-probs from it without keeping logits."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint
from transformers import PretrainedConfig, PreTrainedModel

from sacpo.losses.frozen_head import FrozenHead, frozen_logps

LOGITS_AT_ONCE = 2**24
"""Logits that are held at once, in float32, unless a chunk size is given: 64 MiB."""
ROUGH = 0.02
"""How far a model in 16 bits may be from its split, relative to its largest logit."""
LOGITS_KEPT = 2**25
"""As many logits, or fewer, are kept for the gradient, which computes them once more otherwise: 128 MiB."""


@dataclass(frozen=True, eq=False)
class Split:
    """A model as its transformer and its head: logits = cap(scale x head(hidden)).

    Attributes:
        base: Gives the last hidden states.
        head: A linear map to the vocabulary, or a module that wraps one.
        scale: What the head's output is multiplied by.
        cap: c, where logits are bent to c tanh(logits / c); None: they are not.
    """

    base: nn.Module
    head: nn.Module
    scale: float = 1.0
    cap: float | None = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits of hidden states. Shape: (..., hidden) to (..., vocabulary), see `exact` for the type."""
        return bent(exact(self.head(hidden)), self.scale, self.cap)


def exact(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in float32, in which log-probs are computed, or as it is if it is in float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def bent(logits: torch.Tensor, scale: float, cap: float | None) -> torch.Tensor:
    """Return cap(scale x logits), in place where no gradient is recorded."""
    if scale != 1.0:
        logits = logits * scale
    return logits if cap is None else cap * torch.tanh(logits / cap)


_splits: weakref.WeakKeyDictionary[nn.Module, Split | None] = weakref.WeakKeyDictionary()


def split_model(model: PreTrainedModel) -> Split | None:
    """Return the model split in front of its head, or None where that would give other logits than the model itself.

    A new model is checked once, by a forward pass of four tokens whose last hidden states are replaced by large
    random ones: whatever the model does behind its transformer must be what the split does. Where that cannot be tried
    it is not split.
    """
    known = _splits.get(model)
    if model in _splits and (known is None or _is_split_of(model, known)):
        return known
    found = next((split for split in _candidates(model) if _tried(model, split)), None)
    _splits[model] = found
    return found


def called_as_it_is(model: object) -> bool:
    """Tell whether a model of transformers is called by its class alone: no hook waits for a call of the whole."""
    plain = isinstance(model, PreTrainedModel) and "forward" not in vars(model)
    return plain and not (model._forward_hooks or model._forward_pre_hooks)  # type: ignore[attr-defined]


def _is_split_of(model: PreTrainedModel, split: Split) -> bool:
    """Tell whether both parts are still the model's."""
    return split.head is model.get_output_embeddings() and any(split.base is base for base in _bases(model))


def _bases(model: PreTrainedModel) -> tuple[Any, ...]:
    """Return what may give the last hidden states.

    OPT calls its decoder past its base model, Llama 4 has its own under another name than it says.
    """
    return model.base_model, model.get_decoder(), getattr(model, "model", None)


def _candidates(model: PreTrainedModel) -> Iterator[Split]:
    head = model.get_output_embeddings()
    if head is None:
        return
    config = model.config.get_text_config()
    scale = math.prod(
        _number(config, name) or 1.0 for name in ("logit_scale", "output_multiplier", "lm_head_multiplier")
    )
    scaling = _number(config, "logits_scaling") or 1.0  # Granite divides by it, HyperCLOVA X multiplies
    cap = _number(config, "final_logit_softcapping") or _number(config, "logits_soft_cap")
    bases = dict.fromkeys(base for base in _bases(model) if isinstance(base, nn.Module) and base not in (model, head))
    for base in bases:
        for factor in dict.fromkeys((scale / scaling, scale * scaling)):
            yield Split(base, head, factor, cap)


def _number(config: PretrainedConfig, name: str) -> float | None:
    value = getattr(config, name, None)
    return float(value) if isinstance(value, int | float) else None


def _tried(model: PreTrainedModel, split: Split) -> bool:
    try:
        return _agrees(model, split)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError):  # fewer tokens or places than four, ...
        return False


@torch.no_grad()
def _agrees(model: PreTrainedModel, split: Split) -> bool:
    hidden: list[torch.Tensor] = []

    def replace(module: nn.Module, args: Any, output: Any) -> Any:
        shape = output[0]
        noise = torch.randn(shape.shape, generator=torch.Generator().manual_seed(0)).to(shape)
        noise *= 100 / split.logits(noise).std().clamp(min=1e-3)  # large enough to show a cap
        hidden.append(noise)
        if isinstance(output, tuple):
            return (noise, *output[1:])
        output["last_hidden_state"] = noise
        return output

    handle = split.base.register_forward_hook(replace)
    device = model.device
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            logits = model(input_ids=torch.arange(4, device=device)[None]).logits
    finally:
        handle.remove()
    if len(hidden) != 1:
        return False
    expected, found = split.logits(hidden[0]), exact(logits)
    if expected.shape != found.shape:
        return False
    if logits.dtype in (torch.float16, torch.bfloat16):  # models scale and cap in their own type, the split in float32
        return float((expected - found).abs().max()) <= ROUGH * float(found.abs().max())
    return torch.allclose(expected, found, rtol=1e-3, atol=1e-2)


@dataclass
class TokenStatistics:
    """What is logged of the distributions that predict the targets; filled by `head_logps`, without gradient."""

    parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = field(default_factory=list)

    @torch.no_grad()
    def add(self, logits: torch.Tensor, targets: torch.Tensor, norms: torch.Tensor) -> None:
        """Take the logits of the next targets. Shape: (targets, vocabulary), (targets,), (targets,)."""
        entropy = norms - (torch.exp(logits - norms[:, None]) * logits).sum(1)
        self.parts.append((entropy, logits.mean(1), logits.argmax(1) == targets))

    @property
    def entropy(self) -> torch.Tensor:
        """The entropies, in nats. Shape: (targets,)."""
        return torch.cat([part[0] for part in self.parts])

    @property
    def mean_logit(self) -> torch.Tensor:
        """The mean logits. Shape: (targets,)."""
        return torch.cat([part[1] for part in self.parts])

    @property
    def top(self) -> torch.Tensor:
        """Whether each target is the most probable token. Shape: (targets,) bool."""
        return torch.cat([part[2] for part in self.parts])


def head_logps(
    split: Split,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    *,
    chunk: int | None = None,
    statistics: TokenStatistics | None = None,
) -> torch.Tensor:
    """Return the log-prob of each target given the hidden state that predicts it, in nats.

    The logits of `chunk` targets at a time are held in float32; more than `LOGITS_KEPT` in all are computed once more
    for the gradient, unless the head takes none itself (`sacpo.losses.frozen_head`).

    Args:
        split: The head.
        hidden: Shape: (targets, hidden).
        targets: Token ids. Shape: (targets,).
        chunk: Targets at a time; None: as many as make `LOGITS_AT_ONCE` logits.
        statistics: What to fill with the logits' statistics.

    Shape: (targets,) float32, or float64 if the model is.
    """
    if is_linear(split.head):
        linear = cast(nn.Linear, split.head)
        size = chunk or max(LOGITS_AT_ONCE // linear.out_features, 1)
        apply = cast(Any, _LinearLogps.apply)
        few = len(targets) * linear.out_features <= LOGITS_KEPT
        if not few and not (torch.is_grad_enabled() and _trained(linear)):
            head = FrozenHead(linear.weight, linear.bias, split.scale, split.cap)
            return cast(torch.Tensor, frozen_logps(head, hidden, targets, chunk, statistics))
        keep = torch.is_grad_enabled() and few
        options = (split.scale, split.cap, size, keep, statistics)
        return cast(torch.Tensor, apply(hidden, targets, linear.weight, linear.bias, *options))
    return module_logps(split.logits, hidden, targets, chunk, statistics)


def module_logps(
    logits: Any,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    chunk: int | None,
    statistics: TokenStatistics | None = None,
) -> torch.Tensor:
    """Return what `head_logps` returns, for any function from hidden states to logits."""

    size = chunk or 256
    parts = [*zip(hidden.split(size), targets.split(size), strict=True)]
    unseen = set(range(len(parts)))

    def one(number: int, part: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        scores = logits(part)
        norms = scores.logsumexp(1)
        if statistics is not None and number in unseen:  # not once more for the gradient
            unseen.remove(number)
            statistics.add(scores, tokens, norms)
        return scores.gather(1, tokens[:, None]).squeeze(1) - norms

    if not torch.is_grad_enabled():
        return torch.cat([one(number, *part) for number, part in enumerate(parts)])
    return torch.cat([checkpoint(one, number, *part, use_reentrant=False) for number, part in enumerate(parts)])


def _trained(head: nn.Linear) -> bool:
    return head.weight.requires_grad or (head.bias is not None and head.bias.requires_grad)


def is_linear(head: nn.Module) -> bool:
    """Return whether a head is a linear layer that nothing wraps, hooks into, shards or quantises."""
    if type(head) is not nn.Linear or "forward" in vars(head) or isinstance(head.weight, DTensor):
        return False
    return not (head._forward_hooks or head._forward_pre_hooks) and head.weight.is_floating_point()


class _LinearLogps(torch.autograd.Function):
    """log softmax(cap(scale (h W^T + b)))[target], keeping one float a target for the backward pass, and few logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scale: float,
        cap: float | None,
        chunk: int,
        keep: bool,
        statistics: TokenStatistics | None,
    ) -> torch.Tensor:
        device = hidden.device.type
        ctx.dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        ctx.scale, ctx.cap, ctx.chunk = scale, cap, chunk
        with torch.autocast(device, enabled=False):
            matrix, shift = _cast(weight, ctx.dtype), _cast(bias, ctx.dtype)
            logps = exact(torch.empty(len(targets), dtype=ctx.dtype, device=hidden.device))
            norms = torch.empty_like(logps)
            kept = []
            for start in range(0, len(targets), chunk):
                part = slice(start, start + chunk)
                logits = bent(exact(nn.functional.linear(hidden[part].to(ctx.dtype), matrix, shift)), scale, cap)
                shares = logits.log_softmax(1)
                kept += [shares] if keep else []
                logps[part] = shares.gather(1, targets[part, None]).squeeze(1)
                norms[part] = logits.gather(1, targets[part, None]).squeeze(1) - logps[part]
                if statistics is not None:
                    statistics.add(logits, targets[part], norms[part])
        ctx.save_for_backward(hidden, targets, weight, bias, norms, *kept)
        return logps

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, targets, weight, bias, norms, *kept = ctx.saved_tensors
        to_hidden, _, to_weight, to_bias = ctx.needs_input_grad[:4]
        grad_hidden = torch.empty_like(hidden) if to_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=norms.dtype) if to_weight else None
        grad_bias = torch.zeros_like(bias, dtype=norms.dtype) if to_bias else None
        with torch.autocast(hidden.device.type, enabled=False):
            matrix, shift = _cast(weight, ctx.dtype), _cast(bias, ctx.dtype)
            for number, start in enumerate(range(0, len(targets), ctx.chunk)):
                part = slice(start, start + ctx.chunk)
                inputs = hidden[part].to(ctx.dtype)
                if kept:
                    shares = kept[number]
                else:
                    shares = bent(exact(nn.functional.linear(inputs, matrix, shift)), ctx.scale, ctx.cap)
                    shares = shares.sub_(norms[part, None])
                slope = _slope(shares, targets[part], norms[part], grad[part], ctx.scale, ctx.cap).to(ctx.dtype)
                if grad_hidden is not None:
                    grad_hidden[part] = slope @ matrix
                if grad_weight is not None:
                    grad_weight += slope.T @ inputs
                if grad_bias is not None:
                    grad_bias += slope.sum(0)
        return grad_hidden, None, _cast(grad_weight, weight.dtype), _cast(grad_bias, weight.dtype), *[None] * 5


def _slope(
    shares: torch.Tensor,
    targets: torch.Tensor,
    norms: torch.Tensor,
    grad: torch.Tensor,
    scale: float,
    cap: float | None,
) -> torch.Tensor:
    """Return the gradient of the head's output: (one-hot(target) - softmax) x grad x the slope of cap(scale x).

    `shares` is log softmax, and with `norms` added the logits. Shape: (targets, vocabulary).
    """
    factor = grad * scale
    slope = torch.exp(shares).mul_(-factor[:, None])
    slope.scatter_add_(1, targets[:, None], factor[:, None])
    return slope if cap is None else slope.mul_(1 - ((shares + norms[:, None]) / cap) ** 2)


def _cast(tensor: torch.Tensor | None, dtype: torch.dtype) -> Any:
    return None if tensor is None else tensor.to(dtype)
