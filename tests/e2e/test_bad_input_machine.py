"""What the machine refuses: space, permissions, folders, memory. Exit 2, one message, nothing half-written, and the
same command goes on once the machine allows it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_input_cases import RECIPE, Case, Said, check, lay_out, rows, sacpo

from sacpo.align.trainer import AlignTrainer

SPACE = "free some space, then run the same command again"
DATA = ("data/demos", "data/pairs", "prompts/tuning", "prompts/report", "overlap")
SMALL: dict[str, Any] = {
    **{key: RECIPE[key] for key in ("name", "base", "data", "prompts")},
    "sft": RECIPE["sft"],
    "training": {"per_device_train_batch_size": 4, "max_steps": 2, "save_steps": 1},
    "evaluate": {**RECIPE["evaluate"], "judges": {}},
}
"""An experiment of data, a base and its fine-tuning, with a checkpoint on the way."""
FOLDERS = [
    Case(
        "below-a-file",
        argv=("run", "recipe.yaml", "--runs", "demos.jsonl/x"),
        what="a folder's path leads through a file",
        where="demos.jsonl/x",
        do="choose another folder (--runs",
    ),
    Case(
        "a-file",
        argv=("run", "recipe.yaml", "--runs", "here"),
        files={"here/tiny": "in the way"},
        what="a file stands where a folder is to be",
        where="here/tiny",
        do="move the file away",
    ),
    Case(
        "no-file-system",
        argv=("run", "recipe.yaml", "--runs", "/proc/sacpo"),
        what="no folder can be made here",
        where="/proc/sacpo",
        do="choose another folder",
    ),
    Case("long-name", argv=("run", "recipe.yaml", "--runs", "x" * 300), what="too long", where="xxx", do="shorter"),
    Case(
        "output-below-a-file",
        argv=("report", "results.json", "--out", "demos.jsonl/x"),
        files={"results.json": "{}"},
        what="a file stands where a folder is to be",
        where="demos.jsonl",
        do="--out",
    ),
]


@contextlib.contextmanager
def file_size(limit: int) -> Iterator[None]:
    """Let the system refuse to write more than so many bytes to a file, as it refuses on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("case", FOLDERS, ids=lambda case: case.name)
def test_a_folder_that_cannot_be_made(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(case)
    check(case, sacpo(case.argv, capsys, monkeypatch))


@pytest.mark.parametrize(
    ("code", "what"),
    [(errno.EROFS, "the folder is read-only"), (errno.EACCES, "no permission to write"), (errno.EDQUOT, "quota")],
)
def test_a_folder_that_is_read_only(
    code: int, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: the tests may run as a user to whom nothing is read-only."""
    monkeypatch.chdir(tmp_path)
    case = Case("read-only", what=what, where="runs", do="run" if code == errno.EDQUOT else "choose another folder")
    lay_out(case)

    def refused(path: Any, *args: Any, **kwargs: Any) -> None:
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refused)
        said = sacpo(case.argv, capsys, monkeypatch)
    check(case, said)
    assert not Path("runs").exists()


def test_a_run_folder_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    case = Case("locked", what="another process is working in this run folder", where="runs/tiny", do="wait until")
    lay_out(case)
    Path("runs/tiny").mkdir(parents=True)
    with Path("runs/tiny/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        check(case, sacpo(case.argv, capsys, monkeypatch))


MANY = {"demos.jsonl": rows(*({"prompt": f"say {i} " + "x" * 90, "completion": f"it is {i}"} for i in range(60)))}
"""Records that make a file of some 15 kB, longer than every other but the models."""
TINIEST = {"base.config.hidden_size": 2, "base.config.num_attention_heads": 1, "base.config.intermediate_size": 2}
"""A model that is smaller than its tokenizer."""
LIMITED = [
    ("the resolved recipe", 1_000, Case("", where="runs/tiny/recipe.yaml")),
    ("records", 10_000, Case("", files=MANY, where="data~demos")),
    ("weights by safetensors", 30_000, Case("", where="partial/base", kept=DATA)),
    ("a tokenizer", 6_400, Case("", TINIEST, where="partial/base", kept=DATA)),
    ("a checkpoint by torch", 60_000, Case("", where="partial/sft", kept=(*DATA, "base"))),
]


@pytest.mark.parametrize(("limit", "case"), [row[1:] for row in LIMITED], ids=[row[0] for row in LIMITED])
def test_a_file_that_cannot_be_written_whole(
    limit: int, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system itself refuses, so that every library says it in its own way."""
    monkeypatch.chdir(tmp_path)
    lay_out(case, SMALL)
    with file_size(limit):
        said = sacpo(case.argv, capsys, monkeypatch)
    torch_says_no_reason = case.where == "partial/sft"
    assert said.what.startswith("a file could not be written" if torch_says_no_reason else "a file grew larger"), said
    assert "run" in said.part("to do")
    check(case, said)
    assert sacpo(case.argv, capsys, monkeypatch).code == 0


FLUSHES = {1: "runs/tiny", 2: "data~demos", 5: "data~demos", 11: "data~pairs", 40: "partial/base", 60: "partial/sft"}
"""A flush to the disk, counted from the first: where the run was then."""


@pytest.mark.parametrize("number", FLUSHES)
def test_a_disk_that_fills_up(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated at the flush of a file, which is when a file system with delayed allocation says so.

    What was finished before is kept, and the run ends with the same bytes as one that had space.
    """
    monkeypatch.chdir(tmp_path)
    lay_out(Case("full"), SMALL)
    flush, count = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        said = sacpo(("run", "recipe.yaml"), capsys, monkeypatch)
    kept = finished()
    check(Case("full", what="no space left on the disk", where=FLUSHES[number], do=SPACE, kept=kept), said)
    assert count == number  # nothing was written after the first refusal
    assert sacpo(("run", "recipe.yaml"), capsys, monkeypatch).code == 0
    assert set(finished()) > set(kept)
    again = sacpo(("run", "recipe.yaml", "--runs", "afresh"), capsys, monkeypatch)
    assert again.code == 0
    model = "tiny/stages/sft/model/model.safetensors"
    assert (Path("runs") / model).read_bytes() == (Path("afresh") / model).read_bytes()


def finished() -> tuple[str, ...]:
    """The stages that hold a manifest."""
    return tuple(
        str(path.parent.relative_to("runs/tiny/stages")) for path in Path("runs").rglob("stages/**/manifest.json")
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["gpu", "torch", "python"],
)
def test_too_little_memory(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(Case("memory"), SMALL)

    def refused(*args: Any, **kwargs: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(AlignTrainer, "compute_loss", refused)
        said = sacpo(("run", "recipe.yaml"), capsys, monkeypatch)
    kept = (*DATA, "base")
    halve = "halve training.per_device_train_batch_size and double gradient_accumulation_steps"
    check(Case("memory", what="not enough memory for this training", where="sft", do=halve, kept=kept), said)


def test_a_finished_file_that_was_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(Case("corrupted"), SMALL)
    assert sacpo(("run", "recipe.yaml"), capsys, monkeypatch).code == 0
    weights = Path("runs/tiny/stages/base/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"oops")
    said = sacpo(("run", "recipe.yaml"), capsys, monkeypatch)
    check(Case("corrupted", what="is corrupted", where=str(weights), do="delete", kept=finished()), said)


PROCESSES = [
    Case("recipe", {"steps.0.beta": -1}, what="outside its range", where="recipe.yaml, steps.0.beta"),
    Case("data", files={"pairs.jsonl": "{"}, what="malformed JSON", where="pairs.jsonl, line 1", kept=("data/demos",)),
    Case("folder", argv=("run", "recipe.yaml", "--runs", "demos.jsonl"), what="leads through a file"),
]


@pytest.mark.parametrize("case", PROCESSES, ids=lambda case: case.name)
def test_a_process_of_its_own_says_the_same(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(case)
    main = "from sacpo.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", main, *case.argv], capture_output=True, text=True, check=False)
    check(case, Said(done.returncode, done.stdout, done.stderr))


def test_an_interrupt_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sacpo.pipeline.run.run", interrupted)
    lay_out(Case("whole"))
    said = sacpo(("run", "recipe.yaml", "--json"), capsys, monkeypatch)
    assert (said.code, said.out) == (130, "")
    assert said.err.strip() == "interrupted: the same command goes on from here"


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (("run",), "Missing argument 'RECIPE'"),
        (("run", "recipe.yaml", "--nonsense"), "No such option: --nonsense"),
        (("rum", "recipe.yaml"), "No such command 'rum'"),
        (("merge", "a", "b", "--q", "half", "--out", "o"), "Invalid value for '--q'"),
    ],
)
def test_a_command_that_is_not_one(
    argv: tuple[str, ...], what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = sacpo(argv, capsys, monkeypatch)
    assert said.code == 2
    assert what in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
