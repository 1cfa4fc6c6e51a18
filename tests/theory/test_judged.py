"""Verdicts on several answers to a prompt become samples, or an error that says which one does not fit."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sacpo.data.records import Kind, Verdict
from sacpo.errors import DataError
from sacpo.theory.frontier import expected, needed
from sacpo.theory.judged import Score, pooled, samples_of

G = Score({"harmlessness": 1.0})


def verdict(prompt: str, sample: int, score: float | None, label: str = "", **more: object) -> Verdict:
    kind = Kind.RESTRICTED if prompt.startswith("r") else Kind.BORDERLINE
    said = {"criterion": "harmlessness", "judge": "oracle", "answer_hash": "0", "baseline": "", "baseline_hash": ""}
    asked = {"prompt_id": prompt, "cluster": prompt, "category": "", "kind": kind, "model": "H", "sample": sample}
    return Verdict(**{**said, **asked, "outcome": None, "score": score, "label": label, **more})  # type: ignore[arg-type]


VERDICTS = [
    verdict("r1", 0, -1.0, "unsafe"),
    verdict("r1", 1, 1.0, "safe"),
    verdict("b1", 1, 0.5, "safe"),
    verdict("b1", 0, 0.0, "safe"),
]


def test_scores_stand_by_prompt_and_sample() -> None:
    samples = samples_of(VERDICTS, Score({"harmlessness": 1.0}, scale=2.0))
    assert samples.bank.safeties.tolist() == [[-2.0, 2.0], [0.0, 1.0]]
    assert samples.bank.unsafe is not None
    assert samples.bank.unsafe.tolist() == [[True, False], [False, False]]
    assert samples.bank.restricted is not None
    assert samples.bank.restricted.tolist() == [True, False]
    assert samples.bank.refused is None
    assert not samples.rewarded


def test_scores_of_several_criteria_are_summed_with_their_weights() -> None:
    other = [replace(v, criterion="helpfulness", score=3.0, label="") for v in VERDICTS]
    joint = Score({"helpfulness": 1.0, "harmlessness": 2.0}, scale=0.5)
    assert samples_of([*VERDICTS, *other], joint).bank.safeties.tolist() == [[0.5, 2.5], [1.5, 2.0]]
    assert joint.criterion == "helpfulness + 2 harmlessness"
    assert (joint.is_of("harmlessness"), G.is_of("harmlessness"), G.is_of(None)) == (False, True, False)


def test_labels_stand_in_for_scores_as_log_odds_of_the_votes() -> None:
    """One safe verdict: log(1.5 / .5) = log 3; two of three safe: log(2.5 / 1.5)."""
    more = [replace(VERDICTS[1], repeat=n, label=label) for n, label in ((1, "safe"), (2, "unsafe"))]
    found = samples_of([*VERDICTS, *more], Score({"harmlessness": 1.0}, labels=True)).bank.safeties
    assert found[0].tolist() == pytest.approx([-math.log(3), math.log(2.5 / 1.5)])
    assert found[1].tolist() == pytest.approx([math.log(3)] * 2)


@pytest.mark.parametrize(
    ("verdicts", "score", "said"),
    [
        ([replace(VERDICTS[0], score=None), *VERDICTS[1:]], G, "prompt r1, answer 0, criterion harmlessness"),
        ([replace(VERDICTS[0], score=math.nan), *VERDICTS[1:]], G, "has no finite score"),
        (VERDICTS, Score({"harmlessness": 1.0}, least=0.0, most=1.0), "outside its declared range"),
        (VERDICTS, Score({"rudeness": 1.0}), "no verdicts of this criterion"),
        (VERDICTS[:3], G, "the same number of answers to every prompt"),
        ([VERDICTS[0], VERDICTS[2]], G, "two or more"),
        ([replace(VERDICTS[0], model="S"), *VERDICTS[1:]], G, "one model's samples"),
        ([], G, "no verdicts"),
    ],
)
def test_what_makes_no_samples_is_refused(verdicts: list[Verdict], score: Score, said: str) -> None:
    with pytest.raises(DataError, match=said):
        samples_of(verdicts, score)


def test_samples_of_two_models_are_draws_from_their_mixture() -> None:
    """pi_1 = (.9, .1) and pi_0 = (.5, .5) on a safe-less and a safe answer, ten draws of each in these very shares.

    Of the pool 14 are unsafe and 6 safe, with weights .9 / .7 and .1 / .3: 18 to 2, which is pi_1 again. Tilted by
    eta g, g = -1 and 1, it is (.9 e^-eta, .1 e^eta) / Z, and KL to pi_1 is eta E[g] - log Z.
    """
    own = [verdict("r", i, *((-1.0, "unsafe") if i < 9 else (1.0, "safe"))) for i in range(10)]
    other = [replace(verdict("r", i, *((-1.0, "unsafe") if i < 5 else (1.0, "safe"))), model="sft") for i in range(10)]
    log_ratio = {True: math.log(0.5 / 0.9), False: math.log(0.5 / 0.1)}
    ratios = [{(v.prompt_id, v.sample): log_ratio[v.label == "unsafe"] for v in verdicts} for verdicts in (own, other)]
    samples = pooled(own, other, *ratios, G)
    assert samples.bank.safeties.shape == (1, 20)
    assert expected(samples, 0.0)["unsafe_rate"] == pytest.approx(0.9)
    eta = 1.5
    z = 0.9 * math.exp(-eta) + 0.1 * math.exp(eta)
    found, mean = expected(samples, eta), (0.1 * math.exp(eta) - 0.9 * math.exp(-eta)) / z
    assert found["unsafe_rate"] == pytest.approx(0.9 * math.exp(-eta) / z)
    assert found["E_g"] == pytest.approx(mean)
    assert found["kl"] == pytest.approx(eta * mean - math.log(z))
    assert needed(samples, "E_g", mean).eta == pytest.approx(eta)
    assert needed(samples, "unsafe_rate", 0.9 * math.exp(-eta) / z).eta == pytest.approx(eta)


def test_models_are_pooled_in_equal_numbers() -> None:
    with pytest.raises(DataError, match="pooled in equal numbers"):
        pooled(VERDICTS, [replace(VERDICTS[0], sample=n, model="sft") for n in range(3)], {}, {}, G)


def test_a_text_is_no_score() -> None:
    with pytest.raises(DataError, match="no finite score"):
        samples_of([replace(VERDICTS[0], score="x"), *VERDICTS[1:]], G)  # type: ignore[arg-type]
