"""A step's reference: the initial policy's log-probs, and the row layout that both share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, TrainingArguments

from sacpo.align.engine.layout import LayoutName, RowLayout, choose_layout
from sacpo.align.job import TrainingJob
from sacpo.align.reference.cached import reference_key, reference_logps
from sacpo.align.reference.score import Score, autocast_type, scorer
from sacpo.data.packing import LayRows, Tree
from sacpo.losses.head import split_model
from sacpo.losses.logps import unwrapped
from sacpo.plain import JsonObject
from sacpo.system.progress import Progress

UNSPLIT = "the head cannot be split from this model: all logits of a device batch are computed, which takes memory"


@dataclass
class Reference:
    """A step's reference as a source of cached log-probs, and the row layout that it shares with the policy.

    Attributes:
        job: Names the initial policy's weights.
        policy: The initial policy, or a peft model around it.
        arguments: Precision and batch size.
        cache: Folder of log-probs; None: they are kept in memory alone.
        wanted: The row layout asked for.
        pad_id: The padding token.
        progress: Where to show it.
        statistics: Whether the objective logs statistics of tokens.
        other: A reference that is not the initial policy.
        adapter: Whether the policy's adapter belongs to its reference; a new one does not.
        chosen: The row layout, once it is chosen.
    """

    job: TrainingJob
    policy: nn.Module
    arguments: TrainingArguments
    cache: Path | None
    wanted: LayoutName
    pad_id: int
    progress: Progress
    statistics: bool = False
    other: PreTrainedModel | None = None
    adapter: bool = False
    chosen: RowLayout | None = None

    @cached_property
    def weights(self) -> str:
        """The content key of the reference's weights."""
        return self.job.weights_key()

    @property
    def autocast(self) -> torch.dtype | None:
        """The type that forward passes are autocast to, None for the weights' own."""
        return autocast_type(self.arguments)

    @property
    def batch_size(self) -> int:
        """Trees of a forward pass."""
        return self.arguments.per_device_train_batch_size

    def layout(self, trees: Sequence[Tree]) -> LayRows:
        """Return the row layout, chosen on the first trees asked for."""
        if self.chosen is None:
            asked = self.job.base.attn_implementation
            compiled, precision = self.arguments.torch_compile, self.autocast
            choose = partial(choose_layout, attention=asked, compiled=compiled, precision=precision)
            models = [unwrapped(self.policy), *([] if self.other is None else [self.other])]
            found = [choose(self.wanted, model, trees, self.pad_id, self.progress) for model in models]
            self.chosen = min(found, key=lambda chosen: chosen.rank)
            if split_model(unwrapped(self.policy)) is None:
                self.progress.notice(f"{self.job.name}: {UNSPLIT}")
        return self.chosen.rows

    @property
    def checkpointing(self) -> bool:
        """Whether the policy's activations are computed again in the backward pass."""
        policy = unwrapped(self.policy)
        if self.arguments.gradient_checkpointing:
            return True
        if hasattr(type(policy), "is_activation_checkpointing"):  # its name since transformers 5.23
            return bool(policy.is_activation_checkpointing)
        return bool(policy.is_gradient_checkpointing)

    def scorer(self) -> Score:
        """Return the reference as a function from trees to log-probs."""
        assert self.chosen is not None
        scored = self.policy if self.other is None else self.other
        off = self.other is None and not self.adapter
        return scorer(scored, self.chosen.rows, self.autocast, reference=off)

    def logps(self, trees: Sequence[Tree], ids: Sequence[str], **settings: object) -> torch.Tensor:
        """Return the initial policy's log-probs of all completions; `settings` join the content key."""
        self.layout(trees)
        key = ""
        if self.cache is not None:
            key = reference_key(trees, {**self.describe(), "weights": self.weights, **settings})
        return reference_logps(
            trees,
            self.scorer(),
            key=key,
            cache=self.cache,
            batch_size=self.batch_size,
            ids=ids,
            by_length=self.chosen is None or self.chosen.name == "padded",
            progress=self.progress,
        )

    def describe(self) -> JsonObject:
        """Return everything beside weights and tokens that a value depends on."""
        model = unwrapped(self.policy if self.other is None else self.other)
        return {
            "template": self.job.base.template,
            "layout": self.chosen.name if self.chosen else None,
            "attention": model.config._attn_implementation,
            "quantization": self.job.base.quantization and self.job.base.quantization.model_dump(),
            "dtype": str(model.dtype).removeprefix("torch."),
            "autocast": str(self.autocast).removeprefix("torch."),
            "tf32": bool(self.arguments.tf32),
            "device": model.device.type,
            "batch_size": self.batch_size,
        }
