"""The benchmark of waiting threads measures every setting, and leaves the environment as it was."""

from __future__ import annotations

import os
from typing import Any

import pytest

from benchmarks import threads
from benchmarks.threads import NAMES, SETTINGS, score, steps, table
from sacpo.system.threads import let_threads_sleep


def test_every_setting_is_measured_and_none_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each side is a process that has its setting and no other; what the user had set comes back."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "9")
    seen: list[dict[str, str | None]] = []

    def run(module: str, *arguments: str) -> dict[str, Any]:
        seen.append({name: os.environ.get(name) for name in NAMES})
        return {"seconds": float(len(seen))}

    monkeypatch.setattr(threads, "run_side", run)
    monkeypatch.setattr(threads, "BUSY", "")
    before = {**os.environ}
    lines = table(1).splitlines()
    assert dict(os.environ) == before
    assert [{name: value for name, value in own.items() if value is not None} for own in seen] == [
        setting for _ in range(2) for setting in SETTINGS.values() for _ in range(2)
    ]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == [*SETTINGS]
    assert lines[2].split(" | ")[1:] == [f"{n}.0 ({n}.0 to {n}.0)" for n in (1, 7, 2)] + ["8.0 (8.0 to 8.0) |"]


def test_both_kinds_of_work_are_done() -> None:
    assert steps(2) > 0 and score(90) > 0


def test_the_last_setting_is_what_the_command_line_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    let_threads_sleep()
    assert {name: os.environ[name] for name in NAMES} == [*SETTINGS.values()][-1]
