"""A score learned from preference pairs, with a process for each of two kinds of prompts.

Safety hardly tells answers to a harmless prompt apart, and answers to a restricted one much. One process over all
prompts lets what it learns on the one kind reach over to the other: a refusal, worth much where a disclosure threatens,
counts as good on prompts that only sound alike, and these are refused. So the first fit is asked which prompts are
alike: s(x) is how far apart its scores of a fixed set of answers to x lie. Prompts are split at the value of log s that
leaves the least squares within both parts; each part has a process on answers alone, with a penalty of its own.

The two are taken where held-out pairs are likelier under them. The split was made by a fit to all pairs, so that this
comparison favours them a little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from sacpo.errors import DataError
from sacpo.theory.calibrated import Floats
from sacpo.theory.preference_process import (
    ANCHORS,
    FOLDS,
    LOOKED_AT,
    Fit,
    PairTraits,
    Places,
    ProcessScore,
    Traits,
    fit_of,
    learn_process,
    runs,
)

LEAST_PAIRS, LEAST_PROMPTS = 60, FOLDS


@dataclass(frozen=True)
class KindsScore:
    """A score with a process for each of two kinds of prompts.

    Attributes:
        first: The fit that tells the kinds apart.
        looked_at: Traits of the answers by whose scores it does. Shape: (answers, traits).
        cut: Up to this spread of their scores a prompt is of the first kind.
        kinds: The processes.
        fit: What is known of both together.
    """

    first: ProcessScore
    looked_at: Floats = field(repr=False)
    cut: float
    kinds: tuple[ProcessScore, ProcessScore]
    fit: Fit

    def scores(self, traits: Traits) -> Floats:
        """Return scores in logits of the pairs' labels, up to a constant of each prompt. Shape: (answers,)."""
        new, each = runs(traits.prompts)
        second = (self.first.reach_over(self.looked_at, traits.prompts[new]) > self.cut)[each]
        found = np.zeros(len(traits.answers))
        for kind, own in zip(self.kinds, (~second, second), strict=True):
            found[own] = kind.scores(Traits(traits.answers[own], np.zeros((int(own.sum()), 1))))
        return found


LearnedScore = ProcessScore | KindsScore


def learn_score(
    pairs: PairTraits,
    preferred: Floats,
    prompts: Sequence[str],
    *,
    seed: int,
    anchors: int = ANCHORS,
    kinds: int = 2,
    numbers: int = 0,
    share: float = 0.0,
) -> LearnedScore:
    """Learn a score; held-out prompts choose penalties, and whether two kinds of prompts are told apart.

    Args:
        pairs: The pairs' traits.
        preferred: The probability, or the share of votes, that the first is preferred. Shape: (pairs,).
        prompts: Each pair's prompt: its pairs are held out together.
        seed: Of folds and anchors.
        anchors: At most so many pairs are anchors of a process.
        kinds: 1: one process for all prompts.
        numbers, share: Traits with a share of their own; see `learn_process`.

    Raises:
        DataError: There are too few pairs, or fewer prompts than folds, or traits are not finite.
    """
    if not all(np.isfinite(part).all() for part in (pairs.first, pairs.second, pairs.prompts)):
        raise DataError(
            "what the SFT model knows of the pairs is not finite, so no score can be learned from it",
            do="look at the model: it gives NaN or infinite states or log-probs",
        )
    known = sorted({*prompts})
    if len(preferred) < LEAST_PAIRS or len(known) < LEAST_PROMPTS:
        raise DataError(
            "too few preference pairs to learn a score from",
            value=f"{len(preferred)} pairs of {len(known)} prompts",
            allowed=f"{LEAST_PAIRS} pairs or more, of {LEAST_PROMPTS} prompts or more",
            do="give more pairs, or a judge that scores answers",
        )
    random = np.random.default_rng(seed)
    fold_of = dict(zip(known, random.permutation(len(known)) % FOLDS, strict=True))
    folds = np.array([fold_of[prompt] for prompt in prompts])
    learn = partial(learn_process, random=random, anchors=anchors, numbers=numbers, share=share)
    first, _ = learn(pairs, preferred, folds)
    if kinds == 1:
        return first
    both = _by_kind(first, pairs, preferred, folds, random, learn)
    return both if both is not None and both.fit.loss < first.fit.loss else first


def _by_kind(
    first: ProcessScore,
    pairs: PairTraits,
    preferred: Floats,
    folds: Places,
    random: np.random.Generator,
    learn: Callable[..., tuple[ProcessScore, Floats]],
) -> KindsScore | None:
    """Return a process for each of two kinds of prompts; None where a kind has too few pairs."""
    some = random.permutation(len(preferred))[:LOOKED_AT]
    answers = np.concatenate([pairs.first[some], pairs.second[some]])
    spreads = first.reach_over(answers, pairs.prompts)
    if not (spreads > 0).any():
        return None
    cut = float(np.exp(least_squares_cut(np.log(spreads.clip(min=spreads[spreads > 0].min())), LEAST_PAIRS)))
    margins, scores = np.zeros(len(preferred)), []
    for own in (spreads <= cut, spreads > cut):
        if own.sum() < LEAST_PAIRS or len({*folds[own]}) < FOLDS:
            return None
        alone = PairTraits(pairs.first[own], pairs.second[own], np.zeros((int(own.sum()), 1)))
        score, margins[own] = learn(alone, preferred[own], folds[own], scaled=False)
        scores.append(score)
    low, high = scores
    fit = replace(fit_of(margins, preferred, None), kinds=(low.fit, high.fit))
    return KindsScore(first, answers, cut, (low, high), fit)


def least_squares_cut(values: Floats, least: int = 1) -> float:
    """Return where to cut values in two so that the squared distances from both means are least.

    It lies between two neighbours, with `least` values on both sides; where there is no such place, it is the largest
    value. Shape: (n,).
    """
    ordered = np.sort(values)
    centred = np.cumsum(ordered - ordered.mean())[:-1]
    sizes = np.arange(1, len(ordered))
    others = len(ordered) - sizes
    possible = (ordered[1:] > ordered[:-1]) & (np.minimum(sizes, others) >= least)
    between = np.where(possible, centred**2 / (sizes * others), -1.0)
    if not (between > 0).any():
        return float(ordered[-1])
    place = int(between.argmax())
    return float((ordered[place] + ordered[place + 1]) / 2)
