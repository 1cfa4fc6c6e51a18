"""A merged model in memory, for evaluating a sweep of merge weights without writing it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from sacpo.merge.stacked import open_model
from sacpo.merge.streamed import check_coefficients, read_merged
from sacpo.models.loading import load_model


def merged_model(terms: Sequence[Path], row: Sequence[float], **options: Any) -> PreTrainedModel:
    """Return the model with weights `sum_k c_k terms_k`, equal bit for bit to what `merge_checkpoints` writes.

    Args:
        terms: Checkpoint folders; configuration and generation configuration are the last one's.
        row: One coefficient for each term.
        options: `dtype`, `device`, `trust_remote_code`, `attn_implementation` of `sacpo.models.loading.load_model`.

    Raises:
        ModelError: The models do not fit together, or a merged tensor is not finite.
    """
    check_coefficients(terms, [row])
    checkpoints = [open_model(Path(term)) for term in terms]
    return load_model(checkpoints[-1].folder, weights=read_merged(checkpoints, row), **options)
