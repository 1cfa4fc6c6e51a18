"""Which figure is a headline, how numbers are written, and how texts are made visible."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_world import made_up, measured

from sacpo.report.document import results_document
from sacpo.report.lookup import (
    ancestors,
    axes,
    bound_words,
    chain,
    interval,
    lines,
    made_by,
    measure_of,
    number,
    set_of,
    with_interval,
)
from sacpo.report.results import Constraint, Measured, Results, parse_results
from sacpo.system.visible import visible


def parsed(**changes: Any) -> Results:
    return parse_results(made_up(**changes))


def test_a_figure_is_read_from_the_report_set_that_counts_most() -> None:
    """'hard' has 700 restricted prompts against 200, but no helpfulness verdicts; 'tuning' never counts."""
    results = made_up()
    results["prompts"]["hard"] = {"role": "report", "n": 700, "kinds": {"restricted": 700}}
    results["measures"]["H"]["hard"] = {"metrics": {"unsafe_rate": measured(0.97, 700)}}
    found = parse_results(results)
    assert (set_of(found, "unsafe_rate"), set_of(found, "win_rate/helpfulness")) == ("hard", "report")
    unsafe = measure_of(found, "H", "unsafe_rate")
    assert unsafe is not None and unsafe.value == 0.97
    assert (
        measure_of(found, "S", "unsafe_rate") is None
    )  # not measured there, and no other set's figure stands in for it
    assert set_of(found, "no_such_rate") is None


def test_unsafe_rates_are_read_where_prompts_are_restricted_and_from_the_set_that_the_recipe_names() -> None:
    """200 restricted prompts come before 900 of unknown kind; a recipe can name another set for any metric."""
    results = made_up()
    results["prompts"]["report"]["kinds"] = {"restricted": 200}
    results["prompts"]["unknown"] = {"role": "report", "n": 900}
    figures = {"unsafe_rate": measured(0.97, 900), "win_rate/helpfulness": measured(0.6, 900)}
    results["measures"]["H"]["unknown"] = {"metrics": figures}
    found = parse_results(results)
    assert (set_of(found, "unsafe_rate"), set_of(found, "win_rate/helpfulness")) == ("report", "unknown")
    results["recipe"]["report"] = {"prompts": {"win_rate/helpfulness": "report", "unsafe_rate": "unknown"}}
    found = parse_results(results)
    assert (set_of(found, "unsafe_rate"), set_of(found, "win_rate/helpfulness")) == ("unknown", "report")


def test_models_know_what_they_were_made_from() -> None:
    results = parsed()
    assert ancestors(results, "P@q0.5") == {"H", "H-S@0.1", "sft"}
    assert [info.criterion for info in chain(results, "H-S@0.1")] == ["helpfulness", "harmlessness"]
    assert made_by(results, "K") == "KTO(helpfulness, 0.5)"
    assert made_by(results, "P@q0.5") == "weights averaged, q = 0.5: H with H-S@0.1"
    assert made_by(results, "sum@q1").startswith("task vectors added, q = 1: ")
    assert made_by(results, "sft") == "supervised fine-tuning"
    assert lines(results)["S-H"] == ["S-H@0.5", "S-H@0.25", "S-H@0.1"]


def test_a_model_that_is_its_own_parent_ends_the_way_back() -> None:
    results = made_up()
    results["models"]["H"]["parents"] = ["H"]
    found = parse_results(results)
    assert len(chain(found, "H")) == 1 and ancestors(found, "H") == {"H"}


def test_what_is_not_known_of_a_model_is_a_dash() -> None:
    results = made_up()
    results["models"]["K"] |= {"beta": None, "algorithm": None}
    results["models"]["P@q0.5"]["q"] = None
    assert made_by(parse_results(results), "K") == "(helpfulness, –)"
    assert made_by(parse_results(results), "P@q0.5") == "weights averaged, q = –: H with H-S@0.1"


@pytest.mark.parametrize(
    ("value", "key", "text"),
    [
        (0.0, "unsafe_rate", "0.0 %"),
        (0.5704, "win_rate/helpfulness", "57.0 %"),
        (-0.195, "mean_score/harmlessness", "−0.195"),
        (1234.6, "mean_tokens", "1\u202f235"),
        (None, "kl", "–"),
    ],
)
def test_numbers(value: float | None, key: str, text: str) -> None:
    assert number(value, key) == text


def test_intervals_and_bounds() -> None:
    figures = Measured(value=0.04, ci95=(0.013, 0.067), n=200)
    assert with_interval(figures, "unsafe_rate") == "4.0 % (1.3 to 6.7 %)"
    assert with_interval(Measured(value=0.04), "unsafe_rate") == "4.0 %"
    assert with_interval(None) == "not measured"
    assert interval(Measured(value=2.0, ci95=(-1.0, 3.0))) == "−1 to 3"
    assert bound_words(Constraint(metric="unsafe_rate", prompts="t", at_most=0.0)) == "unsafe answers at most 0.0 %"
    wins = Constraint(metric="win_rate", criterion="helpfulness", prompts="t", at_least=0.5)
    assert bound_words(wins) == "helpfulness win rate at least 50.0 %"


def test_axes_default_to_the_papers() -> None:
    assert axes(parsed(recipe={})) == ("helpfulness", "harmlessness")
    assert axes(parsed(recipe={"report": {"x": "a", "y": "b"}})) == ("a", "b")


def test_what_hides_or_reorders_text_is_spelled() -> None:
    assert visible("a\r\nb\tc") == "a\nb\tc"
    assert visible("\x00\x1b\x7f") == "␀␛␡"
    assert visible("a\u202eb\u2066\ud800") == "a⟨U+202E⟩b⟨U+2066⟩⟨U+D800⟩"
    assert visible("naïve 東京 🙂 ‏".strip()) == "naïve 東京 🙂 ⟨U+200F⟩"


@given(st.text(st.characters(exclude_categories=())))
def test_visible_text_can_be_written_and_is_stable(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert visible(shown) == shown


def test_the_document_has_every_part_and_field() -> None:
    text = results_document()
    assert "## Results" in text and "## Finding" in text
    for name in Results.model_fields:
        assert f"| `{name}` |" in text
    assert "| `ci95` | `tuple[float or null, float or null]` | the interval's ends; null: none |" in text
