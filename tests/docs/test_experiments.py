"""The tables of docs/experiments.md: means over seeds, differences paired by seed, and recipes that are there."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_experiments", ROOT / "scripts" / "write_experiments.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(**distances: float) -> Any:
    target = {name: SimpleNamespace(target=SimpleNamespace(value=value)) for name, value in distances.items()}
    measures = {name: {"report": SimpleNamespace(metrics={})} for name in distances}
    return SimpleNamespace(
        results=SimpleNamespace(measures=measures, theory=SimpleNamespace(kl_to_optimum=target, support={}))
    )


def test_differences_are_paired_by_seed(script: ModuleType) -> None:
    """D of two seeds: 1 and 3, and .5 more each: unpaired seeds would hide it. .4 and .6 more: .5 +- 12.706 x .1."""
    equal = script.differences([run(a=1.0, b=1.5), run(a=3.0, b=3.5)], ["a", "b"], "a")
    assert equal.splitlines()[-1].split(" | ")[-1] == "+0.50 |"
    uneven = script.differences([run(a=1.0, b=1.4), run(a=3.0, b=3.6)], ["a", "b"], "a")
    assert uneven.splitlines()[-1].split(" | ")[-1] == "+0.50 (-0.77 to +1.77) |"


def test_a_figure_that_one_seed_lacks_is_a_dash(script: ModuleType) -> None:
    assert script.cell([1.0, None], ".2f") == "–"
    assert script.cell([1.0, 3.0], ".2f") == "2.00 (-10.71 to 14.71)"


def test_a_table_says_how_it_came_about(script: ModuleType) -> None:
    """235 and 245 seconds are both four minutes; report prompts of all sets are counted, tuning prompts are not."""

    def made(*seconds: float) -> Any:
        prompts = {"a": SimpleNamespace(role="report", n=3), "b": SimpleNamespace(role="report", n=4)}
        prompts["c"] = SimpleNamespace(role="tuning", n=9)
        results = [SimpleNamespace(seed=place, prompts=prompts) for place in range(len(seconds))]
        took = [{"x": {"seconds": one - 5}, "y": {"seconds": 5}} for one in seconds]
        return [SimpleNamespace(results=r, manifests=m) for r, m in zip(results, took, strict=True)]

    assert script.made(made(235, 245), "2 cores") == "Seeds 0, 1; 7 report prompts; 4 minutes a seed on 2 cores."
    assert script.minutes(made(61, 245, 119)) == "1 to 4 minutes"
    assert script.minutes(made(61)) == "1 minute"


@pytest.mark.parametrize(("text", "said"), [("{", "Expecting"), ("[]", "cannot be used"), ('{"old": 1}', "format")])
def test_a_broken_or_old_run_is_one_line(script: ModuleType, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(SystemExit, match=said) as caught:
        script.Run.at(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'results.json'}: ") and "\n" not in str(caught.value)
    with pytest.raises(SystemExit, match="r: a finished run lacks 'D'"), script.lacking("r"):
        raise KeyError("D")


def test_what_is_behind_a_model_is_found_by_keys(script: ModuleType) -> None:
    """The pairs of another step are not behind this one; a merge has the stages of both parents, once."""
    inputs = {"sft": [], "pairs/H": ["sft"], "align/H": ["sft", "pairs/H"], "pairs/S": ["sft"], "align/S": ["pairs/S"]}
    found = {
        f"key {name}": {"stage": name, "key": f"key {name}", "inputs": {i: f"key {i}" for i in ins}, "seconds": 1.0}
        for name, ins in inputs.items()
    }
    models = {
        "sft": SimpleNamespace(kind="base"),
        "H": SimpleNamespace(kind="step"),
        "P": SimpleNamespace(kind="merge", parents=("H", "S")),
        "S": SimpleNamespace(kind="step"),
    }
    one = script.Run(Path(), SimpleNamespace(models=models), found)
    assert {stage["stage"] for stage in one.behind("H")} == {"sft", "pairs/H", "align/H"}
    assert script.seconds(one, "H") == 2.0
    assert script.seconds(one, "P") == 4.0


def test_labels_are_votes_and_answers_called_safe(script: ModuleType, tmp_path: Path) -> None:
    """Four votes on 3 pairs; a vote on 3 + 2 pairs and on both answers of each; what a model labels costs nobody."""
    counts = {"votes": (4, 0, None, None), "safe": (1, 2, {"judge": "harmlessness"}, None), "model": (1, 0, None, "m")}
    found = {}
    for name, (votes, dropped, safety, model) in counts.items():
        folder = tmp_path / "stages" / "pairs" / name
        folder.mkdir(parents=True)
        report = {"records": 3, "dropped": {"two unsafe answers": dropped} if dropped else {}}
        (folder / "report.json").write_text(json.dumps(report))
        config = {"spec": {"votes": votes, "safety": safety}, "judges": [{"model": model}]}
        found[name] = {"stage": f"pairs/{name}", "key": name, "inputs": {}, "seconds": 1.0, "config": config}
        found[f"align {name}"] = {"stage": f"align/{name}", "key": f"align {name}", "inputs": {"pairs": name}}
    models = {name: SimpleNamespace(kind="step") for name in counts}
    one = script.Run(tmp_path, SimpleNamespace(models=models), found)
    assert [script.labels(one, name) for name in counts] == [12, 15, 0]


def test_every_table_of_the_page_has_a_recipe() -> None:
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    tables = re.findall(r"<!-- (?:table|text): (\S+)", page)
    tables += [
        name for said in re.findall(r"\| recipes: ([^|]+) \|", page) for name in re.findall(r"experiments-\S+\w", said)
    ]
    recipes = {f"experiments-{path.stem}" for path in (ROOT / "recipes" / "experiments").glob("*.yaml")}
    assert tables and set(tables) == recipes


def test_what_a_machine_lacks_is_said_and_a_world_has_the_runs_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.chdir(tmp_path)
    experiments = importlib.import_module("run_experiments")
    real, world = (ROOT / "recipes" / "experiments" / f"{name}.yaml" for name in ("text", "rivals"))
    monkeypatch.delenv("SACPO_DATA", raising=False)
    assert "export SACPO_DATA" in experiments.missing(real)
    monkeypatch.setenv("SACPO_DATA", "/nowhere")
    assert "the weights models/gemma-3-270m" in experiments.missing(real)
    (tmp_path / "models" / "gemma-3-270m").mkdir(parents=True)
    assert experiments.missing(real) is None and experiments.missing(world) is None
    assert experiments.options(real, Path("r"), "3")[1:] == ["--runs", "r/seed-3", "--set", "seed=3"]
    assert experiments.options(world, Path("r"), "3")[-1] == "world.seed=3"
    monkeypatch.setattr(sys, "argv", ["run_experiments.py", "r", "1", "two"])
    with pytest.raises(SystemExit, match="not 'two'"):
        experiments.main()
