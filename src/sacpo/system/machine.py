"""What the machine refuses (space, permissions, memory), told as an error that says what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import traceback
from pathlib import Path

from sacpo.errors import MachineError

ELSEWHERE = "choose another folder (--runs, or --out)"
SPACE = "free some space, then run the same command again"
NOT_WRITABLE, NOT_READABLE = "no permission to write", "no permission to read"
ADVICE = {
    errno.ENOSPC: ("no space left on the disk", SPACE),
    errno.EDQUOT: ("the disk quota is used up", SPACE),
    errno.EFBIG: (
        "a file grew larger than is allowed here",
        "raise the limit on file sizes (ulimit -f), then run again",
    ),
    errno.EIO: ("the disk cannot be read or written", "check the disk, or " + ELSEWHERE),
    errno.EROFS: ("the folder is read-only", ELSEWHERE),
    errno.EACCES: (NOT_WRITABLE, ELSEWHERE + ", or mend its permissions"),
    errno.EPERM: (NOT_WRITABLE, ELSEWHERE + ", or mend its permissions"),
    errno.ENOTDIR: ("a folder's path leads through a file", ELSEWHERE),
    errno.EEXIST: ("a file stands where a folder is to be", ELSEWHERE + ", or move the file away"),
    errno.ENAMETOOLONG: ("a name is too long for this disk", "give a shorter name or folder"),
    errno.EMFILE: ("too many files are open", "raise the limit on open files (ulimit -n), then run again"),
    errno.ENOMEM: ("not enough memory", "lower the batch size, or take a smaller model or dtype"),
}
WRITTEN_IN_PART = (
    "a file could not be written to its end",
    "look whether the disk is full, then run the same command again",
)
READING = {
    errno.ENOENT: ("no such file or folder", "check the path"),
    errno.EISDIR: ("a folder, where a file belongs", "give a file"),
    errno.ENOTDIR: ("a file, where a folder belongs", "give a folder"),
    errno.ELOOP: ("a link that leads to itself", "mend the link"),
}
"""What else a path can be that was to be read."""
LONGEST_WORD = 200
UNFORESEEN = 70
"""The exit code of an error that nobody foresaw (EX_SOFTWARE of sysexits.h)."""
RUST_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors and tokenizers tell of an error of the system, which they raise without its number."""
COPY_ERROR = re.compile(r"\[Errno (\d+)\]")
TORCH_WRITER = ("PytorchStreamWriter failed", "inline_container.cc")
NUMPY_WRITER = re.compile(r"\d+ requested and \d+ written")
"""How numpy tells that a file could not be written to its end, without the system's number."""
OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")


class machine_errors:
    """Turn what the machine refuses (space, permissions, memory) into a `MachineError` that names file or path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        refused = machine_error(error, self.path) if isinstance(error, Exception) else None
        if refused is not None:
            raise refused from error


def machine_error(error: Exception, path: Path | None = None) -> MachineError | None:
    """Return what the machine refuses as an error that names the file, or else `path`; None for other errors."""
    advice = _advice(error)
    if advice is None:
        return None
    where = _target(error) or getattr(error, "filename", None) or path
    if advice[0] == NOT_WRITABLE and where is not None and _unreadable(Path(str(where))):
        advice = (NOT_READABLE, "mend its permissions (chmod), or give another")
    return MachineError(advice[0], where=where, do=advice[1])


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error is about memory: Python's, a device's, or that of torch on a CPU."""
    return type(error).__name__ in OUT_OF_MEMORY or "DefaultCPUAllocator" in str(error)


def _target(error: Exception) -> str | None:
    """Return where a copy was to be written, if that is what has no room; the system's error names its source first."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][1])
    number = error.errno if isinstance(error, OSError) else None
    return getattr(error, "filename2", None) if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else None


def _unreadable(path: Path) -> bool:
    """Tell whether a file or folder is there, or cannot be looked for, and may not be read."""
    try:
        needed = os.R_OK | (os.X_OK if path.is_dir() else 0)
        own = os.access in os.supports_effective_ids
        return path.exists() and not os.access(path, needed, effective_ids=own)
    except PermissionError:
        return True


def unreadable(error: Exception) -> MachineError | None:
    """Return an error about a file that was to be read, met where nobody expected one; None for other errors."""
    path = getattr(error, "filename", None)
    reading = READING.get(error.errno or 0) if isinstance(error, OSError) and path else None
    return machine_error(error) if reading is None else MachineError(reading[0], where=path, do=reading[1])


def unforeseen(error: BaseException) -> str:
    """Return one line about an error that nobody foresaw, whose traceback is saved beside the system's other files."""
    trace = "".join(traceback.format_exception(error))
    said = " ".join(f"{type(error).__name__}: {error}".split())
    said = said if len(said) <= LONGEST_WORD else said[: LONGEST_WORD - 1] + "…"
    try:
        handle, name = tempfile.mkstemp(prefix="sacpo-traceback-", suffix=".txt", text=True)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(trace)
    except OSError:
        return f"{trace}error: something unforeseen ({said}); its traceback stands above"
    return f"error: something unforeseen ({said}); its traceback is in {name}"


def _advice(error: Exception) -> tuple[str, str] | None:
    """Return what the machine refuses and what to do, or None for an error of another kind."""
    text = str(error)
    if isinstance(error, shutil.Error):  # of a whole folder: texts only
        number = COPY_ERROR.search(text)
        return ADVICE.get(int(number[1])) if number else None
    if isinstance(error, OSError):
        return WRITTEN_IN_PART if NUMPY_WRITER.fullmatch(text) else ADVICE.get(error.errno or 0)
    if isinstance(error, RuntimeError) and text.startswith(("Could not determine home", "Symlink loop")):  # pathlib's
        return text[:1].lower() + text[1:].rstrip("."), "write the path out, or mend the link"
    if out_of_memory(error):
        return ADVICE[errno.ENOMEM]
    number = RUST_ERROR.search(text)
    if number is not None:
        return ADVICE.get(int(number[1]))
    if isinstance(error, RuntimeError) and any(part in text for part in TORCH_WRITER):
        return WRITTEN_IN_PART
    return None
