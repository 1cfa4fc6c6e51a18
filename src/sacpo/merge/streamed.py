"""Merging checkpoints on the disk: many merge weights in one pass, in a few megabytes whatever the models' size.

For P-SACPO with n values of q both checkpoints are read once and n merged ones are written side by side.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import torch

from sacpo.errors import ModelError
from sacpo.merge.compatible import check_mergeable
from sacpo.merge.tensors import (
    INDEX,
    SINGLE,
    Checkpoint,
    Reader,
    Shard,
    StoredTensor,
    raw_bytes,
    readers,
    write_all,
    write_header,
)
from sacpo.merge.weights import combine
from sacpo.system.progress import QUIET, Progress
from sacpo.system.runs import machine_errors

PIECE = 1 << 17  # elements handled at once: 512 KB in float32, which stays in a core's cache
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
COPIED = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template*",
    "additional_chat_templates",
    "*.py",
)


def merge_opened(
    checkpoints: Sequence[Checkpoint],
    coefficients: Sequence[Sequence[float]],
    outs: Sequence[Path],
    *,
    progress: Progress = QUIET,
) -> None:
    """Write `sum_k c_k checkpoints_k` for each row of coefficients `c`, in one pass over the inputs.

    Sums run in float32 (see `sacpo.merge.weights.combine`) and are stored in the inputs' dtype. Tensors that are not
    floating-point must be equal. Layout (files, shards), configuration, tokenizer and chat template are those of the
    last term, the later model. An output is complete when the function returns; give folders that are renamed then.

    Args:
        checkpoints: The models.
        coefficients: One row for each output, one number for each checkpoint.
        outs: One folder for each row, made if it is not there.
        progress: Where to show it.

    Raises:
        ModelError: The models do not fit together, or a merged tensor is not finite; the message names the tensor.
        MachineError: The disk is full or a folder cannot be written.
    """
    check_coefficients(checkpoints, coefficients)
    check_mergeable(checkpoints)
    found = [checkpoint.tensors for checkpoint in checkpoints]
    later = checkpoints[-1]
    for out in outs:
        copy_companions(later.folder, out)
        if later.adapters is not None:
            copy_companions(later.adapters, out)
    with (
        _one_thread(),
        progress.task("merging", len(found[-1]), "tensors") as task,
        readers(len(checkpoints)) as sources,
    ):
        for shard in later.shards:
            with _opened(shard, outs) as streams:
                for tensor in shard.tensors:
                    for pieces in merged_pieces([f[tensor.name] for f in found], coefficients, sources):
                        for out, stream, piece in zip(outs, streams, pieces, strict=True):
                            with machine_errors(out):
                                write_all(stream, raw_bytes(piece))
                    task.advance()


def merged_pieces(
    stored: Sequence[StoredTensor], coefficients: Sequence[Sequence[float]], sources: Sequence[Reader]
) -> Iterator[list[torch.Tensor]]:
    """Yield one tensor's combinations piece by piece, one flat piece for each row of coefficients.

    Raises:
        ModelError: A combination is not finite, or tensors that are not floating-point differ.
    """
    name, numel = stored[-1].name, stored[-1].numel
    for start in range(0, numel, PIECE):
        stop = min(start + PIECE, numel)
        parts = [source.read(tensor, start, stop) for source, tensor in zip(sources, stored, strict=True)]
        if stored[-1].dtype not in FLOATS:
            _check_equal(parts, name)
            yield [parts[-1]] * len(coefficients)
            continue
        pieces = combine(parts, coefficients)
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
        names = [*COPIED, INDEX] if not (source / SINGLE).is_file() else [*COPIED]
        for path in sorted({path for pattern in names for path in source.glob(pattern)}):
            if path.is_dir():
                shutil.copytree(path, out / path.name, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, out / path.name)


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
def _one_thread() -> Iterator[None]:
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
    """Return one combination's tensors in memory, with the very bits that `merge_checkpoints` would write."""
    found = [checkpoint.tensors for checkpoint in checkpoints]
    merged: dict[str, torch.Tensor] = {}
    with _one_thread(), readers(len(checkpoints)) as sources:
        for name, tensor in found[-1].items():
            flat = torch.empty(tensor.numel, dtype=tensor.dtype)
            start = 0
            for (piece,) in merged_pieces([f[name] for f in found], [row], sources):
                flat[start : start + piece.numel()] = piece
                start += piece.numel()
            merged[name] = flat.view(tensor.shape)
    return merged
