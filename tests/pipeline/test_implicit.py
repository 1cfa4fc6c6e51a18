"""Implicit rewards as scores of resampling: beta log pi/pi_ref, and the scale that held-out pairs give it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from answer_toys import tiny_model, tiny_tokenizer
from test_heads import recipe

from sacpo.answer.scoring import score_trees
from sacpo.data.packing import Tree
from sacpo.data.records import Prompt
from sacpo.data.templates import make_template
from sacpo.data.tokenize import tokenize_exchange
from sacpo.errors import RecipeError
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.stages.implicit import Calibration, ImplicitScorer, Implied, calibration, implicit_scores
from sacpo.pipeline.tools import Tools
from sacpo.recipe.load import parse_recipe
from sacpo.recipe.schema import BaseSpec
from sacpo.system.progress import QUIET


class TwoModels:
    """Tools with two models by the name of their place, and a finished calibration."""

    progress = QUIET

    def __init__(self) -> None:
        self.words, self.loaded = tiny_tokenizer(), cast(list[str], [])
        self.models = {name: tiny_model(self.words, seed=seed) for seed, name in enumerate(("H", "S"))}

    def tokenizer(self, model: Any, base: Any) -> Any:
        return self.words, make_template("plain", self.words)

    def load(self, model: Checkpoint, base: Any) -> Any:
        self.loaded.append(str(model.place))
        return self.models[str(model.place)]

    def read(self, stage: Calibration) -> Any:
        return {"factor": 3.0}


def test_an_implicit_reward_is_beta_times_the_log_ratio_times_its_factor() -> None:
    """beta .25 and factor 3; a prompt without room for an answer has no score."""
    tools = TwoModels()
    reward = Implied("S", Checkpoint("S"), Checkpoint("H"), 0.25, BaseSpec(model="nowhere"), 12, "drop")
    texts = [
        (Prompt.from_text("w7 w9"), "w1 w2 w3"),
        (Prompt.from_text("w7 w9"), "w4"),
        (Prompt.from_text("w1 " * 20), "w4"),
    ]
    template = make_template("plain", tools.words)
    trees = []
    for prompt, text in texts[:2]:
        before, after = tokenize_exchange(prompt, text, template, tools.words)
        trees.append(Tree(before, (after,)))
    own, other = (np.array(score_trees(tools.models[name], tools.words, trees)) for name in ("S", "H"))
    scorers = ImplicitScorer("plain", reward, None), ImplicitScorer("scaled", reward, Calibration(reward, ()))
    found = implicit_scores(scorers, cast(Tools, tools), texts)
    plain = [score.value for score in found["plain"]]
    assert plain[:2] == pytest.approx((0.25 * (own - other)).tolist(), abs=1e-5)
    assert plain[2] is None
    assert found["scaled"][0].value == pytest.approx(3 * cast(float, plain[0]))
    assert tools.loaded == ["S", "H"]


EACH = [str(i) for i in range(41)]


def test_the_factor_makes_held_out_preferences_likeliest() -> None:
    """Preferences of logits three times the margins; a tie is neither right nor wrong."""
    margins = np.linspace(-2, 2, 41)
    found = calibration(margins, 1 / (1 + np.exp(-3 * margins)), EACH)
    assert found["factor"] == pytest.approx(3.0, abs=0.01)
    assert (found["accuracy"], found["pairs"]) == (1.0, 41)


def test_a_reward_that_says_the_opposite_moves_nothing() -> None:
    margins = np.linspace(-2, 2, 41)
    found = calibration(margins, 1 / (1 + np.exp(3 * margins)), EACH)
    assert (found["factor"], found["accuracy"]) == (0.0, 0.0)
    assert found["loss"] > found["coin"]


def test_a_factor_is_judged_on_pairs_that_it_was_not_fitted_to() -> None:
    """Two pairs, one right and one wrong by as much: each says the opposite of the other."""
    found = calibration(np.array([1.0, -0.9]), np.array([1.0, 1.0]), ["a", "b"])
    assert found["factor"] == 0.0 and found["loss"] > found["coin"]
    same = calibration(np.array([1.0, 1.1]), np.array([1.0, 1.0]), ["a", "a"])
    assert same["factor"] == 0.0  # one prompt proves nothing


def test_a_handful_of_prompts_makes_no_score_larger() -> None:
    """All are told apart, so the likeliest factor is the largest: 20 from 20 prompts on, 1 from fewer.

    The loss is of the factor that is used: log(1 + e^-0.3) and log(1 + e^-6).
    """
    found = [calibration(np.full(n, 0.3), np.ones(n), EACH[:n]) for n in (19, 20)]
    assert [one["factor"] for one in found] == [1.0, pytest.approx(20, rel=1e-3)]
    assert [one["loss"] for one in found] == pytest.approx([np.log1p(np.exp(-0.3)), np.log1p(np.exp(-6))], rel=0.01)


def implied(source: str = "S@0.25", **options: Any) -> Any:
    """D's score of harmlessness is the implicit reward of a step."""
    found = recipe("safe")
    own = {"judge": {"helpfulness": 1, "harmlessness": 2}, "learn": {"helpfulness": "H"}}
    found["steps"][2]["resample"] = {**own, "implicit": {"harmlessness": source}, **options}
    return found


def test_an_implicit_reward_is_calibrated_on_held_out_pairs_or_not_at_all() -> None:
    parse_recipe(implied(calibrate=False))
    held = implied()
    held["data"]["safe"]["holdout"] = 0.2
    parse_recipe(held)
    with pytest.raises(RecipeError, match="held-out pairs of its step, and this one has none"):
        parse_recipe(implied())


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("S", {"calibrate": False}, "that of a step which is trained before"),
        ("D", {"calibrate": False}, "that of a step which is trained before"),
        ("H", {"implicit": {"helpfulness": "H"}}, "both give the score of 'helpfulness'"),
        ("H", {"implicit": {"brevity": "H"}}, "'implicit' has 'brevity', which has no weight"),
        ("H", {"implicit": {}, "learn": {"helpfulness": "H", "harmlessness": "safe"}, "calibrate": False}, "calibrate"),
    ],
)
def test_an_implicit_reward_that_cannot_be_is_refused(source: str, options: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(implied(source, **options))


@pytest.mark.parametrize(
    ("algorithm", "message"), [("chipo", "chi-PO's implicit reward"), ("ipo", "means over tokens")]
)
def test_the_implicit_reward_of_some_is_another_one(algorithm: str, message: str) -> None:
    own = implied(calibrate=False)
    own["steps"][1]["algorithm"] = algorithm
    with pytest.raises(RecipeError, match=message):
        parse_recipe(own)


LEARNED = {"judge": "helpfulness", "learn": {"helpfulness": "good"}}


@pytest.mark.parametrize(
    ("start", "options", "message"),
    [("sft", {"draw": "best"}, "best of n has no strength"), ("H", {}, "is beta log pi/pi_sft")],
)
def test_resampling_implies_a_reward_from_sft_and_at_a_strength(start: str, options: Any, message: str) -> None:
    own = implied("B", calibrate=False)
    step = own["steps"][-1]
    own["steps"].insert(2, {**step, "name": "B", "from": "sft", "resample": LEARNED})
    parse_recipe(own)
    own["steps"][2] |= {"from": start, "resample": {**LEARNED, **options}}
    with pytest.raises(RecipeError, match=message):
        parse_recipe(own)


def test_samples_come_from_merges_of_steps_that_are_trained_before() -> None:
    """A mixture of logits of H and S; not one with the step itself, which would wait for it."""
    own = recipe("safe")
    own["merge"] = [{"name": "mix", "models": ["H", "S@0.25"], "q": 0.5, "method": "token-level"}]
    own["steps"][2]["resample"]["sample_from"] = {"sft": 0.5, "mix": 0.5}
    assert parse_recipe(own).steps[2].resample.waits_for[-1] == "mix"  # type: ignore[union-attr]
    own["merge"][0]["models"] = ["H", "D"]
    with pytest.raises(RecipeError, match="from merges of these") as refused:
        parse_recipe(own)
    assert refused.value.allowed == ["sft", "H", "S@0.5", "S@0.25"]
