"""Figures of tasks: intervals over questions, and differences from the first model in pairs."""

from __future__ import annotations

import pytest

from sacpo.bridges.harness import Asked, Figure
from sacpo.measure.benchmarks import harness_figures
from sacpo.stats.intervals import mean_interval


def asked(*each: float, clusters: tuple[str, ...] = ()) -> dict[str, Asked]:
    figure = Figure(sum(each) / len(each), 0.1, True, each)
    return {"steps": Asked(len(each), clusters, {"acc": figure})}


def test_a_change_is_paired() -> None:
    """Two of ten questions are lost and none won: -.2, with the interval of the ten differences."""
    before = (1.0,) * 8 + (0.0,) * 2
    after = (0.0,) * 2 + (1.0,) * 6 + (0.0,) * 2
    found = harness_figures({"sft": asked(*before), "H": asked(*after)})
    assert found["sft"]["steps"]["figures"]["acc"]["change"] is None
    own = found["H"]["steps"]["figures"]["acc"]
    assert own["figure"]["value"] == pytest.approx(0.6)
    assert own["change"] == mean_interval([-1.0] * 2 + [0.0] * 8).to_json()
    assert own["higher_is_better"] is True


def test_questions_of_one_task_are_one_cluster() -> None:
    clusters = ("a", "a", "b", "b")
    found = harness_figures({"sft": asked(1, 1, 0, 1, clusters=clusters), "H": asked(0, 0, 0, 1, clusters=clusters)})
    assert found["H"]["steps"]["figures"]["acc"]["change"]["clusters"] == 2


def test_a_figure_that_is_no_mean_has_the_harness_error_and_no_change() -> None:
    one = {"text": Asked(50, (), {"perplexity": Figure(12.0, 0.5, False, None)})}
    found = harness_figures({"sft": one, "H": one})["H"]["text"]["figures"]["perplexity"]
    assert found["figure"]["ci95"] == pytest.approx([12 - 1.96 * 0.5, 12 + 1.96 * 0.5], abs=1e-4)
    assert found["change"] is None


def test_a_task_that_only_one_model_was_asked_is_not_compared() -> None:
    found = harness_figures({"sft": {}, "H": asked(1.0, 0.0)})
    assert found["H"]["steps"]["figures"]["acc"]["change"] is None
