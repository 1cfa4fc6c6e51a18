"""Reference log-probs: computed once, before the first update, and kept under a content key.

The reference of a step is its own initial policy, so no second model is in memory while training: every value is
computed with the policy's first weights in evaluation mode and read back over epochs, after a resume, and by every
member of a sweep of beta.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sacpo.align.reference.score import Score, score_all
from sacpo.data.packing import Tree
from sacpo.errors import ModelError, RunError
from sacpo.plain import JsonMapping
from sacpo.system import processes
from sacpo.system.files import content_key, replacing
from sacpo.system.machine import machine_errors
from sacpo.system.progress import QUIET, Progress

NOTE = "key and sha256"
"""The one entry of a cached file's metadata."""


def reference_key(trees: Sequence[Tree], settings: JsonMapping) -> str:
    """Return the content key of reference log-probs.

    Args:
        trees: Token ids of every prompt and completion, in order.
        settings: All else that changes a value: weights, template, row layout, attention, precision, batch size.
    """
    digest = hashlib.sha256()
    for tree in trees:
        digest.update(repr((tree.prompt, tree.completions)).encode())
    libraries = {name: metadata.version(name) for name in ("torch", "transformers")}
    return content_key({"tokens": digest.hexdigest(), "libraries": libraries, **settings})


def reference_logps(
    trees: Sequence[Tree],
    score: Score,
    *,
    key: str,
    cache: Path | None,
    batch_size: int,
    ids: Sequence[str],
    by_length: bool = True,
    progress: Progress = QUIET,
) -> torch.Tensor:
    """Return the reference log-prob of every completion, from the cache or computed and then cached.

    Args:
        trees: Prompts with their completions.
        score: The reference model.
        key: See `reference_key`.
        cache: Folder of cached values; None: nothing is read or written.
        batch_size: Trees a forward pass.
        ids: The trees' names, for messages.
        by_length: See `sacpo.align.reference.score.score_all`.
        progress: Where to show it.

    Shape: (completions,) float32, in nats, on the CPU.

    Raises:
        RunError: The cached file is corrupted.
        ModelError: The reference model gives a log-prob that is NaN or infinite.
    """
    path = None if cache is None else cache / f"{key}.safetensors"
    if path is not None and processes.from_first(path.is_file()):
        return _read(path, key)
    values = score_all(trees, score, batch_size, progress, "reference log-probs", by_length=by_length)
    if not values.isfinite().all():
        names = [name for name, tree in zip(ids, trees, strict=True) for _ in tree.completions]
        bad = int((~values.isfinite()).nonzero()[0])
        raise ModelError(
            "the reference model gives a log-prob that is not finite",
            where=f"record {names[bad]}",
            value=float(values[bad]),
            do="check the model's weights for NaN, or train in float32 or bf16",
        )
    if path is not None and processes.is_first():
        _write(path, key, values)
    return values


def _write(path: Path, key: str, values: torch.Tensor) -> None:
    with machine_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file({"logps": values}, temporary, metadata={NOTE: _note(key, values)})


def _read(path: Path, key: str) -> torch.Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            noted, values = file.metadata() or {}, file.get_tensor("logps")
    except SafetensorError as error:
        raise _corrupted(path) from error
    older = f"{noted.get('key')} {noted.get('sha256')}"  # as two entries, whose order in the file is not fixed
    if noted.get(NOTE, older) != _note(key, values):
        raise _corrupted(path)
    return values


def _corrupted(path: Path) -> RunError:
    return RunError("cached reference log-probs are corrupted", where=path, do="delete the file; it is computed again")


def _note(key: str, values: torch.Tensor) -> str:
    """Return what a file notes beside its values, in one entry: the same values are the same bytes."""
    return f"{key} {_hash(values)}"


def _hash(values: torch.Tensor) -> str:
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()
