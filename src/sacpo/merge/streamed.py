"""Merging checkpoints on the disk: many merge weights in one pass, in a few megabytes whatever the models' size.

For P-SACPO with n values of q both checkpoints are read once and n merged ones are written side by side.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import torch

from sacpo.errors import ModelError, RecipeError
from sacpo.merge.compatible import check_mergeable
from sacpo.merge.tensors import (
    FLOATS,
    INDEX,
    SINGLE,
    Checkpoint,
    Reader,
    Shard,
    StoredTensor,
    raw_bytes,
    readers,
    recast,
    write_all,
    write_header,
)
from sacpo.merge.weights import combine
from sacpo.models.keys import companions
from sacpo.system.files import write_json
from sacpo.system.machine import machine_errors
from sacpo.system.progress import QUIET, Progress

WRITTEN = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""What merged weights may be stored in, and safetensors' names for it."""
PIECE = 1 << 17  # elements handled at once: 512 KB in float32, which stays in a core's cache


def merge_opened(
    checkpoints: Sequence[Checkpoint],
    coefficients: Sequence[Sequence[float]],
    outs: Sequence[Path],
    *,
    dtype: str | None = None,
    progress: Progress = QUIET,
) -> None:
    """Write `sum_k c_k checkpoints_k` for each row of coefficients `c`, in one pass over the inputs.

    Sums run in float32 (see `sacpo.merge.weights.combine`) and are stored in the later model's dtype. Tensors that are
    not floating-point must be equal. Layout (files, shards), configuration, tokenizer and chat template are those of
    the last term, the later model. An output is complete when the function returns; give folders that are renamed then.

    Args:
        checkpoints: The models.
        coefficients: One row for each output, one number for each checkpoint.
        outs: One folder for each row, made if it is not there.
        dtype: Name of the dtype that floating-point weights are stored in; None: the later model's.
        progress: Where to show it.

    Raises:
        ModelError: The models do not fit together, or a merged tensor is not finite; the message names the tensor.
        MachineError: The disk is full or a folder cannot be written.
    """
    check_coefficients(checkpoints, coefficients)
    found = check_mergeable(checkpoints)
    later = checkpoints[-1]
    check_dtype(dtype)
    code = None if dtype is None else WRITTEN[dtype]
    for out in outs:
        copy_companions(later.folder, out)
        if later.adapters is not None:
            copy_companions(later.adapters, out)
        if dtype is not None:
            name_dtype(out, dtype, sum(tensor.nbytes for s in later.shards for tensor in recast(s, code).tensors))
    with (
        one_thread(),
        progress.task("merging", len(found[-1]), "tensors") as task,
        readers(len(checkpoints)) as sources,
    ):
        for shard in later.shards:
            written = recast(shard, code)
            with _opened(written, outs) as streams:
                for tensor in written.tensors:
                    stored = [own[tensor.name] for own in found]
                    for pieces in merged_pieces(stored, coefficients, sources, tensor.dtype):
                        for out, stream, piece in zip(outs, streams, pieces, strict=True):
                            with machine_errors(out):
                                write_all(stream, raw_bytes(piece))
                    task.advance()


def merged_pieces(
    stored: Sequence[StoredTensor],
    coefficients: Sequence[Sequence[float]],
    sources: Sequence[Reader],
    dtype: torch.dtype,
) -> Iterator[list[torch.Tensor]]:
    """Yield one tensor's combinations in a dtype, piece by piece, one flat piece for each row of coefficients.

    Raises:
        ModelError: A combination is not finite, or tensors that are not floating-point differ.
    """
    name, numel = stored[-1].name, stored[-1].numel
    for start in range(0, numel, PIECE):
        stop = min(start + PIECE, numel)
        parts = [source.read(tensor, start, stop) for source, tensor in zip(sources, stored, strict=True)]
        if any(tensor.dtype not in FLOATS for tensor in stored):
            _check_equal(parts, name)
            yield [parts[-1]] * len(coefficients)
            continue
        pieces = combine(parts, coefficients, dtype)
        if not all(_finite(piece) for piece in pieces):
            raise ModelError(
                "a merged tensor is not finite",
                where=name,
                value=", ".join(str(tensor.file) for tensor in stored),
                do="look for NaN or infinity in these models, or use a smaller merge weight or scale",
            )
        yield pieces


def check_coefficients(terms: Sequence[object], coefficients: Sequence[Sequence[float]]) -> None:
    """Check that every row has a coefficient for each term and is not zero altogether.

    Raises:
        ValueError: One does not.
    """
    for row in coefficients:
        if len(row) != len(terms) or not any(row):
            raise ValueError(f"{len(terms)} coefficients that are not all 0 are needed, not {list(row)}")


def copy_companions(source: Path, out: Path) -> None:
    """Copy what a model folder holds beside its weights: configuration, tokenizer, chat template, code."""
    with machine_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        index = [] if (source / SINGLE).is_file() or not (source / INDEX).is_file() else [source / INDEX]
        for path in [*companions(source), *index]:
            target = out / path.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)


def check_dtype(dtype: str | None) -> None:
    """Refuse a dtype that merged weights are not written in.

    Raises:
        RecipeError: It is another one.
    """
    if dtype not in (None, *WRITTEN):
        raise RecipeError("no such dtype of weights", where="dtype", value=dtype, allowed=[*WRITTEN], do="correct it")


def name_dtype(folder: Path, dtype: str, size: int) -> None:
    """Write the dtype of a model's weights into its config.json, and their bytes into the index of its shards."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    write_json(path, {**config, key: dtype})
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        write_json(folder / INDEX, {**index, "metadata": {**index.get("metadata", {}), "total_size": size}})


@contextlib.contextmanager
def _opened(shard: Shard, outs: Sequence[Path]) -> Iterator[list[BinaryIO]]:
    with contextlib.ExitStack() as stack:
        streams: list[BinaryIO] = []
        for out in outs:
            with machine_errors(out):
                streams.append(stack.enter_context((out / shard.file.name).open("wb", buffering=0)))
                write_header(streams[-1], shard)
        yield streams


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one core: pieces are too small to be shared out, and threads that wait for each other cost more.

    Measured on 2 cores that others used as well: 1.3 s in place of 7 to 20 s for 630 MB written.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_equal(parts: Sequence[torch.Tensor], name: str) -> None:
    if any(raw_bytes(part) != raw_bytes(parts[-1]) for part in parts[:-1]):
        raise ModelError(
            "a tensor that holds no floating-point weights differs, so it cannot be averaged",
            where=name,
            value=str(parts[-1].dtype),
            do="merge models before they are quantised",
        )


def _finite(piece: torch.Tensor) -> bool:
    # The sum is cheap and finite almost always; only if it is not, every element is looked at.
    if bool(piece.sum(dtype=torch.float32).isfinite()):
        return True
    return bool(piece.isfinite().all())


def read_merged(checkpoints: Sequence[Checkpoint], row: Sequence[float]) -> dict[str, torch.Tensor]:
    """Return one combination's tensors in memory, with the very bits that `merge_checkpoints` would write.

    Raises:
        ModelError: The models do not fit together, or a merged tensor is not finite.
    """
    found = check_mergeable(checkpoints)
    merged: dict[str, torch.Tensor] = {}
    with one_thread(), readers(len(checkpoints)) as sources:
        for name, tensor in checkpoints[-1].tensors.items():
            flat = torch.empty(tensor.numel, dtype=tensor.dtype)
            start = 0
            for (piece,) in merged_pieces([own[name] for own in found], [row], sources, tensor.dtype):
                flat[start : start + piece.numel()] = piece
                start += piece.numel()
            merged[name] = flat.view(tensor.shape)
    return merged
