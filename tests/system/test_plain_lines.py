"""Progress where standard error is no terminal: which lines, when, and when none."""

from __future__ import annotations

import re
import time

import pytest

from sacpo.system import plain_lines
from sacpo.system.plain_lines import Lines, Work, duration, speed
from sacpo.system.progress import Progress


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines since the last call, without the time that each begins with."""
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines), lines
    return [line[9:] for line in lines]


def test_lines_of_stages_with_their_number_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    """A kept stage is counted and not told; a stage that was not foreseen makes the number grow."""
    clock = Clock()
    lines = Lines(clock)
    lines.planned, lines.whole = 3, False
    lines.stage("data", "kept")
    clock.now += plain_lines.HELD
    lines.stage("sft", "start")
    clock.now += 75
    lines.stage("sft", "done")
    for name in ("align/H", "align/S"):
        lines.stage(name, "resume")
        clock.now += 3700
        lines.stage(name, "done")
    assert said(capsys) == [
        "stage 2 of at least 3, sft begins",
        "stage 2 of at least 3, sft done in 1 min 15 s",
        "stage 3 of at least 3, align/H goes on where it was",
        "stage 3 of at least 3, align/H done in 1 h 1 min",
        "stage 4 of at least 4, align/S goes on where it was",
        "stage 4 of at least 4, align/S done in 1 h 1 min",
    ]


def test_the_first_ten_seconds_are_held_back(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    lines.stage("align", "start")
    clock.now += 9.9
    lines.beat()
    assert said(capsys) == []
    assert lines.due() == pytest.approx(0.1)
    clock.now += 0.1
    lines.beat()
    assert said(capsys) == ["align begins"]
    assert lines.due() == pytest.approx(20)
    clock.now += 20
    lines.beat()
    assert said(capsys) == ["align: at work"]


def test_nothing_is_said_before_the_first_stage(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that is refused before it says its error alone, however long the look ahead took."""
    clock = Clock()
    lines = Lines(clock)
    lines.open(Work("preflight", 3, "checks", started=clock.now))
    clock.now += 500
    lines.beat()
    assert said(capsys) == []
    lines.stage("data", "start")
    assert said(capsys) == ["data begins"]


def test_long_work_says_step_loss_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    """Of 900 steps 600 were done before; 30 in 15 seconds are 2 a second, and 270 are left: 135 seconds."""
    clock = Clock()
    lines = Lines(clock)
    lines.planned = 7
    lines.stage("align/H", "start")
    lines.open(work := Work("H", 900, "step", started=clock.now + 15))
    work.done = work.before = 600
    clock.now += 30
    work.done, work.figures = 630, "loss 0.652"
    lines.beat()
    assert said(capsys) == [
        "stage 1 of 7, align/H begins",
        "stage 1 of 7, align/H: step 630 of 900, loss 0.652, 2.0 step/s, 2 min 15 s left",
    ]
    lines.open(Work("held-out pairs", 5, "batch", started=clock.now))
    clock.now += 29.9
    lines.beat()
    assert said(capsys) == []
    clock.now += 0.1
    lines.beat()
    assert said(capsys) == ["stage 1 of 7, align/H: held-out pairs: batch 0 of 5"]


def test_numbers_as_people_read_them() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.4, 60, 3600, 90_000)] == [
        "0 s", "59 s", "1 min 0 s", "1 h 0 min", "25 h 0 min",
    ]  # fmt: skip
    assert [speed(0.25, "answers"), speed(1234.5, "step")] == ["4.0 s/answer", "1,234.5 step/s"]


def test_a_thread_speaks_while_the_work_is_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_lines, "HELD", 0.0)
    monkeypatch.setattr(plain_lines, "EVERY", 0.2)
    with Progress("auto") as progress:
        assert progress.mode == "lines"
        progress.expect(2, True)
        progress.stage("sft", "start")
        with progress.task("sft", 4, "step") as task:
            task.skip(1)
            task.advance()
            task.figures("loss 1")
            time.sleep(1.0)
        progress.stage("sft", "done")
    lines = said(capsys)
    assert lines[0] == "stage 1 of 2, sft begins"
    assert lines[1].startswith("stage 1 of 2, sft: step 2 of 4, loss 1, ")
    assert lines[-1] == "stage 1 of 2, sft done in 1 s"


def test_a_quick_command_and_a_quiet_one_say_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Progress("auto") as progress:
        progress.stage("data", "start")
        progress.stage("data", "done")
    monkeypatch.setattr(plain_lines, "HELD", 0.0)
    with Progress("quiet") as progress:
        progress.stage("data", "start")
    assert capsys.readouterr() == ("", "")


def test_events_are_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("json") as progress:
        progress.expect(3, True)
        progress.stage("data", "start")
    assert capsys.readouterr() == ('{"event": "stage", "stage": "data", "state": "start"}\n', "")
