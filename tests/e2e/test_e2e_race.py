"""A race: who violates a bound clearly is dropped early, whoever stays is measured as without a race."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_run import Process, command, results

LINE = ("run", "race.yaml", "--json")
MEASURED = ("H", "K", "H-S@0.1", "P@q0.25", "mixed")
BOUND = {"metric": "win_rate", "criterion": "helpfulness", "prompts": "tuning", "at_least": 0.8}


@pytest.fixture(scope="module")
def raced(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with a race whose bound most of the models break."""
    folder = tmp_path_factory.mktemp("race") / "work"
    shutil.copytree(finished, folder, symlinks=True)
    recipe = yaml.safe_load((folder / "tiny.yaml").read_text())
    recipe["evaluate"] |= {"race": {"first": 4, "confidence": 0.6}, "models": [*MEASURED]}
    recipe["constraints"] = [BOUND]
    (folder / "race.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    planned = json.loads(Process(folder, *LINE, "--dry-run").wait())
    assert planned["later"] == [
        "then, by what race/H/tuning finds: models that the race does not drop are measured, then everything behind it"
    ]
    names = [stage["name"] for stage in planned["stages"]]
    assert [name for name in names if name.startswith("race/")] == [f"race/{name}/tuning" for name in MEASURED]
    Process(folder, *LINE).wait()
    return folder


def stage(folder: Path, name: str) -> Path:
    return folder / "runs" / "tiny" / "stages" / name


def lines(folder: Path, name: str) -> list[Any]:
    return [json.loads(line) for line in stage(folder, name).read_text().splitlines()]


def asked(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what an answer or a verdict is of."""
    return row.get("prompt_id") or row["prompt"]["id"], row["sample"], row.get("criterion"), row.get("judge")


def test_dropped_models_have_answered_little_and_others_all(raced: Path) -> None:
    found = json.loads(results(raced))
    races = {name: of_one[0] for name, of_one in found["race"].items()}
    dropped = {name for name, race in races.items() if race["dropped"]}
    assert dropped and dropped < {*MEASURED}
    assert {*found["measures"]} == {"sft", *MEASURED} - dropped == {*found["selection"]["models"]}
    for name, race in races.items():
        assert race["answered"] == len(lines(raced, f"race/{name}/tuning/answers.jsonl"))
        assert (race["answered"] < race["of"] == 24) == (name in dropped)
        assert race["looks"][-1]["bounds"][0]["violated"] == (name in dropped)
        assert all(not look["bounds"][0]["violated"] for look in race["looks"][:-1])
    page = (raced / "runs" / "tiny" / "report.html").read_text()
    assert "Dropped early" in page
    assert f"{races[min(dropped)]['answered']} of 24" in page


def test_answers_and_verdicts_are_those_of_a_run_without_a_race(raced: Path, finished: Path) -> None:
    """They are in the same order; other rows in a batch may change the rounding, and so one answer in a hundred."""
    races = json.loads(results(raced))["race"]
    kept = [name for name, (race,) in races.items() if not race["dropped"]]
    for name in kept:
        for file in (f"generate/{name}/tuning/answers.jsonl", f"judge/{name}/tuning/verdicts.jsonl"):
            found, wanted = lines(raced, file), lines(finished, file)
            assert [asked(row) for row in found] == [asked(row) for row in wanted], file
            assert sum(a != b for a, b in zip(found, wanted, strict=True)) <= 4, file
    for name in {*MEASURED} - {*kept}:
        known = [asked(row) for row in lines(finished, f"judge/{name}/tuning/verdicts.jsonl")]
        assert {asked(row) for row in lines(raced, f"race/{name}/tuning/verdicts.jsonl")} < {*known}


def test_a_race_that_can_drop_nobody_is_refused(finished: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load((finished / "tiny.yaml").read_text())
    recipe["evaluate"]["race"] = {}
    recipe["constraints"] = [{"metric": "mean_tokens", "prompts": "tuning", "at_most": 15.0}]
    (tmp_path / "race.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    done = command(tmp_path, "validate", "race.yaml")
    assert (done.returncode, "no constraint can drop a model in the race" in done.stderr) == (2, True)
