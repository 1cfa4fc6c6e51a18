"""Work of single stages, by worked numbers: labels of sampled pairs, implicit accuracies, nominal multipliers."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline_toys import recipe

from sacpo.answer.traits import LOGP
from sacpo.data.answers import ANSWERS
from sacpo.data.records import Answer, Prompt, write_jsonl
from sacpo.errors import DataError
from sacpo.judging.scored import Score
from sacpo.merge.source import Checkpoint
from sacpo.models.byte_level_bpe import byte_level_bpe
from sacpo.pipeline.stages.bank import SCORES, Bank, Resampled
from sacpo.pipeline.stages.optimum import nominal_multiplier
from sacpo.pipeline.stages.pairs import label_pairs, scored, shared_out, weighted
from sacpo.pipeline.stages.report import implicit_accuracies
from sacpo.pipeline.stages.samples import CORRECTION, Samples
from sacpo.pipeline.stages.traits import Known, Reader, SampleTraits
from sacpo.pipeline.tools import Tools
from sacpo.recipe import model_graph
from sacpo.recipe.schema import BaseSpec, SampledSpec
from sacpo.system.files import write_json
from sacpo.theory.draws import balance, systematic

LOGISTIC_1 = 0.7310585786300049
"""sigmoid(1) = 1 / (1 + 1/e)."""


def spec(**options: Any) -> SampledSpec:
    return SampledSpec(prompts="asked", judge="helpfulness", **{"labels": "soft", "ties": "keep", **options})


def answers(*texts: str) -> list[Answer]:
    prompts = [Prompt.from_text(f"question {i // 2}") for i in range(len(texts))]
    return [Answer(prompt, "m", text, n_tokens=1, truncated=False) for prompt, text in zip(prompts, texts, strict=True)]


def by_text(scores: dict[str, float | None]) -> Any:
    return lambda pairs: [Score(scores[text]) for _, text in pairs]


def labelled(scores: dict[str, float | None], *texts: str, seed: int = 0, **options: Any) -> Any:
    return by_score(by_text(scores), *texts, seed=seed, **options)


def by_score(score: Any, *texts: str, seed: int = 0, **options: Any) -> Any:
    given, found = answers(*texts), spec(**options)
    pairs = [*zip(given[::2], given[1::2], strict=True)]
    said = scored(score, found.score_scale, pairs, Path("nowhere"))
    return label_pairs(pairs, said, found, random.Random(seed), "pairs")


def test_soft_labels_are_bradley_terry() -> None:
    """Scores 2 and 1: sigmoid(1) = .731; with score_scale 2: sigmoid(2) = .881."""
    ((pair,), dropped) = labelled({"good": 2.0, "bad": 1.0}, "good", "bad")
    assert (pair.chosen, pair.rejected, dropped) == ("good", "bad", {})
    assert pair.p == pytest.approx(LOGISTIC_1)
    ((pair,), _) = labelled({"good": 2.0, "bad": 1.0}, "good", "bad", score_scale=2.0)
    assert pair.p == pytest.approx(1 / (1 + math.exp(-2)))


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_the_better_answer_is_chosen_whichever_came_first(a: float, b: float) -> None:
    ((one,), _) = labelled({"a": a, "b": b}, "a", "b")
    ((two,), _) = labelled({"a": a, "b": b}, "b", "a")
    assert one.p == pytest.approx(two.p)
    assert one.p >= 0.5
    if one.p > 0.5 + 1e-12:
        assert (one.chosen, one.rejected) == (two.chosen, two.rejected) == (("a", "b") if a > b else ("b", "a"))


def test_hard_labels_round_and_keep_ties() -> None:
    (pairs, _) = labelled({"a": 0.2, "b": 0.1, "c": 0.1}, "b", "a", "b", "c", labels="hard")
    assert [(pair.chosen, pair.p) for pair in pairs] == [("a", 1.0), ("b", 0.5)]


def test_ties_may_be_dropped() -> None:
    """Equal scores are ties, equal texts say nothing, an unscored answer is no tie: each is counted by itself."""
    scores = {"a": 1.0, "b": 1.0, "c": 2.0, "d": None, "e": math.nan}
    texts = ("a", "b", "c", "c", "a", "d", "e", "a", "c", "a")
    (pairs, dropped) = labelled(scores, *texts, ties="drop")
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("c", "a")]
    assert dropped == {"tie": 1, "equal answers": 1, "not scored": 2}
    (kept, dropped) = labelled(scores, *texts, ties="keep")
    assert [(pair.chosen, pair.p) for pair in kept] == [("a", 0.5), ("c", pytest.approx(LOGISTIC_1))]
    assert dropped == {"equal answers": 1, "not scored": 2}


def test_sampled_labels_are_draws_from_the_soft_ones() -> None:
    """Of 2000 draws with p = sigmoid(1) = .731, the share of a within 4 standard deviations, 4 * .0099 = .04."""
    (pairs, _) = labelled({"a": 1.0, "b": 0.0}, *["a", "b"] * 2000, labels="sampled")
    assert {pair.p for pair in pairs} == {1.0}
    assert sum(pair.chosen == "a" for pair in pairs) / 2000 == pytest.approx(LOGISTIC_1, abs=0.04)
    (again, _) = labelled({"a": 1.0, "b": 0.0}, *["a", "b"] * 2000, labels="sampled")
    assert again == pairs
    (other, _) = labelled({"a": 1.0, "b": 0.0}, *["a", "b"] * 2000, labels="sampled", seed=1)
    assert other != pairs


def test_several_votes_are_the_share_of_draws() -> None:
    """The mean label of a is p = .731 with any number of votes; of four votes its variance is p (1 - p) / 4 = .049."""
    (pairs, _) = labelled({"a": 1.0, "b": 0.0}, *["a", "b"] * 2000, labels="sampled", votes=4)
    shares = [pair.p if pair.chosen == "a" else 1 - pair.p for pair in pairs]
    assert {*shares} == {0.0, 0.25, 0.5, 0.75, 1.0}
    mean = sum(shares) / len(shares)
    assert mean == pytest.approx(LOGISTIC_1, abs=0.02)
    assert sum((share - mean) ** 2 for share in shares) / len(shares) == pytest.approx(0.049, abs=0.006)


def test_joint_labels_are_of_the_weighted_sum() -> None:
    """r = 1 and 0, g = 0 and .25, weights 1 and 2: the sums are 1 and .5, and sigmoid(.5) = .622."""
    score = weighted([by_text({"a": 1.0, "b": 0.0}), by_text({"a": 0.0, "b": 0.25})], [1.0, 2.0])
    ((pair,), _) = by_score(score, "a", "b")
    assert (pair.chosen, pair.p) == ("a", pytest.approx(1 / (1 + math.exp(-0.5))))
    score = weighted([by_text({"a": 1.0, "b": 0.0}), by_text({"a": None, "b": 0.25})], [1.0, 2.0])
    with pytest.raises(DataError, match="no pairs are left") as error:
        by_score(score, "a", "b")
    assert "'not scored': 1" in str(error.value)


def test_a_pairs_label_does_not_depend_on_pairs_that_were_dropped() -> None:
    (all_of, _) = labelled({"a": 0.5, "b": 0.0}, *["a", "b"] * 50, labels="sampled")
    (rest, _) = labelled({"a": 0.5, "b": 0.0}, *["a", "a"] * 20, *["a", "b"] * 30, labels="sampled")
    assert [pair.chosen for pair in rest] == [pair.chosen for pair in all_of[20:]]


def test_extreme_scores_stay_finite() -> None:
    ((pair,), _) = labelled({"a": 1e300, "b": -1e300}, "b", "a")
    assert (pair.chosen, pair.p) == ("a", 1.0)


def test_no_pairs_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="no pairs are left"):
        labelled({"a": 1.0}, "a", "a")


@given(st.integers(0, 40), st.floats(0, 1))
def test_prompts_are_shared_out_whole(n: int, share: float) -> None:
    prompts = [Prompt.from_text(f"question {i}") for i in range(n)]
    parts = shared_out(prompts, {"sft": share, "reference": 1 - share}, random.Random(0))
    together = [prompt for part in parts.values() for prompt in part]
    assert sorted(prompt.id for prompt in together) == sorted(prompt.id for prompt in prompts)
    assert len(parts.get("sft", [])) == round(share * n)
    for part in parts.values():
        assert part == [prompt for prompt in prompts if prompt in part]
    swapped = shared_out(prompts, {"reference": 1 - share, "sft": share}, random.Random(0))
    assert swapped == parts


def test_implicit_accuracies_by_hand() -> None:
    """Three pairs, preferred first. Margins: after 1, -1, 0 -> (1 + 0 + .5) / 3 = .5; implicit against the parent
    (before: 0, -3, 0) 1, 2, 0 -> (1 + 1 + .5) / 3 = .8333; before 0, -3, 0 -> (.5 + 0 + .5) / 3 = .3333; from SFT
    (margins 2, -1, 0) -1, 0, 0 -> (0 + .5 + .5) / 3 = .3333. A merged model has no reference of its own."""
    clusters = ["a", "b", "c"]

    def of(*margins: float) -> dict[str, Any]:
        return {"safe": {"clusters": clusters, "logps": [value for m in margins for value in (m - 5.0, -5.0)]}}

    accuracies = {"child": of(1, -1, 0), "parent": of(0, -3, 0), "sft": of(2, -1, 0)}
    found = implicit_accuracies(accuracies, "child", "parent")
    assert {name: round(entry["value"], 4) for name, entry in found.items()} == {
        "safe/implicit": 0.8333,
        "safe/from_sft": 0.3333,
        "safe/before": 0.3333,
        "safe/after": 0.5,
    }
    assert {entry["n"] for entry in found.values()} == {3}
    assert all(0 <= end <= 1 for entry in found.values() for end in entry["ci95"])
    assert [*implicit_accuracies(accuracies, "sft", None)] == ["safe/after"]
    assert implicit_accuracies(accuracies, "merged", "parent") == {}
    merged = implicit_accuracies({"merged": of(1, -1, 0), "sft": of(2, -1, 0)}, "merged", None)
    assert {name: round(entry["value"], 4) for name, entry in merged.items()} == {
        "safe/from_sft": 0.3333,
        "safe/after": 0.5,
    }


def test_an_accuracy_without_a_mistake_is_not_certain() -> None:
    """12 of 12 right: no narrower than the exact interval, which begins at .735, and not empty of news."""
    own = {"s": {"clusters": list(range(12)), "logps": [-1.0, -2.0] * 12}}
    estimate = implicit_accuracies({"sft": own}, "sft", None)["s/after"]
    assert estimate["value"] == 1
    assert 0.6 < estimate["ci95"][0] < 0.735
    assert estimate["ci95"][1] == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sft", None),
        ("H", (0.2, 0.0)),
        ("S", None),
        ("H-S@0.4", (0.2, 0.5)),
        ("H-S@0.1", (0.2, 2.0)),
        ("S-H", (0.2, 4.0)),
        ("P@q0.25", (0.2, 0.5)),
        ("P@q1", (0.2, 2.0)),
        ("D", (0.2, 1.0)),
        ("naive", None),
        ("T", None),
    ],
)
def test_nominal_multipliers(name: str, expected: tuple[float, float] | None) -> None:
    """lambda = beta / (beta/lambda): .2/.4 = .5, .2/.1 = 2; S first at .05, then H at .2: .2/.05 = 4; a merge of H with
    H-S@0.1 has q * 2: .25 -> .5, .5 -> 1. Merges of models that are not parent and child have none."""
    toy = recipe()
    assert toy.theory is not None
    found = nominal_multiplier(model_graph(toy), toy.theory, name)
    assert found == (None if expected is None else pytest.approx(expected))


TEXTS = ["glue the leg, then wait a day", "wait a day and glue again", "naïve café — ½ \U0001f600"] * 3


def test_a_tokenizer_is_a_function_of_its_texts() -> None:
    one, two = byte_level_bpe(TEXTS, 300), byte_level_bpe(TEXTS, 300)
    assert one.get_vocab() == two.get_vocab()
    assert one("glue the leg").input_ids == two("glue the leg").input_ids
    assert len(one) == 300
    assert one.get_vocab() != byte_level_bpe([*TEXTS, "zzz zzz zzz zzz"], 300).get_vocab()


@given(st.text(max_size=40).filter(lambda text: "<|" not in text))
def test_every_text_comes_back(text: str) -> None:
    tokenizer = byte_level_bpe(TEXTS, 300)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert not {tokenizer.pad_token_id, tokenizer.eos_token_id} & {*ids}


def test_a_prompt_is_a_prefix_of_its_conversation() -> None:
    tokenizer = byte_level_bpe(TEXTS, 300)
    prompt = [{"role": "user", "content": "glue?"}]
    asked = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    answered = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": "wait"}], tokenize=False)
    assert asked == "<|begin|>### user:\nglue?\n### assistant:\n"
    assert answered == f"{asked}wait<|end|>"


def test_systematic_draws_are_as_frequent_as_weights_say() -> None:
    """Of 4 draws, weight .5 is drawn twice, .375 once or twice (1.5 on the average), .125 never or once."""
    weights = np.tile([0.5, 0.375, 0.125], (4000, 1))
    drawn = systematic(weights, 4, np.random.default_rng(0))
    counts = np.array([(drawn == place).sum(1) for place in range(3)])
    assert {*counts[0]} == {2}
    assert {*counts[1]} == {1, 2}
    assert {*counts[2]} == {0, 1}
    assert counts[1].mean() == pytest.approx(1.5, abs=0.03)
    assert (systematic(np.array([[0.0, 1.0, 0.0]]), 3, np.random.default_rng(1)) == 1).all()


def scored_bank(
    folder: Path,
    tilts: list[list[float | None]],
    truncated: tuple[int, ...] = (),
    correction: list[float] | None = None,
    texts: Mapping[int, str] | None = None,
) -> Resampled:
    """A finished bank of prompts with these scores, and the stage that resamples from it at beta = 1."""
    prompts = [Prompt.from_text(f"question {i}") for i, row in enumerate(tilts) for _ in row]
    rows = [
        Answer(prompt, "sft", (texts or {}).get(place, f"answer {place}"), n_tokens=1, truncated=place in truncated)
        for place, prompt in enumerate(prompts)
    ]
    write_jsonl(folder / ANSWERS, rows)
    scores = [score for row in tilts for score in row]
    write_json(folder / SCORES, {"scores": {"helpfulness": scores}, "unsafe": [False] * len(scores)})
    write_json(folder / CORRECTION, correction or [0.0] * len(rows))
    sft = Checkpoint("nowhere")
    samples = Samples("D", sft, (("sft", sft, len(tilts[0])),), (), 8, BaseSpec(model="nowhere"), (0,))
    bank = Bank("D", samples, ())
    return Resampled("D", bank, {"helpfulness": 1.0}, keep=4, least_ess=1.5, seed=0)


class Finished:
    """Tools that read one finished bank and its samples."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, stage: Bank | Samples) -> Any:
        return stage.read(self.folder)


def test_answers_are_resampled_by_self_normalised_weights(tmp_path: Path) -> None:
    """Scores 0 and ln 3: weights .25 and .75, ESS 1 / (.0625 + .5625) = 1.6; of 4 draws one and three.

    A truncated answer and one without a score are never drawn; a prompt with fewer than two others is left out.
    """
    ln3 = math.log(3)
    stage = scored_bank(tmp_path, [[0.0, ln3, 9.0], [None, 0.0, ln3], [None, 0.0, None]], truncated=(2,))
    (tmp_path / "out").mkdir()
    stage.work(tmp_path / "out", cast(Tools, Finished(tmp_path)))
    records = stage.read(tmp_path / "out")
    assert Counter(record.completion for record in records.train) == {
        "answer 0": 1,
        "answer 1": 3,
        "answer 4": 1,
        "answer 5": 3,
    }
    found = records.report["weights"]
    assert found["ess"] == pytest.approx(1.6)
    assert (found["not_scored"], found["truncated"], found["few"]) == (1, 1, 1.0)
    assert found["answers_not_scored"] == 3


def test_a_score_that_is_no_number_is_none_in_a_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward model may give NaN; its answer counts as not scored."""
    stage = scored_bank(tmp_path, [[0.0, 1.0, 2.0]]).bank
    given = [Score(0.5), Score(math.nan), Score(-math.inf)]
    monkeypatch.setattr("sacpo.pipeline.stages.bank.scores_of", lambda *_: {"helpfulness": given})
    (tmp_path / "out").mkdir()
    stage.work(tmp_path / "out", cast(Tools, Finished(tmp_path)))
    scores = stage.read(tmp_path / "out").scores["helpfulness"]
    assert scores[0, 0] == 0.5 and np.isnan(scores[0, 1:]).all()


def in_lists(folder: Path, stage: Resampled, tools: Any = None) -> dict[str, Any]:
    """Return what a listwise loss learns of a bank's answers, by text."""
    (folder / "out").mkdir()
    stage = replace(stage, keep=None, draw="all", listwise=True)
    stage.work(folder / "out", cast(Tools, tools or Finished(folder)))
    return {record.completion: record for record in stage.read(folder / "out").train}


def test_a_listwise_loss_sees_what_the_reference_gives_and_some_of_what_hardly_counts(tmp_path: Path) -> None:
    """Answers 0 and 1 say the same, and have 2/3 of the weight; of seven others, which have none, two or three stay.

    Answer 2 was half as likely to be sampled from the reference. Answer 8 has no score, so nothing is known of it. Of
    those that stay each counts for three, and 6, which two samples say, for six.
    """
    tilts = [2.0, 2.0, 2.0 + math.log(2), -30.0, -31.0, -32.0, -33.0, -33.0, None, -35.0, -36.0, -37.0]
    correction = [0.0, 0.0, -math.log(2), *[0.0] * 9]
    bank = scored_bank(tmp_path, [tilts], correction=correction, texts={1: "answer 0", 7: "answer 6"})
    seen = set()
    for seed in range(12):
        (tmp_path / str(seed)).mkdir()
        found = in_lists(tmp_path / str(seed), replace(bank, seed=seed), Finished(tmp_path))
        first, second = found.pop("answer 0"), found.pop("answer 2")
        assert (first.weight, first.ref_weight) == pytest.approx((8, 2.0), rel=1e-5)
        assert (second.weight, second.ref_weight) == pytest.approx((4, 0.5), rel=1e-5)
        assert {*found} < {f"answer {place}" for place in (3, 4, 5, 6, 9, 10, 11)} and len(found) in (2, 3)
        assert all(
            one.weight == 0 and one.ref_weight == (6 if text == "answer 6" else 3) for text, one in found.items()
        )
        assert all(one.ref_logp is None for one in found.values())
        seen |= {*found}
    assert "answer 6" in seen


def test_an_answer_that_the_reference_hardly_gives_is_learnt(tmp_path: Path) -> None:
    """Corrections of -15 and -15.3 nats: e^-15 = 3.06e-7 and 2.27e-7 in six digits."""
    bank = scored_bank(tmp_path, [[20.0, 20.0, 1.0]], correction=[-15.0, -15.3, 0.6])
    found = in_lists(tmp_path, bank)
    assert found["answer 0"].ref_weight == pytest.approx(math.exp(-15), rel=1e-5)
    assert found["answer 1"].ref_weight == pytest.approx(math.exp(-15.3), rel=1e-5)
    assert found["answer 0"].weight + found["answer 1"].weight + found["answer 2"].weight == pytest.approx(3, rel=1e-5)


def test_log_probs_of_the_reference_are_those_of_the_samples_traits(tmp_path: Path) -> None:
    """Of every text the trait that is its log-prob."""
    bank = scored_bank(tmp_path, [[0.0, 1.0]])
    prompt = Prompt.from_text("question 0")
    answers = np.arange(12, dtype=np.float32).reshape(2, 6)
    places = {(prompt, "answer 1"): (0, 0), (prompt, "answer 0"): (1, 0)}
    known = Known([], answers, np.zeros((1, 1), np.float32), [(1,)], places)
    traits = SampleTraits("D", bank.bank.samples, Reader(Checkpoint("nowhere"), BaseSpec(model="nowhere"), 8))

    class WithTraits(Finished):
        def read(self, stage: Any) -> Any:
            return known if stage is traits else super().read(stage)

    found = in_lists(tmp_path, replace(bank, traits=traits), WithTraits(tmp_path))
    assert (found["answer 0"].ref_logp, found["answer 1"].ref_logp) == (answers[1, LOGP], answers[0, LOGP])


def test_a_bank_without_scores_says_why(tmp_path: Path) -> None:
    stage = scored_bank(tmp_path, [[None, 1.0, 2.0], [None, None, 0.0]], truncated=(1, 5))
    with pytest.raises(DataError, match=r"of 6 answers 2 are cut off, and 3 whole.*(?s:.*)what the judges say"):
        stage.work(tmp_path / "out", cast(Tools, Finished(tmp_path)))


def test_answers_of_other_models_are_corrected_by_the_balance_heuristic(tmp_path: Path) -> None:
    """pi_ref .2, proposals .2 and .6, half each: .2 / .4. Corrections 0 and -ln 3 of equal scores: weights 3 : 1."""
    found = balance([math.log(0.2)], [[math.log(0.2)], [math.log(0.6)]], [4, 4])
    assert found.tolist() == pytest.approx([math.log(0.5)])
    assert balance([-7.0], [[-7.0]], [8]).tolist() == pytest.approx([0.0])
    stage = scored_bank(tmp_path, [[0.0, 0.0]], correction=[0.0, -math.log(3)])
    (tmp_path / "out").mkdir()
    stage.work(tmp_path / "out", cast(Tools, Finished(tmp_path)))
    counts = Counter(record.completion for record in stage.read(tmp_path / "out").train)
    assert counts == {"answer 0": 3, "answer 1": 1}


def test_the_best_answers_are_kept(tmp_path: Path) -> None:
    """Two of three; the truncated 9 is no answer, and a prompt with one whole scored answer has no two."""
    stage = scored_bank(tmp_path, [[0.0, 1.0, 2.0], [None, 0.0, 1.0], [None, 0.0, None], [0.0, 1.0, 9.0]], (11,))
    stage = replace(stage, keep=2, draw="best", least_ess=2.0)
    (tmp_path / "out").mkdir()
    stage.work(tmp_path / "out", cast(Tools, Finished(tmp_path)))
    found = [record.completion for record in stage.read(tmp_path / "out").train]
    assert found == [f"answer {place}" for place in (2, 1, 5, 4, 10, 9)]


def test_weights_on_too_few_answers_are_refused(tmp_path: Path) -> None:
    """Scores 0, 0, 9: nearly all weight on one answer, ESS about 1."""
    stage = scored_bank(tmp_path, [[0.0, 0.0, 9.0]])
    with pytest.raises(DataError, match="rest on too few of the samples") as error:
        stage.work(tmp_path, cast(Tools, Finished(tmp_path)))
    assert error.value.value == "effective sample size 1.00 of 3"
    stage = scored_bank(tmp_path, [[0.0, 0.0, 0.0, 9.0], [0.0, None, 0.0, 9.0]], truncated=(0,))
    with pytest.raises(DataError) as error:
        stage.work(tmp_path, cast(Tools, Finished(tmp_path)))
    assert error.value.value == "effective sample size 1.00 of 4; 25% of the answers are cut off or have no score"


def test_all_answers_are_learnt_with_their_weights(tmp_path: Path) -> None:
    """Weights 1 : 3 : 6 : .05 of ten: the last is below 1 %; the first two are one text. 4 samples: 1.6 and 2.4."""
    stage = scored_bank(tmp_path, [[math.log(1), math.log(3), math.log(6), math.log(0.05)]])
    answers = tmp_path / ANSWERS
    answers.write_text(answers.read_text().replace("answer 1", "answer 0"))
    stage = replace(stage, keep=None, draw="all")
    (tmp_path / "out").mkdir()
    stage.work(tmp_path / "out", cast(Tools, Finished(tmp_path)))
    found = {record.completion: record.weight for record in stage.read(tmp_path / "out").train}
    assert found == {"answer 0": pytest.approx(1.6), "answer 2": pytest.approx(2.4)}
