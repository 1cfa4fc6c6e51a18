"""Scores learned from a step's pairs: what is written is what scores, and the recipe says where pairs come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml
from answer_toys import tiny_model, tiny_tokenizer

from sacpo.answer.scoring import score_answers
from sacpo.answer.traits import BOUNDS, NUMBERS
from sacpo.data.records import Answer, Pair, Prompt
from sacpo.data.templates import make_template
from sacpo.errors import DataError, RecipeError
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.stages import traits as reading
from sacpo.pipeline.stages.heads import Head, HeadScorer, Learnt, learned_scores, write_learnt
from sacpo.pipeline.stages.sample_pairs import SamplePairs
from sacpo.pipeline.stages.samples import Sampled, Samples
from sacpo.pipeline.stages.traits import Reader, SampleTraits
from sacpo.pipeline.tools import Tools
from sacpo.recipe.load import parse_recipe
from sacpo.recipe.schema import BaseSpec
from sacpo.system.progress import QUIET
from sacpo.theory.learned_score import KindsScore, learn_score
from sacpo.theory.preference_process import PairTraits, Traits

READER = Reader(Checkpoint("nowhere"), BaseSpec(model="nowhere"), 32)
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
    head = Head("T", READER, (cast(Any, "pairs"),), "truncate", 0)
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


@pytest.mark.parametrize("kinds", [1, 2])
def test_a_score_whose_prompts_have_scales_or_kinds_is_read_back(tmp_path: Path, kinds: int) -> None:
    random = np.random.default_rng(0)
    first, second, kind = *random.normal(size=(2, 200, 3)), random.integers(2, size=200)
    prompts = np.sqrt(np.array([[0.7, 0.3], [0.1, 0.9]]))[kind]
    pairs, gap = PairTraits(first, second, prompts), 4.0 * kind * (first - second)[:, 0]
    votes = (random.random(200) < 1 / (1 + np.exp(-gap))).astype(float)
    score = learn_score(pairs, votes, [str(i) for i in range(200)], seed=0, kinds=kinds)
    assert isinstance(score, KindsScore) if kinds == 2 else score.fit.scaled
    write_learnt(tmp_path, Learnt(score, [3, 4]))
    found = Head("T", READER, (), "truncate", 0).read(tmp_path)
    assert found.first_tokens == [3, 4] and found.score.fit == score.fit
    assert found.score.scores(Traits(first, prompts)).tolist() == score.scores(Traits(first, prompts)).tolist()


class Watched:
    """A score that keeps what it is told of prompts."""

    def __init__(self) -> None:
        self.prompts: list[Any] = []

    def scores(self, traits: Traits) -> Any:
        self.prompts.append(traits.prompts)
        return np.zeros(len(traits.answers))


def test_answers_to_a_prompt_are_scored_with_one_prompts_traits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 16 bits traits of a prompt differ between rows; its kind must not, also where a chunk cuts through it."""
    tools, watched = Toys(tmp_path), Watched()
    noise = iter(np.random.default_rng(0).normal(size=(99, 2)))
    traits = reading.completion_traits

    def noisy(*args: Any, **options: Any) -> Traits:
        found = traits(*args, **options)
        return Traits(found.answers, np.array([next(noise) for _ in found.answers]))

    monkeypatch.setattr(reading, "completion_traits", noisy)
    monkeypatch.setattr(reading, "CHUNK", 2)
    monkeypatch.setattr(tools, "read", lambda stage: Learnt(cast(Any, watched), [3, 4]))
    head = Head("T", READER, (), "truncate", 0)
    texts = [(prompt, text) for text in ("w1", "w2 w3", "w4") for prompt in PROMPTS[1:4]]
    learned_scores([HeadScorer("a", head)], cast(Tools, tools), texts)
    told = np.concatenate(watched.prompts)
    assert told.shape == (9, 2) and len({tuple(row) for row in told}) == 3


class OfSamples(Toys):
    """Tools with samples whose traits are read once, and pairs of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        texts = ("w1 w2 w3 w4 w5", "w1 w2", "w1 w2", "w9")
        self.answers = [Answer(prompt, "sft", text, sample=s) for prompt in PROMPTS for s, text in enumerate(texts)]

    def read(self, stage: Any) -> Any:
        if stage == "samples":
            return Sampled(self.answers, np.zeros((80, 4)))
        if isinstance(stage, SamplePairs):
            return self
        return self if stage == "toys" else stage.read(self.folder / stage.name.split("/")[0])


@pytest.mark.parametrize("surprise", [0.0, 0.2])
def test_of_samples_with_labels_all_traits_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, surprise: float
) -> None:
    """A score learned from pairs of samples, or from the same pairs read anew, says the same of samples and others."""
    tools, reader = cast(Tools, OfSamples(tmp_path)), replace(READER, bounds=BOUNDS if surprise else ())
    known = SampleTraits("T", cast(Any, "samples"), reader)
    pairs = SamplePairs("T", cast(Any, None), (), "toy", {}, known)
    own = Head("own", reader, (pairs,), "truncate", 0, traits=known, surprise=surprise)
    other = Head("T", reader, (cast(Any, "toys"),), "truncate", 0, surprise=surprise)
    for name in ("traits", "head", "other"):
        (tmp_path / name).mkdir()
    known.work(tmp_path / "traits", tools)
    assert len(known.read(tmp_path / "traits").places) == len({*PROMPTS}) * 3, "each text of a prompt once"
    other.work(tmp_path / "other", tools)
    read: list[int] = []
    traits = reading.completion_traits
    monkeypatch.setattr(
        reading, "completion_traits", lambda *given, **options: read.append(len(given[2])) or traits(*given, **options)
    )
    own.work(tmp_path / "head", tools)
    texts = [(prompt, text) for prompt in PROMPTS[:30] for text in ("w9", "w1 w2", "w9")]
    told = learned_scores([HeadScorer("a", own)], tools, texts)["a"]
    assert read == [], "samples are known"
    new = [(PROMPTS[0], "w7 w8"), (Prompt.from_text("w3 w2 w1"), "w9"), texts[1]]
    told += learned_scores([HeadScorer("a", own)], tools, new)["a"]
    assert read == [2]
    found = other.read(tmp_path / "other").score
    first = other.read(tmp_path / "other").first_tokens
    assert first == own.read(tmp_path / "head").first_tokens
    trees = reader.trees([*texts, *new], tools)
    again = {
        text: score
        for some, each in reader.traits(trees, first, tools)
        for text, score in zip(some, found.scores(each).tolist(), strict=True)
    }
    assert [score.value for score in told] == pytest.approx([again[text] for text in [*texts, *new]], abs=1e-4)
    assert len({round(score, 3) for score in again.values()}) > 2


def test_surprises_have_their_share_of_what_a_head_compares_answers_by(tmp_path: Path) -> None:
    """Of each process of a score; traits that are the same for all answers have none."""
    tools = cast(Tools, OfSamples(tmp_path))
    head = Head("T", replace(READER, bounds=BOUNDS), (cast(Any, "toys"),), "truncate", 0, surprise=0.3)
    head.work(tmp_path, tools)
    found = head.read(tmp_path).score
    first = found.first if isinstance(found, KindsScore) else found
    answers = np.concatenate([first.anchors.first, first.anchors.second])
    shares = (answers**2).mean(0)
    varying = (shares > 0)[-NUMBERS:].mean()
    assert shares[-NUMBERS:].sum() == pytest.approx(0.3 * varying, rel=1e-6) and varying > 0.5


def test_samples_whose_prompts_leave_no_room_are_named(tmp_path: Path) -> None:
    known = SampleTraits("T", cast(Any, "samples"), replace(READER, max_length=2))
    with pytest.raises(DataError, match="leaves room"):
        known.work(tmp_path, cast(Tools, OfSamples(tmp_path)))


def test_traits_are_written_without_a_map_of_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full, the first touch of a page of a map kills the process by SIGBUS: nothing could say why."""
    found: list[Any] = []
    traits = reading.completion_traits
    monkeypatch.setattr(reading, "CHUNK", 7)
    monkeypatch.setattr(
        reading, "completion_traits", lambda *given, **options: found.append(traits(*given, **options)) or found[-1]
    )
    with monkeypatch.context() as patch:
        patch.delattr(np.lib.format, "open_memmap")
        SampleTraits("T", cast(Any, "samples"), READER).work(tmp_path, cast(Tools, OfSamples(tmp_path)))
    written = (tmp_path / reading.OF_ANSWERS).read_bytes()
    table = np.concatenate([one.answers for one in found]).astype(np.float32)
    np.save(tmp_path / "whole.npy", table)
    assert len(found) > 1 and written == (tmp_path / "whole.npy").read_bytes()


def test_first_tokens_are_of_prompts_as_they_come_not_of_those_with_small_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    first = reading.likeliest_first_tokens
    monkeypatch.setattr(
        reading, "likeliest_first_tokens", lambda *given: asked.extend(t.prompt for t in given[2]) or first(*given)
    )
    tools = OfSamples(tmp_path)
    tools.answers.reverse()
    SampleTraits("T", cast(Any, "samples"), READER).work(tmp_path, cast(Tools, tools))
    texts = [(answer.prompt, answer.text) for answer in tools.answers]
    trees = READER.trees(texts, cast(Tools, tools))
    assert asked == [*dict.fromkeys(trees[text].prompt for text in texts)] != sorted(asked)


def test_a_score_of_pairs_that_are_all_too_long_is_refused(tmp_path: Path) -> None:
    head = Head("T", replace(READER, max_length=4), (cast(Any, "pairs"),), "drop", 0)
    with pytest.raises(DataError, match="longer than max_length"):
        head.work(tmp_path, cast(Tools, Toys(tmp_path)))


def test_too_few_pairs_are_told_with_the_score_that_they_are_for(tmp_path: Path) -> None:
    tools = Toys(tmp_path)
    tools.train = tools.train[:20]
    with pytest.raises(DataError, match="too few preference pairs") as caught:
        Head("D/safety", READER, (cast(Any, "pairs"),), "truncate", 0).work(tmp_path, cast(Tools, tools))
    assert (caught.value.where, caught.value.value) == ("head/D/safety", "20 pairs of 20 prompts")


def test_a_score_of_ties_alone_is_written_and_read_back(tmp_path: Path) -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 90, 3))
    pairs = PairTraits(first, second, np.ones((90, 2)))
    score = learn_score(pairs, np.full(90, 0.5), [str(i) for i in range(90)], seed=0)
    write_learnt(tmp_path, Learnt(score, [3]))
    found = Head("T", READER, (), "truncate", 0).read(tmp_path)
    assert found.score.fit.accuracy is None and found.score.fit.factor is None


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


def test_samples_come_from_steps_that_are_trained_before() -> None:
    """Shares of whole samples; a step cannot be sampled before it is trained."""
    from_h = {**recipe("safe")}
    from_h["steps"][2]["resample"] |= {"sample_from": {"sft": 0.5, "H": 0.5}}
    found = parse_recipe(from_h).steps[2].resample
    assert found is not None and found.counts("sft") == {"sft": 8, "H": 8}
    for shares, message in (
        ({"sft": 0.5, "D": 0.5}, "trained before"),
        ({"sft": 0.7, "H": 0.3}, "no whole number of 16"),
        ({"sft": 1.0, "H": 1e-8}, "samples, 1 or more"),
        ({"sft": 0.5}, "add up to 1"),
    ):
        from_h["steps"][2]["resample"]["sample_from"] = shares
        with pytest.raises(RecipeError, match=message):
            parse_recipe(from_h)


def test_the_best_answers_have_no_sweep_of_beta() -> None:
    """They are kept whatever beta is, so each of its models would be the same one."""
    swept = recipe("safe", "[0.5, 1.0]")
    swept["steps"][2]["resample"] |= {"draw": "best", "keep": 2}
    with pytest.raises(RecipeError, match="would train one model several times"):
        parse_recipe(swept)
    swept["steps"][2]["beta"] = 0.5
    parse_recipe(swept)


def test_steps_that_wait_for_each_other_are_refused() -> None:
    """D samples E, which samples D; and what is true or false is no share."""
    both = recipe("safe")
    d = both["steps"][2]
    other = {**d, "name": "E", "resample": {**d["resample"], "sample_from": {"sft": 0.5, "D": 0.5}}}
    d["resample"] = {**d["resample"], "sample_from": {"sft": 0.5, "E": 0.5}}
    both["steps"] = [*both["steps"][:2], d, other]
    with pytest.raises(RecipeError, match="wait for each other") as refused:
        parse_recipe(both)
    assert refused.value.value == "D, E"
    d["resample"]["sample_from"] = {"sft": True}
    with pytest.raises(RecipeError, match="true and false"):
        parse_recipe(both)
    d["resample"]["sample_from"] = {"sft": 1.0}
    other["name"] = "policy"
    with pytest.raises(RecipeError, match="a step's own model as it stands"):
        parse_recipe(both)


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


def test_pairs_that_are_named_twice_would_count_twice() -> None:
    given = recipe("safe")
    learn = given["steps"][2]["resample"]["learn"]
    learn |= {name: ["good", "safe", "good"] for name in learn}
    with pytest.raises(RecipeError, match="each would count twice") as caught:
        parse_recipe(given)
    assert caught.value.value == "good"


def test_nothing_is_kept_of_answers_that_are_all_learnt() -> None:
    whole = recipe("S@0.25", "0.5")
    whole["steps"][2]["resample"] |= {"draw": "all"}
    found = parse_recipe(whole).steps[2].resample
    assert found is not None and found.draw == "all"
    whole["steps"][2]["resample"] |= {"keep": 3}
    with pytest.raises(RecipeError, match="'keep' has no effect here: all answers are learnt"):
        parse_recipe(whole)


class TwoModels:
    """Tools with two models by the name of their place, and prompts."""

    progress = QUIET

    def __init__(self) -> None:
        self.words = tiny_tokenizer()
        self.models = {name: tiny_model(self.words, seed=seed) for seed, name in enumerate(("sft", "H"))}
        self.train = PROMPTS[:5]

    def tokenizer(self, model: Any, base: Any) -> Any:
        return self.words, make_template("plain", self.words)

    def place(self, model: Checkpoint) -> Checkpoint:
        return model

    def load(self, model: Checkpoint, base: Any) -> Any:
        return self.models[str(model.place)]

    def read(self, source: Any) -> Any:
        return self


def test_samples_of_two_models_stand_side_by_side_and_are_corrected(tmp_path: Path) -> None:
    """One answer of the SFT model and two of H a prompt: log p0 - log (p0 / 3 + 2 p1 / 3), computed anew."""
    tools = TwoModels()
    sft, other = Checkpoint("sft"), Checkpoint("H")
    models = (("sft", sft, 1), ("H", other, 2))
    stage = Samples("T", sft, models, (cast(Any, "prompts"),), 6, BaseSpec(model="nowhere"), (3, 4))
    stage.work(tmp_path, cast(Tools, tools))
    found = stage.read(tmp_path)
    assert [answer.model for answer in found.answers] == ["sft", "H", "H"] * 5
    assert [answer.prompt.id for answer in found.answers] == [prompt.id for prompt in PROMPTS[:5] for _ in range(3)]
    template = make_template("plain", tools.words)
    logps = [np.array(score_answers(model, tools.words, found.answers, template)) for model in tools.models.values()]
    mixed = np.log(np.exp(logps[0]) / 3 + 2 * np.exp(logps[1]) / 3)
    assert found.correction == pytest.approx((logps[0] - mixed).reshape(5, 3), abs=1e-4)
    assert np.abs(found.correction).max() > 0.01


def test_a_head_and_its_reader_say_the_same_of_surprises(tmp_path: Path) -> None:
    for bounds, surprise in (((), 0.2), (BOUNDS, 0.0)):
        with pytest.raises(ValueError, match="surprise is"):
            Head("T", replace(READER, bounds=bounds), (), "truncate", 0, surprise=surprise).work(
                tmp_path, cast(Any, None)
            )
