"""Run folders: content keys, atomic stages, manifests that vouch for themselves, locks."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacpo.data.records import Message, read_jsonl, write_jsonl
from sacpo.errors import DataError, MachineError, RunError, UserError
from sacpo.system.files import clear_temporary, content_key, file_hash, write_atomic, write_json
from sacpo.system.machine import machine_errors
from sacpo.system.runs import MANIFEST, RunFolder, verify

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def writes(text: str) -> Callable[[Path], None]:
    def work(out: Path) -> None:
        (out / "a").mkdir(exist_ok=True)
        (out / "a" / "x.txt").write_text(text)

    return work


def unwanted(out: Path) -> None:
    pytest.fail("this stage was done again")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    states: list[tuple[str, str]] = []
    made = RunFolder(tmp_path / "runs" / "r", on_stage=lambda stage, state: states.append((stage, state)))
    made.states = states  # type: ignore[attr-defined]
    return made


def test_a_key_is_the_hash_of_canonical_json() -> None:
    """sha256 of the 13 bytes {"a":1,"b":2}, as coreutils' sha256sum prints it."""
    assert content_key({"b": 2, "a": 1}) == "43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777"


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4), st.randoms())
def test_a_key_does_not_depend_on_the_order_of_names(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert content_key(dict(items)) == content_key(value)


@given(VALUES, VALUES)
def test_two_values_have_one_key_only_if_their_json_is_one(a: Any, b: Any) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (content_key(a) == content_key(b)) == same


CONFIGS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 2), max_size=3)


@given(st.sampled_from(["x", "y"]), st.sampled_from(["x", "y"]), CONFIGS, CONFIGS, CONFIGS, CONFIGS)
def test_a_stages_key_changes_with_name_config_and_inputs(s: str, t: str, c: Any, d: Any, i: Any, j: Any) -> None:
    run = RunFolder(Path("nowhere"))
    assert (run.key(s, c, i) == run.key(t, d, j)) == ((s, c, i) == (t, d, j))


def test_a_stage_is_done_once(folder: RunFolder) -> None:
    with folder:
        first = folder.do("s/t", {"beta": 0.1}, {"data": "k"}, writes("one"))
        again = folder.do("s/t", {"beta": 0.1}, {"data": "k"}, unwanted)
    assert first == again
    assert first.path == folder.path / "stages" / "s" / "t"
    assert (first.path / "a" / "x.txt").read_text() == "one"
    assert folder.states == [("s/t", "start"), ("s/t", "done"), ("s/t", "kept")]  # type: ignore[attr-defined]


def test_a_manifest_says_what_was_read_and_written(folder: RunFolder) -> None:
    with folder:
        done = folder.do("s", {"beta": 0.1}, {"data": "k"}, writes("one"))
    manifest = done.manifest()
    assert {key: manifest[key] for key in ("stage", "key", "config", "inputs")} == {
        "stage": "s",
        "key": folder.key("s", {"beta": 0.1}, {"data": "k"}),
        "config": {"beta": 0.1},
        "inputs": {"data": "k"},
    }
    assert manifest["files"] == {"a/x.txt": {"sha256": file_hash(done.path / "a" / "x.txt"), "bytes": 3}}
    assert {"sacpo", "python", "torch", "transformers"} <= manifest["versions"].keys()


def test_another_config_replaces_and_leaves_nothing_behind(folder: RunFolder) -> None:
    with folder:
        folder.do("s", {"beta": 1}, {}, writes("one"))
        done = folder.do("s", {"beta": 2}, {}, writes("two"))
    assert (done.path / "a" / "x.txt").read_text() == "two"
    assert not [*(folder.path / "partial").iterdir()]


def test_what_a_failed_stage_left_is_resumed_and_half_files_go(folder: RunFolder) -> None:
    def fails(out: Path) -> None:
        writes("half")(out)
        (out / "a" / ".y.json.1.tmp").write_text("{")
        raise ValueError("killed")

    def goes_on(out: Path) -> None:
        assert sorted(path.name for path in (out / "a").iterdir()) == ["x.txt"]
        assert (out / "a" / "x.txt").read_text() == "half"
        writes("whole")(out)

    with folder:
        with pytest.raises(ValueError, match="killed"):
            folder.do("s", {}, {}, fails)
        assert not folder.final("s").exists()
        done = folder.do("s", {}, {}, goes_on)
    assert (done.path / "a" / "x.txt").read_text() == "whole"
    assert folder.states == [("s", "start"), ("s", "resume"), ("s", "done")]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("error", "kept"), [(DataError, False), (MachineError, True)])
def test_what_was_begun_on_refused_input_goes_and_what_can_go_on_stays(
    error: type[UserError], kept: bool, folder: RunFolder
) -> None:
    def refuses(out: Path) -> None:
        writes("half")(out)
        raise error("refused")

    with folder:
        with pytest.raises(error):
            folder.do("s", {}, {}, refuses)
        assert folder.partial("s", folder.key("s", {}, {})).exists() is kept


def test_a_complete_folder_only_needs_its_place(folder: RunFolder) -> None:
    with folder:
        done = folder.do("s", {}, {}, writes("one"))
        done.path.rename(folder.partial("s", done.key))
        assert folder.do("s", {}, {}, unwanted) == done
        done.path.rename(folder.partial("s", done.key))
        (folder.partial("s", done.key) / "a" / "x.txt").write_text("two")
        with pytest.raises(RunError, match="corrupted"):
            folder.do("s", {}, {}, unwanted)


def test_replaced_stages_that_a_kill_left_are_removed(folder: RunFolder) -> None:
    left = folder.path / "partial" / ".old-s-0123"
    left.mkdir(parents=True)
    (left / "big").write_text("x")
    with folder:
        assert not left.exists()


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_no_flipped_bit_of_a_manifest_goes_unseen(tmp_path_factory: Any, place: int, bit: int) -> None:
    """Wherever a bit flips, the manifest is refused and named, unless its JSON still says the very same."""
    run = RunFolder(tmp_path_factory.mktemp("run"))
    with run:
        done = run.do("s", {"beta": 0.1}, {"data": "k"}, writes("one"))
    path = done.path / MANIFEST
    good = json.loads(path.read_text())
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        same = json.loads(data) == good
    except ValueError:
        same = False
    if same:
        assert run.is_done("s", done.key)
    else:
        with pytest.raises(RunError, match="manifest") as caught:
            run.is_done("s", done.key)
        assert caught.value.where == path


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "missing"])
def test_damage_is_named(damage: str, folder: RunFolder) -> None:
    with folder:
        done = folder.do("s", {}, {}, writes("one"))
    file = done.path / "a" / "x.txt"
    if damage == "missing":
        file.unlink()
    else:
        file.write_text({"flipped": "onf", "cut": "on", "longer": "onee"}[damage])
    with pytest.raises(RunError, match="missing" if damage == "missing" else "corrupted") as caught:
        verify(done.path)
    assert caught.value.where == file
    fresh = RunFolder(folder.path)
    with fresh, pytest.raises(RunError):
        fresh.do("s", {}, {}, unwanted)


def test_the_second_holder_is_refused_until_the_first_is_gone(folder: RunFolder) -> None:
    second = RunFolder(folder.path)
    with folder, pytest.raises(RunError, match="another process"), second:
        pass
    with second:
        pass


def test_a_lock_file_that_its_holder_removed_locks_nothing(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened before the holder removed it, locked after: the lock is on a file that nobody else would look at."""
    import fcntl

    locked = fcntl.flock

    def remove_first(file: Any, how: int) -> None:
        folder.lock_file.unlink()
        locked(file, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with pytest.raises(RunError, match="another process"), folder:
        pass
    monkeypatch.setattr(fcntl, "flock", locked)
    with folder:
        pass


def test_redo_does_a_finished_stage_again(folder: RunFolder) -> None:
    with folder:
        folder.do("s", {}, {}, writes("one"))
        folder.do("s", {}, {}, writes("two"), again=True)
    assert (folder.final("s") / "a" / "x.txt").read_text() == "two"


def test_a_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": [1.5]})
    assert path.read_text() == '{\n  "b": 1,\n  "a": [\n    1.5\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="no space left") as caught:
        write_atomic(path, "new")
    assert str(caught.value.where) == str(path)
    assert path.read_text().startswith('{\n  "b": 1')
    clear_temporary(tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("code", "said"),
    [(errno.ENOSPC, "no space"), (errno.EDQUOT, "quota"), (errno.EROFS, "read-only"), (errno.EACCES, "no permission")],
)
def test_machine_errors_say_what_to_do(code: int, said: str) -> None:
    with pytest.raises(MachineError, match=said) as caught, machine_errors(Path("runs/x")):
        raise OSError(code, "bad")
    assert str(caught.value.where) == "runs/x"
    assert caught.value.do


def test_a_table_that_numpy_could_write_in_part_only_is_told_as_the_disks_refusal() -> None:
    """Its error has no number of the system's, just how many values were written."""
    with pytest.raises(MachineError, match="could not be written to its end") as caught, machine_errors(Path("runs/x")):
        np.ones(100_000).tofile("/dev/full")
    assert (str(caught.value.where), "disk is full" in str(caught.value.do)) == ("runs/x", True)


def test_other_errors_pass() -> None:
    with pytest.raises(OSError, match="bad") as caught, machine_errors(Path("runs/x")):
        raise OSError(errno.ENOENT, "bad")
    assert not isinstance(caught.value, MachineError)


def test_half_of_a_surrogate_pair_is_written_in_escapes_and_all_else_as_it_is(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ü": "m\ud83d"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"ü": "m\ud83d"}
    assert (tmp_path / "a.json").read_text() == '{\n  "\\u00fc": "m\\ud83d"\n}\n'
    write_json(tmp_path / "b.json", {"ü": "😀"})
    assert (tmp_path / "b.json").read_text() == '{\n  "ü": "😀"\n}\n'
    record = Message("user", "half \udc00")
    assert write_jsonl(tmp_path / "c.jsonl", [record]) == 1
    assert read_jsonl(tmp_path / "c.jsonl", Message) == [record]
