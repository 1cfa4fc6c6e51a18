"""What lies on the disk beside finished stages: working folders that nobody can go on from, and how much all takes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from sacpo.system.machine import machine_errors

KEY_SHOWN = 12
"""Letters of a key in the name of a working folder."""


def leftovers(folder: Path, live: Collection[str], before: str = "") -> list[Path]:
    """Return the working folders in a folder that are none of the live ones.

    Args:
        folder: Where stages work.
        live: Names of the working folders that somebody can go on from.
        before: What stands in front of the key in the names to look at; "": all names that end with a key.
    """
    if not folder.is_dir():
        return []
    name = re.compile(rf"{re.escape(before) or '.*-'}[0-9a-f]{{{KEY_SHOWN}}}")
    found = sorted(path for path in folder.iterdir() if name.fullmatch(path.name) and path.is_dir())
    return [path for path in found if path.name not in live]


def disk_use(*folders: Path) -> int:
    """Return the bytes of all files in folders."""
    return sum(path.lstat().st_size for folder in folders for path in folder.rglob("*") if not path.is_dir())


def remove(folders: Iterable[Path]) -> None:
    """Remove folders and all that is in them.

    Raises:
        MachineError: One may not be removed.
    """
    for folder in folders:
        with machine_errors(folder):
            shutil.rmtree(folder)
