"""Exit codes: 1 says that a training diverged and nothing else; what nobody foresaw is 70, with a saved traceback."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_input_cases import Case, lay_out, sacpo

from sacpo import errors
from sacpo.cli import command_line
from sacpo.system.machine import machine_error

MAIN = "from sacpo.cli import main; main()"
CAPABILITIES = {"CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2}


def interruptible() -> None:
    """Hear Ctrl-C even where this process was started in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def raising(error: BaseException) -> object:
    def load(*args: object, **kwargs: object) -> None:
        raise error

    return load


def test_what_nobody_foresaw_is_one_line_and_a_saved_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sacpo.recipe.load_recipe", raising(ZeroDivisionError("a\nb " + "c" * 500)))
    said = sacpo(("validate", "recipe.yaml"), capsys, monkeypatch)
    assert said.code == 70
    found = re.fullmatch(
        r"error: something unforeseen \(ZeroDivisionError: a b c+…\); its traceback is in (.+)\n", said.err
    )
    assert found is not None, said.err
    trace = Path(found[1])
    try:
        text = trace.read_text()
    finally:
        trace.unlink()
    assert "Traceback" in text
    assert "in validate" in text
    assert text.rstrip().endswith("c" * 500)


def test_where_no_file_can_be_written_the_traceback_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.mkstemp", raising(OSError(errno.ENOSPC, "full")))
    monkeypatch.setattr("sacpo.recipe.load_recipe", raising(LookupError("x")))
    said = sacpo(("validate", "recipe.yaml"), capsys, monkeypatch)
    assert said.code == 70
    assert said.err.startswith("Traceback")
    assert said.err.endswith("error: something unforeseen (LookupError: x); its traceback stands above\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TrainingDiverged("the loss is NaN"), 1),
        (errors.DataError("bad"), 2),
        (errors.SacpoError("x"), 70),
        (MemoryError(), 2),
        (IsADirectoryError(errno.EISDIR, "is a directory", "x"), 2),
        (FileNotFoundError(errno.ENOENT, "no such file", "x"), 2),
        (OSError("nothing is known"), 70),
        (AssertionError(), 70),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(errno.EPIPE, "broken pipe"), 141),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_every_kind_of_error_has_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = sys.stdout, sys.stderr
    monkeypatch.setattr("sacpo.recipe.load_recipe", raising(error))
    said = sacpo(("validate", "recipe.yaml"), capsys, monkeypatch)
    sys.stdout, sys.stderr = out, err  # typer replaces them when a pipe was closed
    assert said.code == code
    for trace in re.findall(r"traceback is in (\S+)", said.err):
        Path(trace).unlink()


def test_a_command_that_is_terminated_says_that_it_goes_on(tmp_path: Path) -> None:
    waits = "import sacpo.recipe, time, pathlib\n"
    waits += "def load(*a, **k): pathlib.Path('there').touch(); time.sleep(60)\nsacpo.recipe.load_recipe = load\n"
    line = [sys.executable, "-c", waits + MAIN, "validate", "x.yaml"]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible)
        until = time.monotonic() + 60
        while not (tmp_path / "there").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(number)
        assert process.communicate(timeout=60)[1] == "interrupted: the same command goes on from here\n"
        assert process.returncode == code
        (tmp_path / "there").unlink()


def test_the_handler_of_whoever_calls_comes_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    sacpo(("validate", "nowhere.yaml"), capsys, monkeypatch)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_argument_that_is_no_text_is_refused() -> None:
    line = [sys.executable, "-c", MAIN, "validate", b"\xff.yaml"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: an argument is not valid UTF-8\n")
    assert "\\udcff" in done.stderr


def test_a_closed_pipe_is_no_divergence() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-c", MAIN, "schema"]
    done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_under_standard_output_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        line = [sys.executable, "-c", MAIN, "schema"]
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no space left on the disk\n")


@contextlib.contextmanager
def no_privilege() -> Iterator[None]:
    """Let permissions hold for this process too, if it is root's: drop what lets it read everything, for a while."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    data = (ctypes.c_uint32 * 6)(*before)
    for bit in CAPABILITIES.values():
        data[0] &= ~(1 << bit)  # effective only, so that it can be had back
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def read_rights_hold(folder: Path) -> bool:
    file = folder / "closed"
    file.write_text("x")
    file.chmod(0)
    try:
        with no_privilege():
            file.read_text()
    except PermissionError:
        return True
    return False


@pytest.mark.parametrize(
    ("closed", "argv"),
    [
        ("recipe.yaml", ("validate", "recipe.yaml")),
        ("recipe.yaml", ("run", "recipe.yaml")),
        ("pairs.jsonl", ("run", "recipe.yaml")),
        ("pairs.jsonl", ("run", "recipe.yaml", "--dry-run")),
        ("tuning.jsonl", ("run", "recipe.yaml")),
        ("runs", ("run", "recipe.yaml")),
        ("runs/tiny", ("run", "recipe.yaml")),
        ("answers.jsonl", ("judge", "answers.jsonl", "--criterion", "refusal", "--out", "out")),
        ("answers", ("judge", "answers", "--criterion", "refusal", "--out", "out")),
        ("panel.yaml", ("judge", "answers.jsonl", "--panel", "panel.yaml", "--rubric", "helpfulness", "--out", "out")),
        ("rubric.yaml", ("judge", "answers.jsonl", "--llm", "m", "--rubric", "rubric.yaml", "--out", "out")),
        ("results.json", ("report", "results.json", "--out", "out")),
        ("results", ("report", "results", "--out", "out")),
        ("judged", ("select", "judged")),
        ("pairs.jsonl", ("align", "base", "--data", "pairs.jsonl", "--out", "out")),
        ("demos.jsonl", ("sft", "base", "--data", "demos.jsonl", "--out", "out")),
        ("base", ("sft", "base", "--data", "demos.jsonl", "--out", "out")),
        ("base/config.json", ("sft", "base", "--data", "demos.jsonl", "--out", "out")),
        ("base", ("merge", "base", "other", "--q", "0.5", "--out", "out")),
        ("verdicts.jsonl", ("stats", "verdicts.jsonl")),
        ("answers.jsonl", ("label", "answers.jsonl", "--annotator", "a", "--store", "s.sqlite")),
        ("inside", ("report", "results.json", "--out", "inside/out")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_may_not_be_read_is_named(
    closed: str,
    argv: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not read_rights_hold(tmp_path):
        pytest.skip("here everybody may read everything")
    monkeypatch.chdir(tmp_path)
    lay_out(Case("closed"))
    for folder in ("runs/tiny", "answers", "results", "judged", "base", "other", "inside"):
        Path(folder).mkdir(parents=True)
    for name in ("answers.jsonl", "results.json", "panel.yaml", "rubric.yaml", "verdicts.jsonl", "base/config.json"):
        Path(name).write_text('{"prompt": "how are you", "output": "well"}\n')
    Path(closed).chmod(0)
    try:
        with no_privilege():
            said = sacpo(argv, capsys, monkeypatch)
    finally:
        Path(closed).chmod(0o755)
    assert said.code == 2, said
    assert said.err.startswith("error: "), said.err
    assert "ermission" in said.what, said.err
    assert closed.split("/")[0] in said.part("where"), said.err


def test_reading_and_writing_are_told_apart(tmp_path: Path) -> None:
    if not read_rights_hold(tmp_path):
        pytest.skip("here everybody may read everything")
    refused = PermissionError(errno.EACCES, "denied", str(tmp_path / "closed"))
    with no_privilege():
        found = machine_error(refused)
    assert found is not None
    assert found.what == "no permission to read"
    (tmp_path / "closed").chmod(0o400)
    with no_privilege():
        found = machine_error(refused)
    assert found is not None
    assert found.what == "no permission to write"


def test_the_help_lists_the_exit_codes() -> None:
    text = command_line.main.__doc__ or ""
    assert all(f"{code} " in text for code in (0, 1, 2, 70, 130, 141, 143))
