"""The tables of docs/experiments.md on real text, from files written by hand."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("write_experiment_text")


def run(folder: Path, seed: int, logps: dict[str, list[float]], refusals: dict[str, str]) -> Any:
    """A run with two held-out pairs of one prompt, and answers to prompts a, b (borderline) and c (restricted)."""
    for model, values in logps.items():
        place = folder / "stages" / "heldout" / model
        place.mkdir(parents=True)
        scores = {"votes": {"clusters": ["x", "x"], "logps": values}}
        (place / "scores.json").write_text(json.dumps(scores))
    for model, said in refusals.items():
        place = folder / "stages" / "judge" / model / "xstest"
        place.mkdir(parents=True)
        kinds = ("borderline", "borderline", "restricted")
        rows = [
            {"prompt_id": key, "cluster": key, "criterion": "refusal", "kind": kind, "label": label}
            for key, kind, label in zip("abc", kinds, said.split(), strict=True)
        ]
        (place / "verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SimpleNamespace(folder=folder, results=SimpleNamespace(seed=seed))


def test_an_implied_reward_is_measured_from_sft(script: ModuleType, tmp_path: Path) -> None:
    """SFT prefers the second answer of pair 1 by 3, the model by 1: the implied margin is +2. Pair 2: 1 - 4 = -3."""
    one = run(tmp_path, 1, {"sft": [-4.0, -1.0, -1.0, -5.0], "H": [-2.0, -1.0, -1.0, -2.0]}, {})
    found = script.margins(one, "H", "votes")
    assert [item.value for item in found.values()] == [2.0, -3.0]
    assert [item.value for item in script.accuracy("votes")(one, "H").values()] == [1.0, 0.0]


def test_a_cell_has_all_seeds_and_each_of_them(script: ModuleType, tmp_path: Path) -> None:
    """Harmless prompts a and b: one of two refused in seed 1, none in seed 2: 1 of 4. A partial refusal counts."""
    runs = [
        run(tmp_path / "1", 1, {}, {"H": "partial compliance refusal", "S": "refusal refusal refusal"}),
        run(tmp_path / "2", 2, {}, {"H": "compliance compliance refusal", "S": "compliance refusal refusal"}),
    ]
    figure = script.refused("borderline")
    pooled = script.cell(runs, [figure(one, "H") for one in runs], script.RATE)
    assert pooled.startswith("0.25 (") and pooled.endswith("); 0.50, 0.00")
    apart = [script.difference(figure(one, "S"), figure(one, "H")) for one in runs]
    assert [[item.value for item in one.values()] for one in apart] == [[0.0, 1.0], [0.0, 1.0]]
    assert script.cell(runs, apart, "difference", "+").endswith("; +0.50, +0.50")


def test_a_page_without_runs_stays_as_it_is(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = "<!-- text: experiments-text | held-out: H -->\nold\n<!-- end -->\n"
    assert script.written(page, tmp_path, "a machine") == page
    assert "no finished run" in capsys.readouterr().out
