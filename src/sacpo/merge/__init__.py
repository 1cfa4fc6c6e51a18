"""Merging: linear, task vectors, token-level mixing."""

from sacpo.merge.ahead import check_ahead
from sacpo.merge.locate import local_checkpoint
from sacpo.merge.memory import merged_model
from sacpo.merge.mixing import MixedModel, mixed_model
from sacpo.merge.stacked import merge_checkpoints, write_merged, write_one_adapter
from sacpo.merge.streamed import check_dtype, copy_companions
from sacpo.merge.weights import Combination, linear, tabulate, task_vectors

__all__ = [
    "Combination",
    "MixedModel",
    "check_ahead",
    "check_dtype",
    "copy_companions",
    "linear",
    "local_checkpoint",
    "merge_checkpoints",
    "merged_model",
    "mixed_model",
    "tabulate",
    "task_vectors",
    "write_merged",
    "write_one_adapter",
]
