"""Scores learned from a step's pairs: what is written is what scores, and the recipe says where pairs come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from answer_toys import tiny_model, tiny_tokenizer

from sacpo.data.records import Pair, Prompt
from sacpo.data.templates import make_template
from sacpo.errors import RecipeError
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.stages.heads import Head, HeadScorer, learned_scores
from sacpo.pipeline.tools import Tools
from sacpo.recipe.load import parse_recipe
from sacpo.recipe.schema import BaseSpec
from sacpo.system.progress import QUIET

PROMPTS = [Prompt.from_text(f"w{i % 30} w{(3 * i) % 30}") for i in range(80)]


class Toys:
    """Tools with one model, one source of pairs and one finished head."""

    progress = QUIET

    def __init__(self, folder: Path) -> None:
        self.folder, self.words = folder, tiny_tokenizer()
        self.model = tiny_model(self.words)
        # the longer answer is always preferred
        self.train = [Pair(prompt, "w1 w2 w3 w4 w5", "w1 w2", 0.95, "toy") for prompt in PROMPTS]

    def tokenizer(self, model: Any, base: Any) -> Any:
        return self.words, make_template("plain", self.words)

    def load(self, model: Any, base: Any) -> Any:
        return self.model

    def read(self, stage: Any) -> Any:
        return stage.read(self.folder) if isinstance(stage, Head) else self


def test_a_head_scores_texts_as_its_pairs_say(tmp_path: Path) -> None:
    """Odds of 19 to 1: the scores of the two answers lie less than ln 19 = 2.94 apart, since 80 pairs are shrunk."""
    tools = cast(Tools, Toys(tmp_path))
    head = Head("T", Checkpoint("nowhere"), BaseSpec(model="nowhere"), (cast(Any, "pairs"),), 32, "truncate", 0)
    head.work(tmp_path, tools)
    prompt = Prompt.from_text("w7 w9 w11")
    texts = [(prompt, "w1 w2 w3 w4 w5"), (prompt, "w1 w2")]
    both = [HeadScorer("a", head), HeadScorer("b", head)]
    found = learned_scores(both, tools, texts)
    long, short = (score.value for score in found["a"])
    assert long is not None and short is not None
    assert long - short == pytest.approx(2.6, abs=0.4)
    assert found["a"] == found["b"]
    assert head.read(tmp_path).score.fit.loss < 0.25


RECIPE = """
name: t
base: {model: m}
data:
  good: {format: preference, path: a.jsonl}
  safe: {format: preference, path: b.jsonl}
steps:
  - {name: H, criterion: helpfulness, dataset: good, beta: 0.5, from: sft}
  - {name: S, criterion: harmlessness, dataset: safe, beta: [0.5, 0.25]}
  - name: D
    criterion: joint
    algorithm: rwr
    from: sft
    beta: BETA
    dataset: good
    resample: {judge: {helpfulness: 1, harmlessness: 2}, learn: {helpfulness: H, harmlessness: SOURCE}}
"""


def recipe(source: str, beta: str = "0.5") -> Any:
    return yaml.safe_load(RECIPE.replace("SOURCE", source).replace("BETA", beta))


@pytest.mark.parametrize("source", ["safe", "S@0.25", "[good, safe]"])
def test_scores_are_learned_from_steps_and_data_sources(source: str) -> None:
    parse_recipe(recipe(source))


@pytest.mark.parametrize(
    ("source", "beta", "message"),
    [
        ("S", "0.5", "no such step or data source of pairs"),
        ("saef", "0.5", "no such step or data source of pairs"),
        ("D", "0.5", "no such step or data source of pairs"),
        ("safe", "auto", "these scores are learned from pairs"),
    ],
)
def test_pairs_that_are_not_there_are_refused(source: str, beta: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(recipe(source, beta))
