"""The report's section on factors that the run chose."""

from __future__ import annotations

from typing import Any

from report.report_world import made_up

from sacpo.report.factor_tables import SHOWN, factor_stories
from sacpo.report.page import render
from sacpo.report.results import parse_results


def tried(factor: float, score: float, rate: float, **options: Any) -> dict[str, Any]:
    def banded(value: float) -> dict[str, Any]:
        return {"value": value, "band": [value - 0.01, value + 0.01]}

    own = {"objective": banded(score), "unsafe_rate": banded(rate), "kl": banded(1.0), "ess": 4.5}
    means = {"means": {"helpfulness": score, "harmlessness": 0.6}}
    return {
        "factors": {"helpfulness": factor, "harmlessness": 1.25},
        **own,
        **means,
        "met": True,
        "enough": True,
        **options,
    }


CHOICE: dict[str, Any] = {
    "step": "R", "prompts": 300, "samples": 16, "not_weighed": 0, "objective": "helpfulness",
    "bounds": [{"name": "unsafe_rate", "bound": 0.03, "at_most": True}],
    "tried": [
        tried(1.0, 0.6, 0.01), tried(2.0, 0.8, 0.02), tried(3.0, 0.9, 0.05, met=False),
        tried(4.0, 0.95, 0.01, enough=False),
    ],
    "factors": {"helpfulness": 2.0, "harmlessness": 1.25}, "chosen": 1, "met": True, "notes": ["a note"],
}  # fmt: skip


def test_the_choice_is_told_and_stands_first() -> None:
    results = parse_results(made_up(factors={"R": CHOICE}))
    (story,) = factor_stories(results)
    assert "with 4 choices of factors of the weights of R" in story.sentences[0]
    assert story.sentences[1].startswith(
        "2 × helpfulness, 1.25 × harmlessness was taken: of those that meet every bound"
    )
    assert story.sentences[-1] == "A note."
    assert story.table.head == (
        "factors", "mean helpfulness score", "unsafe answers", "mean harmlessness score", "KL",
        "effective samples", "bounds",
    )  # fmt: skip
    rows = [[row.name, *(cell.text for cell in row.cells)] for row in story.table.rows]
    assert rows[0] == ["2 × helpfulness, 1.25 × harmlessness", "0.8", "2.0 %", "0.6", "1", "4.5", "✓"]
    assert [row[-1] for row in rows] == ["✓", "✓", "✓, too few samples", "✗"]
    assert [row.strong for row in story.table.rows] == [True, False, False, False]
    assert "1.25 × harmlessness was taken" in render(results)


def test_a_choice_that_meets_no_bound_says_so() -> None:
    (story,) = factor_stories(parse_results(made_up(factors={"R": {**CHOICE, "met": False}})))
    assert "none meets every bound, and they come nearest" in story.sentences[1]


def test_of_many_choices_some_are_shown() -> None:
    many = [tried(1 + i / 10, 0.5 + i / 100, 0.01) for i in range(30)]
    (story,) = factor_stories(parse_results(made_up(factors={"R": {**CHOICE, "tried": many}})))
    assert len(story.table.rows) == SHOWN
    assert story.table.caption.endswith("; 12 of 30")
    assert story.table.rows[1].cells[0].text == "0.79"
