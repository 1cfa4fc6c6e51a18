"""A score learned from few and noisy preference pairs: Bradley-Terry over a Gaussian process on frozen traits.

    P(y is preferred to y' | x) = sigmoid(f(x,y) - f(x,y')),      f ~ GP(0, k_a(y,y') k_p(x,x') / penalty)

    k_a(y,y') = z.z' + (z.z')^2 / 2,      k_p(x,x') = (1 + p.p')^2 / 2

z are an answer's traits, p a prompt's: the roots of the probabilities of what the reference would say first. The same
answer may so count differently on another kind of prompt. The penalty is chosen on held-out prompts; the posterior mode
shrinks a score as far as the pairs leave it open, so that weights exp(f / beta) follow what is known.

On some prompts a criterion hardly tells answers apart, such as safety on a harmless one, and on others much. One
penalty for both shrinks the second too much and leaves the first its noise. So the fit is done twice, the second time
with the kernel s(x) s(x') k_a k_p: s(x) says how far apart the first fit's scores of a fixed set of answers to x lie.
The second fit is taken where held-out pairs are likelier under it. `sacpo.theory.learned_score` goes on from there.

Of many pairs, some are anchors (a Nystroem approximation): the work is linear in the pairs.

Source: Chu and Ghahramani 2005 (Gaussian-process preference learning); Bhattacharyya 1943 (the prompts' kernel).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from sacpo.theory.calibrated import Floats, calibrating_factor, pair_loss

Places = npt.NDArray[np.int64]
ANCHORS = 600
"""Pairs that a score is a combination of, at most."""
LOOKED_AT = 150
"""Pairs whose answers say how far apart scores of answers to a prompt lie."""
FOLDS = 3
PENALTIES = (40.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
"""Tried from the strongest on, until held-out pairs become less likely."""
SMALLEST = 1e-6
"""Share of the largest eigenvalue below which a direction is left out."""


@dataclass(frozen=True)
class Traits:
    """What is known of answers, and of the prompts that they answer.

    Attributes:
        answers: Shape: (answers, traits).
        prompts: Roots of next-token probabilities. Shape: (answers, tokens).
    """

    answers: Floats
    prompts: Floats


@dataclass(frozen=True)
class PairTraits:
    """The two answers to each prompt. Shapes: (pairs, traits), (pairs, traits), (pairs, tokens)."""

    first: Floats
    second: Floats
    prompts: Floats

    def rows(self, places: Places) -> PairTraits:
        """Return some of the pairs."""
        return PairTraits(self.first[places], self.second[places], self.prompts[places])


@dataclass(frozen=True)
class Fit:
    """What is known of a learned score.

    Attributes:
        pairs: Pairs that it was fitted to.
        penalty: Of |f|^2 / 2; None where each kind of prompts has its own.
        factor: By what held-out margins would have to be multiplied to be calibrated; near 1 the penalty fits. None
            where all pairs are ties.
        loss: Mean negative log-likelihood of held-out pairs, nats; `coin` that of p = 1/2.
        accuracy: Share of held-out pairs whose likelier side it prefers, ties left out; None where all are ties.
        scaled: Whether prompts have scales of their own, from a first fit.
        kinds: What is known of each kind of prompts, where two are told apart.
    """

    pairs: int
    penalty: float | None
    factor: float | None
    loss: float
    accuracy: float | None
    coin: float = float(np.log(2))
    scaled: bool = False
    kinds: tuple[Fit, ...] = ()


@dataclass(frozen=True)
class Reach:
    """How far apart a fit's scores of some answers to a prompt lie.

    Attributes:
        answers: Kernel of some answers with the anchors, first side minus second. Shape: (answers, anchors).
        prompts: Of the anchors. Shape: (anchors, tokens).
        weights: The fit's. Shape: (anchors,).
        size: What it is divided by: where prompts are scaled, what makes the mean square over the pairs 1.
    """

    answers: Floats = field(repr=False)
    prompts: Floats = field(repr=False)
    weights: Floats = field(repr=False)
    size: float

    def of(self, prompts: Floats) -> Floats:
        """Return it for standardised prompts. Shape: (prompts, tokens) to (prompts,)."""
        found: Floats = ((self.answers * self.weights) @ _prompts(prompts, self.prompts).T).std(0) / self.size
        return found


@dataclass(frozen=True)
class ProcessScore:
    """A learned score.

    Attributes:
        centre, scale: Of the answers' traits.
        middle, spread: Of the prompts' roots.
        anchors: Standardised traits of the anchors.
        weights: One for each anchor.
        fit: What is known of it.
    """

    centre: Floats
    scale: Floats
    middle: Floats
    spread: float
    anchors: PairTraits = field(repr=False)
    weights: Floats = field(repr=False)
    fit: Fit
    reach: Reach | None = None

    def scores(self, traits: Traits) -> Floats:
        """Return scores in logits of the pairs' labels, up to a constant of each prompt. Shape: (answers,)."""
        new, each = runs(traits.prompts)
        answers = (traits.answers - self.centre) / self.scale
        prompts = (traits.prompts[new] - self.middle) / self.spread
        sides = [_answers(answers, side) for side in (self.anchors.first, self.anchors.second)]
        kernel = (sides[0] - sides[1]) * _prompts(prompts, self.anchors.prompts)[each]
        if self.reach is None:
            found: Floats = kernel @ self.weights
            return found
        return (kernel @ (self.weights * self.reach.of(self.anchors.prompts))) * self.reach.of(prompts)[each]

    def reach_over(self, answers: Floats, prompts: Floats) -> Floats:
        """Return how far apart the scores of these answers lie on each prompt.

        Shape: (answers, traits) and (prompts, tokens) to (prompts,).
        """
        standard = (answers - self.centre) / self.scale
        kernel = _answers(standard, self.anchors.first) - _answers(standard, self.anchors.second)
        turned = (prompts - self.middle) / self.spread
        if self.reach is None:
            return Reach(kernel, self.anchors.prompts, self.weights, 1.0).of(turned)
        weights = self.weights * self.reach.of(self.anchors.prompts)
        return Reach(kernel, self.anchors.prompts, weights, 1.0).of(turned) * self.reach.of(turned)


def runs(prompts: Floats) -> tuple[npt.NDArray[np.bool_], Places]:
    """Return which prompts differ from the one before, and the number of each one's run of equal ones.

    What is the same for neighbouring answers to one prompt is so computed once.
    """
    new = np.concatenate([[True], (prompts[1:] != prompts[:-1]).any(1)])[: len(prompts)]
    return new, np.cumsum(new) - 1


def learn_process(
    pairs: PairTraits,
    preferred: Floats,
    folds: Places,
    random: np.random.Generator,
    *,
    anchors: int = ANCHORS,
    scaled: bool = True,
    numbers: int = 0,
    share: float = 0.0,
) -> tuple[ProcessScore, Floats]:
    """Learn a score with the penalty that held-out pairs choose; return the score and their held-out margins.

    Args:
        pairs: The pairs' traits.
        preferred: The probability, or the share of votes, that the first is preferred. Shape: (pairs,).
        folds: Which of `FOLDS` parts each pair is held out with. Shape: (pairs,).
        random: Draws anchors.
        anchors: At most so many pairs are anchors.
        scaled: Try a second fit in which prompts have scales.
        numbers: The last so many traits have the share below; 0: all traits count alike.
        share: Of `z.z`, on the average of the answers; in (0, 1).
    """
    places = np.sort(random.permutation(len(preferred))[:anchors])
    centre, scale, middle, spread = _standards(pairs, numbers, share)
    first, second = ((side - centre) / scale for side in (pairs.first, pairs.second))
    standard = PairTraits(first, second, (pairs.prompts - middle) / spread)
    some = standard.rows(places)
    kernel = _kernel(standard, some)
    weights, fit, margins = _fit(kernel, places, preferred, folds)
    reach = _reach(standard, some, weights, random) if scaled else None
    if reach is not None:
        scales = reach.of(standard.prompts)
        again, better, others = _fit(kernel * scales[:, None] * scales[places], places, preferred, folds)
        if better.loss < fit.loss:
            found = ProcessScore(centre, scale, middle, spread, some, again, replace(better, scaled=True), reach)
            return found, others
    return ProcessScore(centre, scale, middle, spread, some, weights, fit), margins


def fit_of(margins: Floats, preferred: Floats, penalty: float | None) -> Fit:
    """Return what held-out margins say of a score."""
    decided = preferred != 0.5
    accuracy = float(((margins > 0) == (preferred > 0.5))[decided].mean()) if decided.any() else None
    factor = calibrating_factor(margins, preferred) if decided.any() else None
    return Fit(len(preferred), penalty, factor, pair_loss(margins, preferred), accuracy)


def _fit(kernel: Floats, places: Places, preferred: Floats, folds: Places) -> tuple[Floats, Fit, Floats]:
    """Return the anchors' weights, with the penalty that held-out pairs choose, what is known, and held-out margins."""
    rows, back = _features(kernel, places)
    _, penalty, margins = _chosen(rows, preferred, folds)
    return back @ _fitted(rows, preferred, penalty), fit_of(margins, preferred, penalty), margins


def _reach(pairs: PairTraits, anchors: PairTraits, weights: Floats, random: np.random.Generator) -> Reach | None:
    """Return what a first fit says of prompts' scales, on answers of some of the pairs; None where it says nothing."""
    some = random.permutation(len(pairs.prompts))[:LOOKED_AT]
    answers = np.concatenate([pairs.first[some], pairs.second[some]])
    kernel = _answers(answers, anchors.first) - _answers(answers, anchors.second)
    found = Reach(kernel, anchors.prompts, weights, 1.0)
    size = float(np.sqrt((found.of(pairs.prompts) ** 2).mean()))
    return replace(found, size=size) if size > 0 else None


def _standards(pairs: PairTraits, numbers: int, share: float) -> tuple[Floats, Floats, Floats, float]:
    """Return centre and scale of traits, so that |z|^2 is about 1, and of prompts, likewise."""
    sides = np.concatenate([pairs.first, pairs.second])
    deviation = sides.std(0)
    each = np.full(sides.shape[1], float(sides.shape[1]))  # one over the share of |z|^2 that a trait has
    if numbers:
        each[:-numbers], each[-numbers:] = (len(each) - numbers) / (1 - share), numbers / share
    scale = np.where(deviation > 0, deviation, 1.0) * np.sqrt(each)
    middle = pairs.prompts.mean(0)
    spread = float(np.sqrt(((pairs.prompts - middle) ** 2).sum(1).mean())) or 1.0
    return sides.mean(0), scale, middle, spread


def _answers(one: Floats, other: Floats) -> Floats:
    products: Floats = one @ other.T
    return products + products**2 / 2


def _prompts(one: Floats, other: Floats) -> Floats:
    found: Floats = (1 + one @ other.T) ** 2 / 2
    return found


def _kernel(pairs: PairTraits, anchors: PairTraits) -> Floats:
    """Return the kernel of pairs with anchors, of which each side counts.

    `(k_a(y1, y1') - k_a(y1, y2') - k_a(y2, y1') + k_a(y2, y2')) k_p(x, x')`. Shape: (pairs, anchors).
    """
    parts = [_answers(one, anchors.first) - _answers(one, anchors.second) for one in (pairs.first, pairs.second)]
    return (parts[0] - parts[1]) * _prompts(pairs.prompts, anchors.prompts)


def _features(kernel: Floats, places: Places) -> tuple[Floats, Floats]:
    """Return features of pairs whose products are the kernel, and what turns their weights into the anchors'."""
    values, vectors = np.linalg.eigh(kernel[places])
    kept = values > SMALLEST * values[-1]
    back = vectors[:, kept] / np.sqrt(values[kept])
    return kernel @ back, back


def _chosen(rows: Floats, preferred: Floats, folds: Places) -> tuple[float, float, Floats]:
    """Return the least held-out loss with its penalty and the held-out margins."""
    best: tuple[float, float, Floats] | None = None
    for penalty in PENALTIES:
        margins = np.zeros(len(rows))
        for fold in range(FOLDS):
            out = folds == fold
            margins[out] = rows[out] @ _fitted(rows[~out], preferred[~out], penalty)
        loss = pair_loss(margins, preferred)
        if best is not None and loss >= best[0]:
            break
        best = loss, penalty, margins
    assert best is not None
    return best


def _fitted(rows: Floats, preferred: Floats, penalty: float) -> Floats:
    """Return the weights of the posterior mode; with a thousand of them descent is faster than Newton's method."""

    def value(weights: Floats) -> tuple[float, Floats]:
        margins = rows @ weights
        loss = (np.logaddexp(0, margins) - preferred * margins).sum() + penalty * (weights @ weights) / 2
        return float(loss), rows.T @ (expit(margins) - preferred) + penalty * weights

    found: Floats = minimize(value, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B").x
    return found
