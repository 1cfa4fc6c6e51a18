"""Samples for `sacpo.theory.frontier` from verdicts: several answers to each prompt, each scored and labelled."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sacpo.data.records import Kind, Verdict
from sacpo.errors import DataError
from sacpo.stats.labels import REFUSAL, UNSAFE
from sacpo.theory.frontier import Samples
from sacpo.theory.optimum import Bank

Floats = npt.NDArray[np.float64]
Place = tuple[str, int]
"""A prompt's id and the number of an answer to it."""


@dataclass(frozen=True)
class Score:
    """Where a score comes from.

    Attributes:
        weights: Criteria whose scores are summed, with their weights.
        scale: Factor that makes logits of the preference data of the sum.
        labels: Make it of labels: the log-odds of a safe one, `log((k + 1/2) / (n - k + 1/2))` for k of n verdicts on
            an answer. Only its order means something: labels do not tell how much safer an answer is.
        least, most: What a score may be, before weights and factor; None: anything finite.
    """

    weights: Mapping[str, float]
    scale: float = 1.0
    labels: bool = False
    least: float | None = None
    most: float | None = None

    @property
    def criterion(self) -> str:
        """The criterion; of a sum all of them with their weights."""
        named = (name if weight == 1 else f"{weight:g} {name}" for name, weight in self.weights.items())
        return " + ".join(named)

    def is_of(self, criterion: str | None) -> bool:
        """Tell whether it is a criterion's own score, whatever its factor."""
        return not self.labels and [*self.weights] == [criterion] and self.weights[criterion or ""] == 1


def samples_of(verdicts: Sequence[Verdict], safety: Score, reward: Score | None = None) -> Samples:
    """Return the samples that verdicts of one model tell of.

    An answer is unsafe (it refuses) when at least half of a criterion's verdicts on it say so, of any criterion.
    Unsafe answers count on restricted prompts, or on those of unknown kind where none is restricted; refusals on
    borderline ones.

    Raises:
        DataError: A score is missing or out of its range, or prompts have different numbers of answers.
    """
    places = places_of(verdicts)
    first = {v.prompt_id: v for v in reversed(verdicts)}
    prompts = [*places]
    restricted, borderline = counted([first[prompt].kind for prompt in prompts])
    scores = _scores(verdicts, safety, places)
    bank = Bank(
        rewards=np.zeros_like(scores) if reward is None else _scores(verdicts, reward, places),
        safeties=scores,
        unsafe=_flags(verdicts, UNSAFE, places),
        refused=_flags(verdicts, REFUSAL, places),
        restricted=restricted,
        borderline=borderline,
    )
    return Samples(bank, tuple(first[prompt].cluster for prompt in prompts), reward is not None)


def counted(kinds: Sequence[Kind]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which prompts count in the unsafe rate, and which in the over-refusal rate."""
    restricted, unknown, borderline = (
        np.array([kind is wanted for kind in kinds], bool)
        for wanted in (Kind.RESTRICTED, Kind.UNKNOWN, Kind.BORDERLINE)
    )
    return restricted if restricted.any() else unknown, borderline


def pooled(
    own: Sequence[Verdict],
    other: Sequence[Verdict],
    log_ratios: Mapping[Place, float],
    other_ratios: Mapping[Place, float],
    safety: Score,
    reward: Score | None = None,
) -> Samples:
    """Return the samples of a model and as many of another one as draws from their mixture.

    Args:
        own: Verdicts on samples of the model that the step starts from.
        other: Verdicts on samples of the other model, for the same prompts.
        log_ratios: log pi_other - log pi_own of the model's own samples, in nats.
        other_ratios: The same of the other model's samples.
        safety, reward: Where scores come from.

    Raises:
        DataError: As `samples_of`, or a model has more samples than the other.
    """
    counts = [len({v.sample for v in verdicts}) for verdicts in (own, other)]
    if counts[0] != counts[1]:
        raise DataError("two models' samples are pooled in equal numbers", value=counts, do="draw as many of each")
    later = 1 + max(v.sample for v in own)
    verdicts = [*own, *(replace(v, model=own[0].model, sample=v.sample + later) for v in other)]
    moved = {(prompt, sample + later): ratio for (prompt, sample), ratio in other_ratios.items()}
    known = {**log_ratios, **moved}
    found = np.array([[known[place] for place in places] for places in places_of(verdicts).values()])
    return replace(samples_of(verdicts, safety, reward), offsets=math.log(2) - np.logaddexp(0.0, found))


def scores_of(verdicts: Sequence[Verdict], score: Score) -> Floats:
    """Return one criterion's scores; errors as of `samples_of`. Shape: (prompts, answers)."""
    return _scores(verdicts, score, places_of(verdicts))


def places_of(verdicts: Sequence[Verdict]) -> dict[str, list[Place]]:
    """Return the answers of every prompt, in order: of each its prompt's id and its number.

    Raises:
        DataError: There are none, of several models, or not the same number of each prompt, two or more.
    """
    models = sorted({v.model for v in verdicts})
    if len(models) != 1:
        raise DataError(
            "a plan is made from one model's samples" if models else "there are no verdicts",
            value=models or None,
            allowed="one model",
            do="give the folder in which 'judge' judged the samples of the model that the step starts from",
        )
    found: dict[str, set[int]] = defaultdict(set)
    for v in verdicts:
        found[v.prompt_id].add(v.sample)
    counts = {len(samples) for samples in found.values()}
    if len(counts) > 1 or min(counts) < 2:
        raise DataError(
            "a plan needs the same number of answers to every prompt, two or more",
            where="verdicts",
            value=sorted(counts),
            do="generate them with --samples 16, and judge them all",
        )
    return {prompt: [(prompt, sample) for sample in sorted(samples)] for prompt, samples in found.items()}


def _scores(verdicts: Sequence[Verdict], score: Score, places: Mapping[str, Sequence[Place]]) -> Floats:
    return score.scale * sum(
        (weight * _own(verdicts, criterion, score, places) for criterion, weight in score.weights.items()),
        np.zeros(()),
    )


def _own(verdicts: Sequence[Verdict], criterion: str, score: Score, places: Mapping[str, Sequence[Place]]) -> Floats:
    said: dict[Place, list[float | None]] = defaultdict(list)
    for v in verdicts:
        if v.criterion == criterion:
            said[v.prompt_id, v.sample].append(_safe(v) if score.labels else v.score)
    if not said:
        raise DataError(
            "no verdicts of this criterion",
            where="criterion",
            value=criterion,
            allowed=sorted({v.criterion for v in verdicts}),
            do="judge the samples by it",
        )
    values = [
        [_one(said[place], score, f"prompt {place[0]}, answer {place[1]}, criterion {criterion}") for place in members]
        for members in places.values()
    ]
    return np.array(values)


def _safe(verdict: Verdict) -> float | None:
    unsafe = UNSAFE.get(verdict.label, REFUSAL.get(verdict.label))
    return None if unsafe is None else float(not unsafe)


def _one(said: Sequence[float | None], score: Score, where: str) -> float:
    read = [value for value in said if value is not None]
    bad = [value for value in said if not isinstance(value, int | float) or not math.isfinite(value)]
    if not said or bad:
        raise DataError(
            "an answer has no finite score" if not score.labels else "an answer has no label",
            where=where,
            value="none" if not bad or bad[0] is None else bad[0],
            do="judge it again, or name a criterion whose judge scores every answer",
        )
    if score.labels:
        return math.log((sum(read) + 0.5) / (len(read) - sum(read) + 0.5))
    value = math.fsum(read) / len(read)
    least = -math.inf if score.least is None else score.least
    most = math.inf if score.most is None else score.most
    if not least <= value <= most:
        raise DataError(
            "a score lies outside its declared range",
            where=where,
            value=value,
            allowed=f"{least:g} to {most:g}",
            do="correct the range, or the judge",
        )
    return value


def _flags(
    verdicts: Sequence[Verdict], meaning: Mapping[str, bool], places: Mapping[str, Sequence[Place]]
) -> npt.NDArray[np.bool_] | None:
    """Return what labels say of every answer; None where not every answer is labelled."""
    said: dict[Place, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for v in verdicts:
        if v.label in meaning:
            said[v.prompt_id, v.sample][v.criterion].append(meaning[v.label])
    if not said or not all(place in said for members in places.values() for place in members):
        return None
    return np.array(
        [
            [any(2 * sum(of) >= len(of) for of in said[place].values()) for place in members]
            for members in places.values()
        ]
    )
