"""The answer in plain words, and what it must not hide."""

from __future__ import annotations

from typing import Any

from report_world import made_up, measured

from sacpo.report.headline import count_words, headline
from sacpo.report.lookup import bound_words
from sacpo.report.results import Constraint, Measured, parse_results


def text(results: dict[str, Any]) -> str:
    return headline(parse_results(results)).text


def with_unsafe(value: float, n: int, ci95: tuple[float, float]) -> dict[str, Any]:
    results = made_up()
    results["measures"]["H-S@0.25"]["report"]["metrics"]["unsafe_rate"] = {"value": value, "ci95": ci95, "n": n}
    return results


def test_names_the_chosen_model_its_bound_and_its_report_figures() -> None:
    said = headline(parse_results(made_up()))
    assert said.answer == (
        "With unsafe answers at most 6.0 %, H-S@0.25 has the best helpfulness win rate of 20 models on tuning prompts."
    )
    assert said.figures[0] == "Helpfulness win rate against sft 57.0 % (53.0 to 61.0 %) [n = 600, prompts: report]."
    assert said.figures[1] == ("Unsafe answers 4.0 % (1.3 to 6.7 %) [8 of 200 unsafe: at most 6.7 %, prompts: report].")
    assert said.figures[3].startswith("Over-refusal 14.0 % (9.2 to 18.8 %)")


def test_figures_are_from_report_prompts_not_from_tuning() -> None:
    """The made-up tuning figure is one point higher, 58 %."""
    assert "58.0 %" not in text(made_up())
    results = made_up()
    results["prompts"]["report"]["role"] = "certification"
    assert "57.0 %" not in text(results)
    assert "H-S@0.25 was not measured on report prompts." in text(results)


def test_no_unsafe_answer_is_said_with_its_upper_bound() -> None:
    """0 of 83: the Clopper-Pearson interval ends at 1 - .025^(1/83) = 4.35 %."""
    high = 1 - 0.025 ** (1 / 83)
    assert "0 of 83 unsafe: at most 4.3 %" in text(with_unsafe(0.0, 83, (0.0, high)))
    assert "The whole interval meets the bound" in text(with_unsafe(0.0, 83, (0.0, high)))


def test_a_bound_that_only_the_value_meets_is_not_certified() -> None:
    assert "The interval reaches 6.7 %, beyond the bound" in text(made_up())
    assert "it is met, not certified" in text(made_up())


def test_a_bound_is_written_as_it_was_given() -> None:
    """A figure may be rounded; a bound of 1.25 % is not one of 1.2 %, nor one of 2.345 one of 2.35."""
    rate = Constraint(metric="unsafe_rate", prompts="p", at_most=0.0125)
    score = Constraint(metric="mean_score", criterion="x", prompts="p", at_least=-2.345)
    assert bound_words(rate) == "unsafe answers at most 1.25 %"
    assert bound_words(score) == "mean x score at least −2.345"
    assert bound_words(Constraint(metric="unsafe_rate", prompts="p", at_most=0.07)) == "unsafe answers at most 7.0 %"


def test_a_miss_on_report_prompts_is_said() -> None:
    assert "On report prompts H-S@0.25 misses the bound" in text(with_unsafe(0.1, 200, (0.06, 0.14)))


def test_lower_bounds_are_read_from_below() -> None:
    results = made_up()
    bound = {"metric": "win_rate", "criterion": "helpfulness", "prompts": "tuning", "at_least": 0.55}
    results["selection"]["constraints"] = [bound]
    assert "With helpfulness win rate at least 55.0 %, H-S@0.25" in text(results)
    assert "The interval reaches 53.0 %" in text(results)
    bound["at_least"] = 0.6
    assert "H-S@0.25 misses the bound (helpfulness win rate at least 60.0 %)" in text(results)
    bound["at_least"] = 0.5
    assert "The whole interval meets the bound" in text(results)


def test_no_feasible_model_gives_the_nearest_and_its_miss() -> None:
    """S has 10 % unsafe answers on tuning prompts where 6 % are allowed."""
    results = made_up()
    results["selection"] |= {"chosen": None, "feasible": False, "nearest": "S"}
    assert text(results).startswith(
        "No model of 20 has unsafe answers at most 6.0 % on tuning prompts; "
        "S comes nearest with unsafe answers 10.0 %. Helpfulness win rate against sft 34.5 %"
    )


def test_without_selection_or_any_measured_model() -> None:
    assert text(made_up(selection=None)) == (
        "No model was chosen, because the recipe sets no objective; 20 models to compare."
    )
    results = made_up()
    results["selection"] |= {"chosen": None, "feasible": False, "nearest": None}
    assert text(results).startswith("No model was chosen")


def test_counts_are_only_said_of_whole_items() -> None:
    assert count_words(Measured(**measured(0.5, 3)), "x") == ""
    assert count_words(Measured(value=0.5, n=2), "x") == ""
    assert count_words(None, "x") == ""
    assert count_words(Measured(value=0.5, ci95=(0.1, 0.9), n=4), "x") == "2 of 4 x: at most 90.0 %"
