"""What kills and changes leave on the disk: found, measured, removed on demand; full disks name where was written."""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sacpo.align.reference import cached
from sacpo.errors import DataError, MachineError, RunError
from sacpo.pipeline.single import do_single
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.system.leftovers import disk_use, leftovers, remove
from sacpo.system.machine import machine_error, machine_errors
from sacpo.system.progress import Progress
from sacpo.system.runs import RunFolder


def begin(out: Path) -> None:
    (out / "weights").write_bytes(b"x" * 1000)
    raise MachineError("killed")


def writes(out: Path) -> None:
    (out / "weights").write_bytes(b"x" * 10)


@dataclass(frozen=True)
class Written(Stage[None]):
    """Writes ten bytes."""

    beta: int
    name = "s"

    def work(self, out: Path, tools: Tools) -> None:
        writes(out)


@dataclass(frozen=True)
class Begun(Written):
    """Writes a thousand bytes and is killed."""

    def work(self, out: Path, tools: Tools) -> None:
        begin(out)


def test_what_earlier_keys_left_is_found_and_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    with folder:
        for beta in (1, 2):
            with pytest.raises(MachineError, match="killed"):
                folder.do("align/H@1", {"beta": beta}, {}, begin)
        live = ("align/H@1", folder.key("align/H@1", {"beta": 2}, {}))
        (folder.path / "partial" / "notes").mkdir()  # not made by this package
        (left,) = folder.leftovers([live])
        assert left == folder.partial("align/H@1", folder.key("align/H@1", {"beta": 1}, {}))
        assert disk_use(left) == 1000
        remove([left])
        assert folder.leftovers([live]) == []
        assert folder.leftovers([]) == [folder.partial(*live)]
        assert folder.partial(*live).is_dir()
    assert leftovers(tmp_path / "nowhere", ()) == []


def test_disk_use_is_of_all_files_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"1234567")
    (tmp_path / "a" / "y").write_bytes(b"123")
    (tmp_path / "big").write_bytes(b"1" * 10_000)
    (tmp_path / "a" / "to-big").symlink_to(tmp_path / "big")
    assert disk_use(tmp_path / "a") == 10 + (tmp_path / "a" / "to-big").lstat().st_size


def test_a_single_stage_says_what_other_arguments_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, progress = tmp_path / "o", Progress("quiet")
    (tmp_path / ".other-0123456789ab").mkdir()
    with pytest.raises(MachineError, match="killed"):
        do_single("s", Begun(1), out, progress)
    capsys.readouterr()
    do_single("s", Written(2), out, progress)
    (left,) = [path for path in tmp_path.glob(".o-*") if path.is_dir()]
    assert capsys.readouterr().err == f"{left} (1,000 bytes) is of a call with other arguments: delete it\n"
    remove([left])
    do_single("s", Written(2), out, progress)
    assert capsys.readouterr().err == ""


def test_a_folder_that_may_not_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, "denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refused)
    with pytest.raises(MachineError, match="no permission"):
        remove([tmp_path])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_names_what_was_written_and_not_its_source(code: int, tmp_path: Path) -> None:
    error = OSError(code, "full", "source/weights", None, "target/weights")
    with pytest.raises(MachineError) as caught, machine_errors(tmp_path):
        raise error
    assert caught.value.where == "target/weights"
    assert caught.value.do


def test_a_full_disk_while_a_folder_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "x").write_text("x")

    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))

    with pytest.raises(MachineError, match="no space left") as caught, machine_errors(tmp_path):
        shutil.copytree(tmp_path / "source", tmp_path / "target", copy_function=full)
    assert caught.value.where == str(tmp_path / "target" / "x")
    assert machine_error(shutil.Error([("a", "b", "something else")])) is None


def test_the_same_values_are_the_same_bytes(tmp_path: Path) -> None:
    values = torch.tensor([-1.5, -2.25])
    files = []
    for number in range(12):  # two entries of metadata would stand in either order
        files.append(tmp_path / f"{number}.safetensors")
        cached._write(files[-1], "key", values)
    assert len({file.read_bytes() for file in files}) == 1
    assert cached._read(files[0], "key").tolist() == values.tolist()
    with pytest.raises(RunError, match="corrupted"):
        cached._read(files[0], "another key")


def test_a_file_that_was_written_with_two_entries_is_read(tmp_path: Path) -> None:
    values = torch.tensor([-1.5])
    save_file({"logps": values}, tmp_path / "x", metadata={"key": "k", "sha256": cached._hash(values)})
    assert cached._read(tmp_path / "x", "k").tolist() == [-1.5]
    save_file({"logps": values + 1}, tmp_path / "x", metadata={"key": "k", "sha256": cached._hash(values)})
    with pytest.raises(RunError, match="corrupted"):
        cached._read(tmp_path / "x", "k")


def test_input_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    def refuse(out: Path) -> None:
        raise DataError("bad")

    folder = RunFolder(tmp_path / "r")
    with folder, pytest.raises(DataError):
        folder.do("s", {}, {}, refuse)
    assert folder.leftovers([]) == []
