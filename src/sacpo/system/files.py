"""Files that are whole or absent, flushed to the disk, and known by their content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sacpo.plain import JsonObject
from sacpo.system.machine import machine_errors
from sacpo.system.visible import json_text

TEMPORARY = ".tmp"


def content_key(value: object) -> str:
    """Return the SHA-256 of a value's canonical JSON, as 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what stands there in the end is flushed and takes the file's place.

    A reader sees the old content or the new, never half of it.

    Raises:
        MachineError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    with machine_errors(path):
        yield temporary
        sync(temporary)
        temporary.replace(path)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never half of it; text is UTF-8."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, atomically; NaN is refused because it is not JSON."""
    write_atomic(path, json_text(value, indent=2) + "\n")


def read_json(path: Path) -> JsonObject:
    """Return the JSON object that this package wrote into a file."""
    found: JsonObject = json.loads(path.read_text(encoding="utf-8"))
    return found


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_temporary(folder: Path) -> None:
    """Remove the half-written files that a killed process left in a folder; nobody else may be writing there."""
    for path in folder.rglob(f".*{TEMPORARY}"):
        path.unlink()
