"""Judges' scores put to the scale of held-out pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
from pipeline_toys import RECIPE, stages
from test_heads import recipe

from sacpo.data.records import Pair, Prompt
from sacpo.errors import DataError, RecipeError
from sacpo.judging.scored import Score
from sacpo.pipeline.stages.bank import Bank
from sacpo.pipeline.stages.scaled import Scale, ScaledScorer, scaled_scores
from sacpo.pipeline.tools import Tools
from sacpo.recipe.load import parse_recipe
from sacpo.system.progress import QUIET


class Judge:
    """Scores a text by its number; "?" has no score, and what is below zero is unsafe."""

    criterion = "worth"

    def scores(self, tools: Any) -> Any:
        def say(texts: Any) -> list[Score]:
            values = [None if text == "?" else float(text) for _, text in texts]
            return [Score(value, "unsafe" if value is not None and value < 0 else "safe") for value in values]

        return say


@dataclass
class Held:
    """A source of pairs, which is its own content, and tools that read it or a finished stage."""

    progress: ClassVar[Any] = QUIET
    heldout: list[Pair]
    folder: Path

    def read(self, stage: Any) -> Any:
        return stage.read(self.folder) if isinstance(stage, Scale) else self


def held(n: int, factor: float, folder: Path) -> Held:
    """Pairs of one prompt each, whose preferences are by logits of some times the difference of the judge's scores."""
    margins = np.linspace(-2, 2, n)
    pairs = [
        Pair(Prompt.from_text(f"q{i}"), str(margin), "0", 1 / (1 + np.exp(-factor * margin)), "toy")
        for i, margin in enumerate(margins)
    ]
    return Held(pairs, folder)


def test_scores_are_multiplied_by_what_makes_held_out_pairs_likeliest(tmp_path: Path) -> None:
    """Logits of .25 times the scores; a label stays, and so does a score that is not there."""
    tools = held(41, 0.25, tmp_path)
    tools.heldout.append(Pair(Prompt.from_text("odd"), "?", "1", 1.0, "toy"))
    scale = Scale("D/worth", cast(Any, Judge()), (cast(Any, "pairs"),))
    scale.work(tmp_path, cast(Tools, tools))
    scorer = ScaledScorer("worth", scale)
    known = scorer.known(cast(Tools, tools))
    assert known["factor"] == pytest.approx(0.25, abs=0.01)
    assert (known["pairs"], known["not_scored"], known["accuracy"]) == (41, 1, 1.0)
    prompt = Prompt.from_text("any")
    found = scaled_scores([scorer], cast(Tools, tools), [(prompt, "4"), (prompt, "-2"), (prompt, "?")])["worth"]
    assert [score.value for score in found] == [pytest.approx(1.0, abs=0.04), pytest.approx(-0.5, abs=0.02), None]
    assert [score.label for score in found] == ["safe", "unsafe", "safe"]


def test_without_a_scored_pair_there_is_no_scale(tmp_path: Path) -> None:
    for pairs in ([], [Pair(Prompt.from_text("q"), "?", "1", 1.0, "toy")]):
        with pytest.raises(DataError, match="no held-out pair has scores of both answers"):
            Scale("D/worth", cast(Any, Judge()), (cast(Any, "p"),)).work(tmp_path, cast(Tools, Held(pairs, tmp_path)))


def scaled(source: Any = "safe", holdout: float = 0.2, **options: Any) -> Any:
    """D's score of harmlessness is the judge's, put to the scale of some pairs."""
    found = recipe("H")
    found["data"]["safe"]["holdout"] = holdout
    found["evaluate"] = {"judges": {"harmlessness": {"kind": "reward-model", "model": "org/cost", "sign": -1}}}
    own = {"judge": {"helpfulness": 1, "harmlessness": 2}, "learn": {"helpfulness": "H"}}
    found["steps"][2]["resample"] = {**own, "scale": {"harmlessness": source}, **options}
    return found


def test_a_recipe_says_on_whose_pairs() -> None:
    assert parse_recipe(scaled()).steps[2].resample is not None
    parse_recipe(scaled(["safe"]))


@pytest.mark.parametrize(
    ("source", "holdout", "options", "message"),
    [
        ("safe", 0.0, {}, "held-out pairs, and these have none"),
        ("safer", 0.2, {}, "no such step or data source of pairs"),
        ("safe", 0.2, {"scale": {"brevity": "safe"}}, "'scale' has 'brevity', which has no weight"),
        ("safe", 0.2, {"scale": {"helpfulness": "safe"}}, "'scale' has 'helpfulness', whose score 'learn' gives"),
    ],
)
def test_what_cannot_be_put_to_scale_is_refused(source: Any, holdout: float, options: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(scaled(source, holdout, **options))


def test_language_models_ratings_are_not_put_to_scale(tmp_path: Path) -> None:
    (tmp_path / "rating.yaml").write_text(
        "name: mine\ncriterion: harmlessness\nkind: rating\nscale: [0, 4]\ntask: How safe?\n"
    )
    found = scaled()
    panel = {"model": "m", "base_url": "http://localhost:1", "api_key_env": ""}
    judge = {"kind": "llm", "rubric": str(tmp_path / "rating.yaml"), "panel": panel}
    found["evaluate"]["judges"]["harmlessness"] = judge
    with pytest.raises(RecipeError, match="would have to be paid for"):
        parse_recipe(found)


def test_the_scale_is_found_before_the_bank_and_shared(tmp_path: Path) -> None:
    (tmp_path / "judged.jsonl").write_text('{"prompt": "a?", "chosen": "b", "rejected": "c"}\n')
    data = f"data.judged={{format: preference, path: {tmp_path / 'judged.jsonl'}, holdout: 0.5}}"
    weights = {"helpfulness": 1.0, "harmlessness": 2.0}
    rwr = {"criterion": "joint", "algorithm": "rwr", "from": "sft", "beta": 0.2, "dataset": "asked"}
    steps = [
        {**rwr, "name": name, "resample": {"judge": weights, "samples": 4, "scale": {"helpfulness": "judged"}, **more}}
        for name, more in (("V", {}), ("W", {"least_ess": 1.5}))
    ]
    found = stages(data, steps=[*RECIPE["steps"], *steps])
    names = [stage.name for stage in found]
    assert [name for name in names if name.startswith("scale/")] == ["scale/V/helpfulness"]
    assert names.index("scale/V/helpfulness") < names.index("bank/V")
    (bank,) = [stage for stage in found if isinstance(stage, Bank)]
    assert [judge.criterion for judge in bank.judges] == ["harmlessness"]
    assert [scorer.criterion for scorer in bank.learned] == ["helpfulness"]
