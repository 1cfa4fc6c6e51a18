"""What alignment costs elsewhere, in a whole run: the SFT model and the chosen one are asked, and the report tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_run import RUN, command

SET = ("--set", "evaluate.harness={tasks: [world_steps], limit: 24}")


def test_the_chosen_model_is_compared_with_the_sft_model(again: Callable[..., Path]) -> None:
    pytest.importorskip("lm_eval")
    folder = again("report", "chosen")
    done = command(folder, "run", "tiny.yaml", *SET)
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / RUN / "stages" / "report" / "results.json").read_text())
    chosen = results["selection"]["chosen"]
    assert [*results["harness"]] == ["sft", chosen]
    before, after = (results["harness"][name]["world_steps"] for name in ("sft", chosen))
    change = after["figures"]["acc"]["change"]
    values = [one["figures"]["acc"]["figure"]["value"] for one in (before, after)]
    assert change["value"] == pytest.approx(values[1] - values[0])
    assert before["n"] == change["n"] == 24
    assert "What alignment costs elsewhere" in (folder / RUN / "report.html").read_text()


def test_a_task_that_is_not_there_is_refused_before_anything_is_done(again: Callable[..., Path]) -> None:
    pytest.importorskip("lm_eval")
    folder = again("report", "chosen")
    done = command(folder, "run", "tiny.yaml", "--set", "evaluate.harness={tasks: [world_step]}")
    assert done.returncode == 2
    assert "world_steps" in done.stderr
    assert not (folder / RUN / "stages" / "report").exists()
