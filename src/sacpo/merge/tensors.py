"""Safetensors checkpoints read and written piece by piece, so that no tensor need be in memory as a whole.

A file is 8 bytes of header length, a JSON header (name: dtype, shape, offsets) and the tensors' bytes, one after the
other. Pieces are read with pread and not through a memory map, whose pages would count as this process's memory.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import torch

from sacpo.errors import ModelError
from sacpo.models.adapters.factors import Factors, delta_rows
from sacpo.models.adapters.stack import is_adapter
from sacpo.models.checks import refuse_pickles
from sacpo.plain import JsonMapping, JsonObject

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
COMPARED = 1 << 20  # elements compared at once
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""The dtypes of weights that are summed; tensors of others must be equal."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies on the disk; `offset` counts bytes from the file's start.

    `change` is what adapters add to it when it is read.
    """

    name: str
    code: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    change: Factors | None = field(default=None, compare=False)

    @property
    def dtype(self) -> torch.dtype:
        """The tensor's dtype."""
        return DTYPES[self.code]

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True)
class Shard:
    """One safetensors file: its tensors in the order of their bytes, and its free metadata."""

    file: Path
    tensors: tuple[StoredTensor, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A model folder's weights: one file, or shards with an index; `adapters` is the folder of adapters on them."""

    folder: Path
    shards: tuple[Shard, ...]
    adapters: Path | None = None

    @property
    def tensors(self) -> dict[str, StoredTensor]:
        """Every tensor by name."""
        return {tensor.name: tensor for shard in self.shards for tensor in shard.tensors}


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the headers of a folder's weights.

    Raises:
        ModelError: There are no safetensors weights, a shard is missing, or a file is not what its header says.
    """
    if (folder / SINGLE).is_file():
        return Checkpoint(folder, (read_header(folder / SINGLE),))
    if (folder / INDEX).is_file():
        return Checkpoint(folder, tuple(read_header(folder / name) for name in _shard_names(folder)))
    refuse_pickles(folder)
    if is_adapter(folder):
        raise ModelError(
            "an adapter that is more than plain LoRA cannot be merged with other models as it is",
            where=folder,
            do="write merged weights first: sacpo export MODEL --out FOLDER",
        )
    raise ModelError(
        "there are no weights in this folder",
        where=folder,
        allowed=[SINGLE, INDEX],
        do="copy the whole checkpoint again",
    )


def read_header(file: Path) -> Shard:
    """Read one safetensors file's header and check it against the file's size.

    Raises:
        ModelError: The file is missing, cut short, not safetensors, or holds a dtype that is not known here.
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            size = file.stat().st_size
            if not 2 <= length <= size - 8:
                raise ValueError("the header is longer than the file")
            header = json.loads(stream.read(length))
        metadata = header.pop("__metadata__", {})
        tensors = sorted((_stored(file, name, entry, 8 + length) for name, entry in header.items()), key=_place)
        end = 8 + length
        for tensor in tensors:
            if tensor.offset != end:
                raise ValueError(f"the bytes of '{tensor.name}' do not follow those before")
            end += tensor.nbytes
        if end != size:
            raise ValueError(f"the header speaks of {end} bytes, the file has {size}")
    except FileNotFoundError as error:
        raise ModelError("a weights file is missing", where=file, do="copy the whole checkpoint again") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"this is not an intact safetensors file: {error}", where=file, do="copy the checkpoint again"
        ) from error
    return Shard(file, tuple(tensors), metadata)


def recast(shard: Shard, code: str | None) -> Shard:
    """Return a shard as it is written: its floating-point weights in another dtype, where one is asked for."""
    if code is None:
        return shard
    tensors = tuple(replace(tensor, code=code) if tensor.dtype in FLOATS else tensor for tensor in shard.tensors)
    return replace(shard, tensors=tensors)


def write_header(stream: BinaryIO, shard: Shard) -> None:
    """Write the header of a file that will hold a shard's tensors, in their order, with the same dtypes."""
    header: JsonObject = {"__metadata__": {"format": "pt", **shard.metadata}}
    end = 0
    for tensor in shard.tensors:
        offsets = [end, end + tensor.nbytes]
        header[tensor.name] = {"dtype": tensor.code, "shape": list(tensor.shape), "data_offsets": offsets}
        end = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_all(stream, memoryview(len(text).to_bytes(8, "little") + text))


def write_all(stream: BinaryIO, view: memoryview) -> None:
    """Write every byte to an unbuffered file, which may take fewer at a time."""
    done = 0
    while done < len(view):
        done += stream.write(view[done:])


class Reader:
    """Reads pieces of tensors; each piece stands in a buffer that the next piece of the same reader overwrites."""

    def __init__(self) -> None:
        self._open: dict[Path, BinaryIO] = {}
        self._buffer = torch.empty(0, dtype=torch.uint8)

    def read(self, tensor: StoredTensor, start: int, stop: int) -> torch.Tensor:
        """Return the elements [start, stop) of the flattened tensor, as they are stored, adapters' change added."""
        size = tensor.dtype.itemsize
        nbytes = (stop - start) * size
        if self._buffer.numel() < nbytes:
            self._buffer = torch.empty(nbytes, dtype=torch.uint8)
        if tensor.file not in self._open:
            self._open[tensor.file] = tensor.file.open("rb", buffering=0)
        view = self._buffer.numpy().data[:nbytes]
        done = 0
        while done < nbytes:
            got = os.preadv(self._open[tensor.file].fileno(), [view[done:]], tensor.offset + start * size + done)
            if got == 0:
                raise ModelError("a weights file became shorter while it was read", where=tensor.file)
            done += got
        piece = self._buffer[:nbytes].view(tensor.dtype)
        return piece if tensor.change is None else _added(piece, tensor, tensor.change, start, stop)

    def close(self) -> None:
        """Close every file."""
        for stream in self._open.values():
            stream.close()


@contextlib.contextmanager
def readers(n: int) -> Iterator[list[Reader]]:
    """Yield `n` readers and close their files afterwards."""
    made = [Reader() for _ in range(n)]
    try:
        yield made
    finally:
        for reader in made:
            reader.close()


def same_values(first: StoredTensor, later: StoredTensor) -> bool:
    """Tell whether two tensors of one shape hold the same values, read piece by piece."""
    with readers(2) as (ours, theirs):
        for start in range(0, first.numel, COMPARED):
            stop = min(start + COMPARED, first.numel)
            if not torch.equal(ours.read(first, start, stop).double(), theirs.read(later, start, stop).double()):
                return False
    return True


def raw_bytes(values: torch.Tensor) -> memoryview:
    """Return a contiguous flat tensor's bytes without copying them."""
    return values.view(torch.uint8).numpy().data


def _added(piece: torch.Tensor, tensor: StoredTensor, change: Factors, start: int, stop: int) -> torch.Tensor:
    columns = tensor.shape[1]
    first, last = start // columns, -(-stop // columns)
    delta = delta_rows(change, first, last).reshape(-1)[start - first * columns : stop - first * columns]
    return (piece.to(torch.promote_types(piece.dtype, torch.float32)) + delta).to(piece.dtype)


def _stored(file: Path, name: str, entry: JsonMapping, base: int) -> StoredTensor:
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"'{name}' has dtype {entry['dtype']}, which is not known here")
    start, stop = entry["data_offsets"]
    tensor = StoredTensor(name, entry["dtype"], tuple(entry["shape"]), file, base + start)
    if stop - start != tensor.nbytes:
        raise ValueError(f"'{name}' has {stop - start} bytes, its shape needs {tensor.nbytes}")
    return tensor


def _place(tensor: StoredTensor) -> tuple[int, int]:
    return tensor.offset, tensor.nbytes


def _shard_names(folder: Path) -> list[str]:
    try:
        weight_map = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        return sorted(set(weight_map.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            "the index of a sharded checkpoint cannot be read", where=folder / INDEX, do="copy the checkpoint again"
        ) from error
