"""Choosing a model: bounds, ties, distances worked by hand, and the schema that the choice must fit."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacpo.errors import UserError
from sacpo.recipe.schema import ConstraintSpec, ObjectiveSpec
from sacpo.report.results import Selection
from sacpo.select import select_model
from sacpo.stats.estimate import Estimate

OBJECTIVE = ObjectiveSpec(metric="win_rate", criterion="help", prompts="tune")
UNSAFE = ConstraintSpec(metric="unsafe_rate", prompts="red", at_most=0.1)
SCORE = ConstraintSpec(metric="mean_score", prompts="tune", criterion="help", at_least=0.5)
ROLES = {"tune": "tuning", "red": "tuning", "report": "report"}


def figure(value: float | None, half: float = 0.05) -> dict[str, Any]:
    ends = (None, None) if value is None else (value - half, value + half)
    return Estimate(value, *ends, 40, 40, 0, "made up").to_json()


def model(win: float | None, unsafe: float | None, score: float = 1.0, half: float = 0.05) -> dict[str, Any]:
    return {
        "tune": {"metrics": {"win_rate/help": figure(win), "mean_score/help": figure(score)}},
        "red": {"metrics": {"unsafe_rate": figure(unsafe, half)} if unsafe is not None else {}},
    }


def choose(models: dict[str, Any], *constraints: ConstraintSpec, **options: Any) -> dict[str, Any]:
    found = select_model(models, constraints, OBJECTIVE, roles=ROLES, **options)
    Selection.model_validate(found)
    return found


def test_the_best_objective_among_the_feasible() -> None:
    """H wins most and is unsafe; of those at most .1 unsafe, B (.6) beats S (.4); a bound is met by equality."""
    found = choose({"sft": model(0.5, 0.6), "H": model(0.7, 0.9), "B": model(0.6, 0.1), "S": model(0.4, 0.0)}, UNSAFE)
    assert (found["chosen"], found["feasible"], found["nearest"]) == ("B", True, None)
    assert {name: candidate["feasible"] for name, candidate in found["models"].items()} == {
        "sft": False,
        "H": False,
        "B": True,
        "S": True,
    }
    assert found["models"]["H"]["distance"] == pytest.approx((0.9 - 0.1) / 0.1)
    assert found["models"]["H"]["note"] == "unsafe_rate on red is 0.9, above 0.1"
    assert (found["models"]["B"]["distance"], found["models"]["B"]["note"]) == (0.0, "")
    assert found["models"]["B"]["checks"] == [{"value": figure(0.1), "met": True}]
    # sft is beaten by B in both; the three others trade wins for safety.
    assert found["front"] == ["H", "B", "S"]


def test_without_a_feasible_model_the_nearest_is_named() -> None:
    """Distances: a misses .3 by .2 / .1 = 2; b misses .15 and .4: .05 / .1 + .1 / .5 = .7; c misses 1.0 by 9."""
    models = {"a": model(0.9, 0.3), "b": model(0.2, 0.15, score=0.4), "c": model(0.99, 1.0)}
    found = choose(models, UNSAFE, SCORE)
    assert (found["chosen"], found["feasible"], found["nearest"]) == (None, False, "b")
    distances = [found["models"][name]["distance"] for name in "abc"]
    assert distances == pytest.approx([2.0, 0.7, 9.0])
    note = found["models"]["b"]["note"]
    assert note.startswith("nearest: misses by the least relative distance")
    assert "mean_score/help on tune is 0.4, below 0.5" in note


def test_a_bound_of_zero_counts_the_miss_itself() -> None:
    found = choose({"a": model(0.5, 0.25)}, ConstraintSpec(metric="unsafe_rate", prompts="red", at_most=0))
    assert found["models"]["a"]["distance"] == 0.25


def test_ties_go_to_the_first_name() -> None:
    models = {"b": model(0.6, 0.1), "a": model(0.6, 0.05), "c": model(0.5, 0.0)}
    assert choose(models, UNSAFE)["chosen"] == "a"
    assert choose({"b": model(0.6, 0.3), "a": model(0.6, 0.3)}, UNSAFE)["nearest"] == "a"


def test_the_nearest_of_equally_distant_models_has_the_better_objective() -> None:
    assert choose({"a": model(0.5, 0.3), "b": model(0.6, 0.3)}, UNSAFE)["nearest"] == "b"


def test_rounding_alone_misses_no_bound() -> None:
    assert choose({"a": model(0.5, 0.1 + 1e-16 * 3)}, UNSAFE)["chosen"] == "a"
    assert choose({"a": model(0.5, 0.1 + 1e-9)}, UNSAFE)["chosen"] is None


def test_what_was_not_measured_is_never_met() -> None:
    """The best model lacks its unsafe rate, the next its objective: neither is chosen, and both say why."""
    models = {"a": model(0.9, None), "b": model(None, 0.0), "c": model(0.3, 0.0), "d": {}}
    found = choose(models, UNSAFE)
    assert found["chosen"] == "c"
    assert found["models"]["a"]["checks"] == [{"value": None, "met": None}]
    assert (found["models"]["a"]["feasible"], found["models"]["a"]["distance"]) == (False, None)
    assert found["models"]["a"]["note"] == "not measured: unsafe_rate on red"
    assert (found["models"]["b"]["feasible"], found["models"]["b"]["note"]) == (
        False,
        "not measured: win_rate/help on tune",
    )
    assert found["front"] == ["c"]
    alone = choose({"a": model(0.9, None)}, UNSAFE)
    assert (alone["chosen"], alone["nearest"]) == (None, None)


def test_without_constraints_the_best_objective_is_chosen() -> None:
    assert choose({"a": model(0.5, None), "b": model(0.6, None)})["chosen"] == "b"


def test_a_rule_may_hold_an_interval_s_end_against_the_bound() -> None:
    """a: .08 +- .05 may be .13 and fails by .03 / .1; b: .04 +- .05 may be .09 and passes; c has no upper end."""

    def upper(estimate: Estimate, constraint: ConstraintSpec) -> float | None:
        return estimate.high

    models = {"a": model(0.7, 0.08), "b": model(0.6, 0.04)}
    open_ended = Estimate(0.0, None, None, 1, 1).to_json()
    models["c"] = {**model(0.9, 0.0), "red": {"metrics": {"unsafe_rate": open_ended}}}
    assert choose(models, UNSAFE)["chosen"] == "c"
    found = choose(models, UNSAFE, rule=upper)
    assert found["chosen"] == "b"
    assert found["models"]["a"]["distance"] == pytest.approx(0.3)
    assert found["models"]["c"]["checks"][0]["met"] is None


@pytest.mark.parametrize("prompts", ["report", "nowhere"])
def test_only_tuning_prompts_select(prompts: str) -> None:
    models = {"a": model(0.5, 0.05)}
    with pytest.raises(UserError, match="tuning prompts only"):
        choose(models, UNSAFE.model_copy(update={"prompts": prompts}))
    with pytest.raises(UserError, match="tuning prompts only"):
        select_model(models, [], OBJECTIVE.model_copy(update={"prompts": prompts}), roles=ROLES)


def test_no_models_is_an_error() -> None:
    with pytest.raises(UserError, match="no models"):
        choose({})


SHARES = st.integers(0, 5).map(lambda tenths: tenths / 10)


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(SHARES, SHARES), min_size=1),
    SHARES,
    st.randoms(use_true_random=False),
)
def test_the_choice_is_what_its_definition_says(
    models: dict[str, tuple[float, float]], bound: float, rng: random.Random
) -> None:
    """Whatever the order of models; the chosen one stands on the front, as nothing feasible beats it."""
    spec = ConstraintSpec(metric="unsafe_rate", prompts="red", at_most=bound)
    names = list(models)
    rng.shuffle(names)
    found = choose({name: model(*models[name]) for name in names}, spec)
    feasible = [name for name in models if models[name][1] <= bound]
    if feasible:
        assert found["chosen"] == min(feasible, key=lambda name: (-models[name][0], name))
        chosen = models[found["chosen"]]
        assert all(models[name][0] <= chosen[0] for name in feasible)
    else:
        assert found["nearest"] == min(models, key=lambda name: (models[name][1], -models[name][0], name))
    assert found["front"] == [name for name in names if name in found["front"]]
