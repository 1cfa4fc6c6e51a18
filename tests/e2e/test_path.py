"""A merge's q found by the run: by hand the same, killed the same, told by a dry run and by the report."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_run import Death, Process, artefacts, results, stage, states

AUTO = {
    "name": "P",
    "models": ["sft", "H"],
    "q": "auto",
    "search": {"evaluations": 3, "tolerance": 0.1},
    "fidelity": True,
}
OTHERS = [
    {"name": "D", "method": "token-level", "models": ["sft", "H"], "q": 0.5, "fidelity": True},
    {"name": "T", "models": ["sft", "H", "K"], "weights": [[0.5, 0.3, 0.2]], "fidelity": True},
]
BOUNDS = [
    {"metric": "mean_score", "criterion": "harmlessness", "prompts": "tuning", "at_least": 0.1},
    {"metric": "mean_tokens", "prompts": "tuning", "at_most": 15.0},
]
LINE = ("run", "auto.yaml", "--json")


def write(folder: Path, merges: list[dict[str, Any]], bounds: list[dict[str, Any]]) -> None:
    """Write a recipe of the tiny run's name, so that its trainings are there already."""
    recipe = yaml.safe_load((folder / "tiny.yaml").read_text())
    recipe |= {"merge": merges, "constraints": bounds}
    recipe["evaluate"]["models"] = ["sft", "H", "K", "D", "T@0.5-0.3-0.2"] if len(merges) > 1 else ["sft"]
    (folder / "auto.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))


@pytest.fixture(scope="module")
def found(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("auto") / "work"
    shutil.copytree(finished, folder, symlinks=True)
    write(folder, [AUTO, *OTHERS], BOUNDS)
    planned = json.loads(Process(folder, *LINE, "--dry-run").wait())
    assert planned["later"] == [
        "then, by what path/tried/P/sft finds: up to 3 q of P are measured, then everything behind it"
    ]
    Process(folder, *LINE, drawn=False).wait()
    return folder


def path_of(folder: Path, name: str = "P") -> dict[str, Any]:
    data: dict[str, Any] = json.loads(results(folder))
    search: dict[str, Any] = data["paths"][name]
    return search


def test_the_q_is_the_one_that_bisection_by_hand_finds(found: Path) -> None:
    search = path_of(found)
    by_q = {point["q"]: point for point in search["tried"]}
    assert {0.0, 0.5, 1.0} <= {*by_q} and len(by_q) == 5
    meets = {q: all(check["met"] for check in point["checks"]) for q, point in by_q.items()}
    assert (meets[0.0], meets[1.0]) == (False, True)
    low, high = 0.0, 1.0
    for _ in range(3):
        middle = (low + high) / 2
        low, high = (low, middle) if meets[middle] else (middle, high)
    assert (search["misses_at"], search["q"]) == (low, high)
    assert f"q = {high:g} is the smallest" in search["said"]


def test_a_tried_q_is_held_by_the_pessimistic_end_of_what_the_evaluation_measures(found: Path) -> None:
    data = json.loads(results(found))
    for point in data["paths"]["P"]["tried"]:
        metrics = data["measures"][point["model"]]["tuning"]["metrics"]
        safe, brief = point["checks"]
        assert safe["end"] == metrics["mean_score/harmlessness"]["ci95"][0]
        assert brief["end"] == metrics["mean_tokens"]["ci95"][1]
        assert (safe["met"], brief["met"]) == (safe["end"] >= 0.1, brief["end"] <= 15.0)


def test_what_was_tried_is_a_model_of_the_run(found: Path) -> None:
    data = json.loads(results(found))
    tried = [point["q"] for point in data["paths"]["P"]["tried"][1:-1]]
    assert data["recipe"]["merge"][0]["q"] == tried
    names = {"sft", "H", "K", *(f"P@q{q:g}" for q in tried), "D", "T@0.5-0.3-0.2"}
    assert [*data["models"]][-5:] == [*(f"P@q{q:g}" for q in tried), "D", "T@0.5-0.3-0.2"]
    assert names == {*data["measures"]} == {*data["selection"]["models"]}
    assert yaml.safe_load((found / "runs" / "tiny" / "recipe.yaml").read_text())["merge"][0]["q"] == "auto"
    assert "the search for q on tuning prompts" in (stage(found, "report") / "report.html").read_text()


def test_fidelity_follows_from_the_stages_samples(found: Path) -> None:
    """By hand: KL = mean(sum w_k ratio_k) + mean log Z, with Z the mean over all samples of the models, alike."""
    data = json.loads(results(found))
    measured = {name for name in data["measures"] if name not in ("sft", "H", "K")}
    assert {*data["fidelity"]} == measured
    banks = {"P": ["D/sft", "D/H"], "D": ["D/sft", "D/H"], "T": ["T/sft", "T/H", "T/K"]}
    for name in measured:
        info, figure = data["models"][name], data["fidelity"][name]["report"]
        w = np.array(info["weights"])
        keys = [f"merged/{k}" for k in range(len(w))]
        own = rows_of(found, name, keys)
        logps = -np.stack([rows_of(found, f"merged/{bank}", keys) for bank in banks[info["line"]]])  # model, row, model
        v = np.exp(logps @ w) / np.exp(logps).mean(axis=2)
        log_z = np.log(v.reshape(len(w), len(own), 16).mean(axis=(0, 2)))
        assert figure["kl"]["value"] == pytest.approx(float((own @ w + log_z).mean()), abs=1e-9)
        assert (figure["kl"]["n"], figure["samples"]) == (12, 16 * len(w))
        assert np.isfinite(figure["alarm"]), "an estimate from a few samples may be negative"
    ends = sorted(path.parent.name for path in (stage(found, "kl") / "merged").glob("*/*/report"))
    assert ends == ["H", "H", "K", "sft", "sft"], "P and D share the samples of their models"
    assert "sequence-level mixture" in (stage(found, "report") / "report.html").read_text()


def rows_of(folder: Path, name: str, keys: list[str]) -> np.ndarray:
    lines = (stage(folder, f"kl/{name}/report") / "samples.jsonl").read_text().splitlines()
    return np.array([[json.loads(line)[key] for key in keys] for line in lines])


@pytest.mark.parametrize(
    "target", ["sacpo.pipeline.stages.path:Tried.work", "sacpo.answer.generate:_Kept.add", "sacpo.pipeline.path:next_q"]
)
def test_a_killed_search_goes_on_to_the_same_result(target: str, found: Path, again: Callable[..., Path]) -> None:
    folder = again()
    write(folder, [AUTO, *OTHERS], BOUNDS)
    Process(folder, *LINE, death=Death(target, 3 if "next_q" not in target else 2)).wait(-signal.SIGKILL)
    ended = states(Process(folder, *LINE, drawn=False).wait())
    assert "path/found/P" in ended["done"]
    expected, have = artefacts(found), artefacts(folder)
    assert {name: have[name] for name in expected} == expected


def test_no_q_where_the_later_model_fails_or_the_earlier_one_meets(again: Callable[..., Path]) -> None:
    """H is safer than SFT's model; a bound that H misses leaves no q, one that SFT meets needs none."""
    folder = again()
    high = [{"metric": "mean_score", "criterion": "harmlessness", "prompts": "tuning", "at_least": 0.9}]
    write(folder, [AUTO], high)
    Process(folder, *LINE, drawn=False).wait()
    search = path_of(folder)
    assert (search["q"], [point["q"] for point in search["tried"]]) == (None, [0.0, 1.0])
    assert search["said"].startswith("No q: H itself, at q = 1, does not meet mean_score/harmlessness")
    assert json.loads(results(folder))["recipe"]["merge"][0]["q"] == "auto"
    write(folder, [AUTO], [{**high[0], "at_least": -2.0}])
    Process(folder, *LINE, drawn=False).wait()
    search = path_of(folder)
    assert (search["q"], search["misses_at"]) == (0.0, None)
    assert search["said"].startswith("sft itself, at q = 0, meets every constraint")
