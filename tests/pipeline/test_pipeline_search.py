"""A run that decides as it goes: killed at any moment it ends as an unkilled one; its plan says what it knows."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
from pathlib import Path

from search_toy import Found, run_search, search

from sacpo.pipeline.run import plan_program
from sacpo.system.runs import MANIFEST, RunFolder

KILLS = 20


def content(run: Path) -> dict[str, str]:
    """Return the hash of every file of the finished stages; manifests hold times."""
    files = [path for path in (run / "stages").rglob("*") if path.is_file() and path.name != MANIFEST]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_search_killed_twenty_times_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    """Strength .5 has rate .25 <= .3, .75 has .5625, .625 has .390625: three trainings, and .5 is found."""
    run_search(tmp_path / "whole")
    expected = content(tmp_path / "whole")
    assert {name.split("/")[2] for name in expected if name.startswith("stages/train")} == {"0.5", "0.75", "0.625"}
    assert Found(0.5, ()).read(tmp_path / "whole" / "stages" / "found") == 0.5

    rng, fork, killed = random.Random(7), multiprocessing.get_context("fork"), 0
    while killed < KILLS:
        process = fork.Process(target=run_search, args=(tmp_path / "killed",))
        process.start()
        process.join(rng.uniform(0.001, 0.03))
        if process.is_alive():
            process.kill()
            killed += 1
        process.join()
        if process.exitcode == 0:  # it came to its end: from there, once more
            assert content(tmp_path / "killed") == expected
            (tmp_path / "killed").rename(tmp_path / f"ended-{killed}-{rng.random()}")
    run_search(tmp_path / "killed")
    assert content(tmp_path / "killed") == expected
    assert not [*(tmp_path / "killed" / "partial").iterdir()]


def test_a_plan_says_what_is_certain_and_what_depends_on_results(tmp_path: Path) -> None:
    """Before anything only the first training is certain; with the first two results, the third and its measure."""
    folder = RunFolder(tmp_path / "run")
    plan = plan_program(search, folder)
    assert [(status.stage.name, status.state) for status in plan.statuses] == [
        ("train/0.5", "open"),
        ("measure/0.5", "open"),
    ]
    assert plan.later == ["then, by what measure/0.5 finds: up to 2 more trainings"]
    run_search(tmp_path / "run")
    plan = plan_program(search, folder)
    assert {status.state for status in plan.statuses} == {"done"}
    assert [status.stage.name for status in plan.statuses][-1] == "found"
    assert plan.later == []
    plan = plan_program(search, folder, "measure/0.75")
    assert [(status.stage.name, status.state) for status in plan.statuses[2:]] == [
        ("train/0.75", "done"),
        ("measure/0.75", "open"),
    ]
    assert plan.later == ["then, by what measure/0.75 finds: up to 1 more trainings"]
