"""Merging: linear, task vectors, token-level mixing."""

from sacpo.merge.locate import local_checkpoint
from sacpo.merge.memory import merged_model
from sacpo.merge.mixing import MixedModel, mixed_model
from sacpo.merge.streamed import merge_checkpoints
from sacpo.merge.weights import Combination, linear, tabulate, task_vectors

__all__ = [
    "Combination",
    "MixedModel",
    "linear",
    "local_checkpoint",
    "merge_checkpoints",
    "merged_model",
    "mixed_model",
    "tabulate",
    "task_vectors",
]
