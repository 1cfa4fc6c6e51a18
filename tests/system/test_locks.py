"""Locks on files: one holder at a time, who is named, and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sacpo.errors import MachineError, RunError
from sacpo.system.locks import locked

BUSY = "somebody works here"


def test_a_second_holder_is_refused_and_the_first_is_named(tmp_path: Path) -> None:
    file = tmp_path / "new" / ".lock"
    with locked(file, BUSY, where="here", do="wait"):
        with pytest.raises(RunError, match=BUSY) as caught, locked(file, BUSY, where="here", do="wait"):
            pass
        assert str(caught.value.value).startswith(f"process {os.getpid()} on ")
        assert (caught.value.where, caught.value.do) == ("here", "wait")
    with locked(file, BUSY, where="here", do="wait"):
        assert file.read_text().startswith(f"process {os.getpid()} on ")


def test_a_free_lock_names_nobody_even_after_an_error(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with pytest.raises(ZeroDivisionError), locked(file, BUSY, where="here", do="wait"):
        raise ZeroDivisionError
    assert file.read_bytes() == b""


def test_what_a_killed_holder_wrote_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    file.write_text("process 999999999 on a machine with a long name")
    with locked(file, BUSY, where="here", do="wait"):
        assert file.read_text().startswith(f"process {os.getpid()} on ")
        assert "999999999" not in file.read_text()


def test_a_file_system_without_files_is_named() -> None:
    with (
        pytest.raises(MachineError, match="no folder can be made here"),
        locked(Path("/proc/none/.lock"), BUSY, where="here", do="wait"),
    ):
        pass
