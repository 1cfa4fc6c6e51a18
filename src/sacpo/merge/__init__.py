"""Merging: linear, task vectors, token-level mixing. Everything is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_WHERE = {
    "check_ahead": "ahead",
    "local_checkpoint": "locate",
    "merged_model": "memory",
    **dict.fromkeys(("MixedModel", "mixed_model"), "mixing"),
    **dict.fromkeys(("merge_checkpoints", "write_merged", "write_one_adapter"), "stacked"),
    **dict.fromkeys(("check_dtype", "copy_companions"), "streamed"),
    **dict.fromkeys(("Combination", "linear", "tabulate", "task_vectors"), "weights"),
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
