"""Locks on files: what one process works on, no other may; the lock of a killed process is free."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sacpo.errors import MachineError, RunError
from sacpo.system.machine import ELSEWHERE, machine_errors


@contextmanager
def locked(file: Path, busy: str, *, where: Path | str, do: str) -> Iterator[None]:
    """Hold the lock of a file, which is made if absent and names its holder while it is held.

    Args:
        file: The file to lock.
        busy: What is wrong where another process holds it.
        where: What the file stands for, such as its folder.
        do: What to do then.

    Raises:
        RunError: Another process holds it; the message names that process.
        MachineError: The file cannot be made.
    """
    with _opened(file) as lock:
        if not _taken(lock, file):
            raise RunError(busy, where=where, value=_holder(lock), do=do)
        with machine_errors(file):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield
        finally:
            lock.truncate(0)


def _opened(file: Path) -> BinaryIO:
    with machine_errors(file.parent):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            return file.open("a+b", buffering=0)
        except FileNotFoundError as error:  # what a file system answers that holds no files, such as /proc
            raise MachineError("no folder can be made here", where=file.parent, do=ELSEWHERE) from error


def _taken(lock: BinaryIO, file: Path) -> bool:
    """Take the lock, or tell that it is held or that its holder removed the file since it was opened."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock.fileno()), file.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _holder(lock: BinaryIO) -> str | None:
    """Return what the holder wrote; None where it has written nothing yet."""
    lock.seek(0)
    return lock.read().decode("utf-8", "replace") or None
