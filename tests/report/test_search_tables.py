"""The report's section on a strength that the run found."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from report.report_world import made_up

from sacpo.errors import DataError
from sacpo.report.page import render
from sacpo.report.results import parse_results
from sacpo.report.search_tables import search_stories

POINT = {"E_g": 0.6, "kl": 0.5, "unsafe_rate": 0.08, "over_refusal_rate": 0.05, "ess": 9.0, "E_r": 0.8}


def training(beta: float, rate: float, end: float) -> dict[str, Any]:
    check = {"metric": "unsafe_rate", "prompts": "tuning", "at_most": 0.1, "value": rate, "end": end, "method": "exact"}
    met = {"met": end <= 0.1, "excess": end - 0.1}
    predicted = {"raw": {**POINT, "unsafe_rate": rate / 2}, "corrected": {**POINT, "unsafe_rate": rate * 0.9}}
    return {"model": f"H-S@{beta:g}", "beta": beta, "checks": [{**check, **met}], "predicted": predicted, **met}


SEARCH: dict[str, Any] = {
    "model": "H-S@0.25",
    "kept": 0.25,
    "met": True,
    "forecast": {
        "step": "H-S", "model": "H", "prompts": 450, "samples": 16, "score": "harmlessness", "scale": 1.0,
        "state": "found", "raw": 0.41, "corrected": 0.2, "start": 0.2, "ess": 9.0, "believable": True,
        "realised": {"before": 0.6, "exact": 1.2, "measured": 0.9, "share": 0.5}, "notes": ["a note"],
    },
    "trainings": [training(0.5, 0.12, 0.17), training(0.25, 0.05, 0.09)],
    "regret": {"reward": 0.21, "objective": 0.3, "E_g": 0.63},
}  # fmt: skip


def test_a_search_is_told_with_what_was_predicted_and_kept() -> None:
    results = parse_results(made_up(plan={"H-S": SEARCH}))
    (story,) = search_stories(results)
    assert story.sentences[0].endswith(
        "predicted the strength of H-S: β/λ = 0.41, corrected 0.2. The search began at 0.2."
    )
    assert "realised 0.5 of its exact tilt" in story.sentences[1]
    assert story.sentences[2] == (
        "2 strengths were trained. H-S@0.25 was kept: the largest strength that met every bound on tuning prompts."
    )
    assert story.sentences[-1] == "A note."
    first, second = story.table.rows
    assert [cell.text for cell in first.cells] == ["0.5", "6.0 %", "10.8 %", "12.0 %", "✗ 17.0 %"]
    assert [cell.text for cell in second.cells][-1] == "✓ 9.0 %"
    assert (first.strong, second.strong) == (False, True)
    assert "How the strength was found" in render(results)
    assert "How the strength was found" not in render(parse_results(made_up()))


def test_a_search_that_met_nothing_says_so() -> None:
    found = {**copy.deepcopy(SEARCH), "met": False}
    (story,) = search_stories(parse_results(made_up(plan={"H-S": found})))
    assert "None met every bound on tuning prompts; H-S@0.25 came nearest and was kept." in story.sentences[2]


def test_a_search_of_unknown_models_is_refused() -> None:
    found = {**SEARCH, "trainings": [training(0.33, 0.1, 0.2)]}
    with pytest.raises(DataError, match="no such model in the results"):
        parse_results(made_up(plan={"H-S": found}))
