"""Mixing models token by token at decoding time, without merged weights.

The exact path between two models of a step is their sequence-level mixture, proportional to
`pi_A(y|x)^(1-q) pi_B(y|x)^q`. Mixing logits normalises each token's distribution by itself, without looking ahead, and
is another approximation of that path beside averaging weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from sacpo.errors import ModelError
from sacpo.losses.head import called_as_it_is, split_model
from sacpo.merge.compatible import check_tokenizers
from sacpo.models.loading import load_model


class MixedCache:
    """The key-value caches of mixed models, which are grown and cut together."""

    def __init__(self, caches: Sequence[Cache]) -> None:
        self.caches = list(caches)

    @property
    def layers(self) -> list[object]:
        """The layers' caches of all models."""
        return [layer for cache in self.caches for layer in cache.layers]

    def batch_select_indices(self, rows: torch.Tensor) -> None:
        """Keep only these rows of the batch."""
        for cache in self.caches:
            cache.batch_select_indices(rows)

    def get_seq_length(self) -> int:
        """Return how many tokens are cached."""
        return int(self.caches[0].get_seq_length())


class MixedModel(nn.Module):
    """A causal language model with logits `sum_k w_k l_k`, of two `(1 - q) l_A + q l_B`, to decode and to score with.

    Models of weight 0 do not run; where one has weight 1, the logits are its own.

    Args:
        models: The models; configuration and device are the last one's.
        weights: One for each model, in [0, 1].

    Source: DeRa, arXiv 2402.02992.
    """

    def __init__(self, models: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        if not all(0.0 <= weight <= 1.0 for weight in weights):
            raise ValueError(f"weights are in [0, 1], not {[*weights]}")
        later = models[-1]
        weighted = [(model, weight) for model, weight in zip(models, weights, strict=True) if weight]
        self.models = nn.ModuleList(model for model, _ in weighted)
        self.weights = [weight for _, weight in weighted]
        self.config = later.config
        self.generation_config = getattr(later, "generation_config", None)

    @property
    def device(self) -> torch.device:
        """Where the inputs belong."""
        return next(self.models[-1].parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype; logits are float32."""
        return next(self.models[-1].parameters()).dtype

    def get_output_embeddings(self) -> None:
        """Return None: no single head maps hidden states to the mixed logits."""

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: MixedCache | None = None,
        use_cache: bool = False,
        logits_to_keep: int | torch.Tensor = 0,
    ) -> CausalLMOutputWithPast:
        """Return the mixed logits, in float32, and the caches; arguments as in every causal language model.

        Shape: input_ids, attention_mask and position_ids (batch, seq); logits (batch, seq or kept, vocabulary).
        """
        options: dict[str, Any] = {
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "use_cache": use_cache,
        }
        caches = past_key_values.caches if past_key_values is not None else [None] * len(self.models)
        outputs = [
            _called(model, logits_to_keep, input_ids=input_ids, past_key_values=cache, **options)
            for model, cache in zip(self.models, caches, strict=True)
        ]
        logits = outputs[0].logits.float() * self.weights[0]
        for output, weight in zip(outputs[1:], self.weights[1:], strict=True):
            logits = logits + output.logits.float() * weight
        grown = [output.past_key_values for output in outputs if getattr(output, "past_key_values", None) is not None]
        cache: Any = MixedCache(grown) if len(grown) == len(outputs) else None
        return CausalLMOutputWithPast(logits=logits, past_key_values=cache)


def _called(model: Any, logits_to_keep: int | torch.Tensor, **inputs: Any) -> Any:
    """Call a model; for the last logits of a row on a CPU its head, where it can be split off, meets states alone.

    In a slice of longer states each row gets a copy of the head's weights: gigabytes, and in bf16 minutes.
    """
    last = not isinstance(logits_to_keep, torch.Tensor) and logits_to_keep == 1
    split = split_model(model) if last and called_as_it_is(model) and model.device.type == "cpu" else None
    if split is None:
        return model(logits_to_keep=logits_to_keep, **inputs)
    found = split.base(**inputs)
    return CausalLMOutputWithPast(
        logits=split.logits(found.last_hidden_state[:, -1])[:, None],
        past_key_values=getattr(found, "past_key_values", None),
    )


def mixed_model(folders: Sequence[Path], weights: Sequence[float], **options: Any) -> MixedModel:
    """Load models and mix them; they may differ in architecture but not in their tokens.

    Args:
        folders: The models' folders, the later ones last.
        weights: One for each model; of two models `(1 - q, q)`.
        options: Those of `sacpo.models.loading.load_model`.

    Raises:
        ModelError: The tokenizers or the numbers of logits differ.
    """
    for folder in folders[:-1]:
        check_tokenizers(folder, folders[-1])
    models = [load_model(folder, **options) for folder in folders]
    sizes = [int(model.get_output_embeddings().weight.shape[0]) for model in models]
    for folder, size in zip(folders, sizes, strict=True):
        if size != sizes[-1]:
            raise ModelError(
                "the models to be mixed have different numbers of logits",
                where=f"{folder} and {folders[-1]}",
                value=f"{size} and {sizes[-1]}",
                do="resize one model's embeddings to the other's",
            )
    return MixedModel(models, weights).eval()
