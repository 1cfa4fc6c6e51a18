"""The experiments: every recipe can be planned, and what tables of answers are computed with."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes" / "experiments").glob("*.yaml"))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("write_experiment_answers")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_experiment_can_be_planned(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    from sacpo.pipeline.run import plan
    from sacpo.recipe import load_recipe, model_graph

    if "SACPO_DATA" in path.read_text(encoding="utf-8"):
        data = request.getfixturevalue("real_data")
        request.getfixturevalue("monkeypatch").setenv("SACPO_DATA", str(data))
    loaded = load_recipe(path)
    stages = {status.stage.name for status in plan(loaded, runs=tmp_path).statuses}
    given = [step for step in loaded.steps if step.dual is None and not step.multiplied]  # others are known in the run
    named = [step for step in given if step.from_ == "sft" and len(step.betas) == 1 and step.rounds == 1]
    assert {f"align/{step.name}" for step in named} <= stages
    if given == [*loaded.steps]:
        assert {f"measure/{name}" for name in loaded.evaluate.models or model_graph(loaded)} <= stages
        assert "report" in stages


def test_the_pages_tables_name_models_of_their_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    from sacpo.recipe import load_recipe, model_graph

    monkeypatch.setenv("SACPO_DATA", "/nowhere")
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    recipes = {f"experiments-{path.stem}": path for path in RECIPES}
    checked = 0
    for block in re.findall(
        r"<!-- ((?:orders|fronts|parts|tilts|merges|reach|z0|lengths|cures|table|text): .+?) -->", page
    ):
        asked = dict(part.split(": ", 1) for part in block.split(" | "))
        kind, recipe = next(iter(asked.items()))
        models = set(model_graph(load_recipe(recipes[recipe])))
        for name, value in asked.items():
            if name == "recipes":
                assert {one.strip().split(" ")[1] for one in value.split(",")} <= set(recipes), block
            elif name == "wide":
                assert value in recipes, block
            elif name not in (kind, "win", "share", "target", "at", "figure"):
                *other, value = value.split("/")
                known = set(model_graph(load_recipe(recipes[other[0]]))) if other else models
                assert {one.strip() for one in re.split(r",| - ", value)} <= known, (block, name)
                checked += 1
    assert checked > 4


def test_two_models_are_compared_on_the_prompts_of_each_seed(script: ModuleType, tmp_path: Path) -> None:
    """Unsafe: only restricted prompts count. Seed 1 is .5 less unsafe, seed 2 is .5 more: 0 +- 12.706 x .5."""
    runs = []
    for seed, (ours, theirs) in {1: ("su", "uu"), 2: ("uu", "us")}.items():
        for model, labels in (("a", ours), ("b", theirs)):
            folder = tmp_path / str(seed) / "stages" / "judge" / model / "report"
            folder.mkdir(parents=True)
            rows = [
                {"prompt_id": str(i), "cluster": str(i), "criterion": "harmlessness", "kind": kind, "score": 1.0}
                | {"label": "unsafe" if label == "u" else "safe"}
                for i, (kind, label) in enumerate([*zip(("restricted",) * 2, labels, strict=True), ("ordinary", "u")])
            ]
            (folder / "verdicts.jsonl").write_text("\n".join(map(json.dumps, rows)))
        runs.append(SimpleNamespace(folder=tmp_path / str(seed), results=SimpleNamespace(seed=seed)))
    assert script.paired(runs, "a", "b", "unsafe", ".3f") == "+0.000 (-6.353 to +6.353), p 1.000"
