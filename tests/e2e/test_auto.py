"""A run that finds a strength: what it leaves, what a dry run says of it, and that a killed one ends the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from sacpo.errors import DataError
from sacpo.pipeline.run import plan, run
from sacpo.pipeline.runner import Runner
from sacpo.recipe import Recipe, parse_recipe
from sacpo.recipe.schema import WorldSpec
from sacpo.system.runs import MANIFEST
from sacpo.world import World

TINY = Path(__file__).with_name("tiny.yaml")
pytestmark = pytest.mark.slow


def recipe(*overrides: str) -> Recipe:
    """Return the tiny recipe cut down to its two steps, the second of which is searched for."""
    given: dict[str, Any] = yaml.safe_load(TINY.read_text())
    del given["data"]["heldout"], given["evaluate"]["judges"]["learned"], given["theory"]
    given["steps"] = [step for step in given["steps"] if step["name"] != "K"]
    given["steps"][1] |= {"beta": "auto", "search": {"samples": 4, "unit": "prompt"}}
    given["merge"] = [{"name": "P", "models": ["H", "H-S"], "q": 0.5}]
    given["prompts"]["report"]["limit"] = 8
    given["constraints"][0]["at_most"] = 0.5
    return parse_recipe(given, overrides)


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file of the finished stages; manifests hold times."""
    files = [path for path in (folder / "stages").rglob("*") if path.is_file() and path.name != MANIFEST]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def done(undrawn: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("auto")
    run(recipe(), runs=runs, preflight=False)
    return runs


def test_the_kept_strength_stands_for_the_step(done: Path) -> None:
    results = json.loads((done / "tiny/stages/report/results.json").read_text())
    search = results["plan"]["H-S"]
    tried = [training["beta"] for training in search["trainings"]]
    assert 1 <= len(tried) <= 3
    met = [training["beta"] for training in search["trainings"] if training["met"]]
    assert search["kept"] == (max(met) if met else search["kept"])
    assert search["model"] == f"H-S@{search['kept']:g}"
    assert search["trainings"][0]["beta"] == search["forecast"]["start"]
    assert results["recipe"]["steps"][1]["beta"] == tried
    assert results["models"]["P"]["parents"] == ["H", search["model"]]
    assert {f"H-S@{beta:g}" for beta in tried} <= {*results["measures"]}
    check = search["trainings"][0]["checks"][0]
    own = results["measures"][search["trainings"][0]["model"]]["tuning"]["metrics"]["unsafe_rate"]
    assert check["value"] == own["value"]
    assert check["end"] <= own["ci95"][1]  # one-sided 95 % lies below the end of the two-sided 95 % interval
    page = (done / "tiny/stages/report/report.html").read_text()
    assert "How the strength was found" in page


def test_a_dry_run_says_what_is_certain_and_what_follows(done: Path, tmp_path: Path) -> None:
    planned = plan(recipe(), runs=tmp_path)
    assert planned.statuses[-1].stage.name == "plan/forecast/H-S"
    assert planned.later == [
        "then, by what plan/forecast/H-S finds: H-S is trained at up to 3 strengths, and each is measured"
    ]
    planned = plan(recipe(), runs=done)
    assert planned.later == []
    assert {status.state for status in planned.statuses} == {"done"}
    redone = plan(recipe(), runs=done, start="plan/forecast")
    assert redone.later


def test_a_killed_search_goes_on_to_the_same_end(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in front of every stage of the search, one after the other, it does each stage once and ends the same."""
    shutil.copytree(done / "tiny", tmp_path / "tiny")
    names = [path.parent.relative_to(done / "tiny/stages") for path in (done / "tiny/stages").rglob(MANIFEST)]
    late = ("plan", "report", "chosen", "select", "measure", "judge")
    for name in names:
        if str(name).startswith(late):
            shutil.rmtree(tmp_path / "tiny/stages" / name)
    original, new, reached = Runner.__call__, 0, set[str]()

    def dies(self: Runner, stage: Any) -> Any:
        if stage.name.startswith("plan/") and stage.name not in reached:
            reached.add(stage.name)
            raise KeyboardInterrupt
        return original(self, stage)

    monkeypatch.setattr(Runner, "__call__", dies)
    while True:
        try:
            run(recipe(), runs=tmp_path, preflight=False)
            break
        except KeyboardInterrupt:
            new += 1
    assert new >= 7  # samples and verdicts of two models, the forecast, a trial or more, what was found
    assert content(tmp_path / "tiny") == content(done / "tiny")


def test_too_few_tuning_prompts_are_refused_before_the_step_is_trained(done: Path, tmp_path: Path) -> None:
    """Eight restricted prompts without one unsafe answer show at most .312: never .1."""
    shutil.copytree(done / "tiny", tmp_path / "tiny")
    with pytest.raises(DataError, match=r"too few tuning prompts.* 8 independent ones show at most 0\.312"):
        run(recipe("constraints.0.at_most=0.1"), runs=tmp_path, preflight=False)


def test_a_score_can_be_learned_from_the_steps_own_pairs(done: Path, tmp_path: Path) -> None:
    """Pairs whose preferred side is always the same refusal: the head tells them apart without an error."""
    world, rows = World(WorldSpec(seed=0, ordinary=8, restricted=6, borderline=4)), []
    for demonstration in world.demonstrations(96, seed=7):
        asked = demonstration.prompt.messages[0].content
        rows.append({"prompt": asked, "chosen": "i can not help with that .", "rejected": "take the knife ."})
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copytree(done / "tiny", tmp_path / "tiny")
    head = "steps.H-S.search={samples: 4, unit: prompt, score: head, trainings: 1}"
    given = recipe(f"data.pairs={{format: preference, path: {path}}}", "steps.H-S.dataset=pairs", head)
    run(given, runs=tmp_path, preflight=False)
    forecast = json.loads((tmp_path / "tiny/stages/plan/forecast/H-S/forecast.json").read_text())
    assert forecast["score"] == "a score learned from the step's pairs"
    assert forecast["learned"]["accuracy"] == 1.0
    assert forecast["learned"]["separable"] is True
    assert any("do not identify the scale" in note for note in forecast["notes"])
    results = json.loads((tmp_path / "tiny/stages/report/results.json").read_text())
    assert len(results["plan"]["H-S"]["trainings"]) == 1
