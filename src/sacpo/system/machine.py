"""What the machine refuses (space, permissions, memory), told as an error that says what to do."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from sacpo.errors import MachineError

ELSEWHERE = "choose another folder (--runs, or --out)"
SPACE = "free some space, then run the same command again"
ADVICE = {
    errno.ENOSPC: ("no space left on the disk", SPACE),
    errno.EDQUOT: ("the disk quota is used up", SPACE),
    errno.EFBIG: (
        "a file grew larger than is allowed here",
        "raise the limit on file sizes (ulimit -f), then run again",
    ),
    errno.EIO: ("the disk cannot be read or written", "check the disk, or " + ELSEWHERE),
    errno.EROFS: ("the folder is read-only", ELSEWHERE),
    errno.EACCES: ("no permission to write", ELSEWHERE + ", or mend its permissions"),
    errno.EPERM: ("no permission to write", ELSEWHERE + ", or mend its permissions"),
    errno.ENOTDIR: ("a folder's path leads through a file", ELSEWHERE),
    errno.EEXIST: ("a file stands where a folder is to be", ELSEWHERE + ", or move the file away"),
    errno.ENAMETOOLONG: ("a name is too long for this disk", "give a shorter name or folder"),
    errno.EMFILE: ("too many files are open", "raise the limit on open files (ulimit -n), then run again"),
    errno.ENOMEM: ("not enough memory", "lower the batch size, or take a smaller model or dtype"),
}
RUST_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors and tokenizers tell of an error of the system, which they raise without its number."""
TORCH_WRITER = ("PytorchStreamWriter failed", "inline_container.cc")
OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")


class machine_errors:
    """Turn what the machine refuses (space, permissions, memory) into a `MachineError` that names file or path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        advice = _advice(error) if isinstance(error, Exception) else None
        if advice is not None:
            raise MachineError(advice[0], where=getattr(error, "filename", None) or self.path, do=advice[1]) from error


def _advice(error: Exception) -> tuple[str, str] | None:
    """Return what the machine refuses and what to do, or None for an error of another kind."""
    text = str(error)
    if isinstance(error, OSError):
        return ADVICE.get(error.errno or 0)
    if type(error).__name__ in OUT_OF_MEMORY or "DefaultCPUAllocator" in text:
        return ADVICE[errno.ENOMEM]
    number = RUST_ERROR.search(text)
    if number is not None:
        return ADVICE.get(int(number[1]))
    if isinstance(error, RuntimeError) and any(part in text for part in TORCH_WRITER):
        return (
            "a file could not be written to its end",
            "look whether the disk is full, then run the same command again",
        )
    return None
