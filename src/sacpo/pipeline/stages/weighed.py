"""Stages that choose factors of a step's weights: samples, and what their weights promise before a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sacpo.data.records import Answer
from sacpo.errors import DataError
from sacpo.judging.scored import Score as TextScore
from sacpo.pipeline.stage import JsonStage
from sacpo.pipeline.stages.answers import Answers
from sacpo.pipeline.stages.bank import Scorer, scorers_say
from sacpo.pipeline.stages.data import Prompts
from sacpo.pipeline.stages.held import LABELLED
from sacpo.pipeline.stages.plan import allowed_rate
from sacpo.pipeline.stages.samples import weightless
from sacpo.pipeline.stages.verdicts import Verdicts
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonObject
from sacpo.recipe.metrics import metric_key
from sacpo.recipe.schema import ConstraintSpec
from sacpo.select.factors import Limit, Tried, chosen
from sacpo.system.files import write_json
from sacpo.theory.draws import effective_size
from sacpo.theory.frontier import LEAST_ESS, Figure, Samples, frontier
from sacpo.theory.judged import Place, Score, counted, places_of, samples_of, scores_of
from sacpo.theory.optimum import Bank, Floats, self_normalised

WEIGHED = "weighed.json"
FAR_BELOW = 60.0
"""Nats below a prompt's other answers: what is not learnt, a cut or unscored answer, has no weight."""


@dataclass(frozen=True)
class WeighedPrompts(JsonStage):
    """Whether tuning prompts can show the rates under which a step's factors are chosen, before anything is trained."""

    result: ClassVar[str] = WEIGHED

    title: str
    prompts: Prompts
    constraints: tuple[ConstraintSpec, ...]
    unit: str

    @property
    def name(self) -> str:
        """`factors/prompts/STEP`."""
        return f"factors/prompts/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Write what every bound asks of weights.

        Raises:
            DataError: The prompts are too few, or none counts in a rate.
        """
        prompts = tools.read(self.prompts)
        restricted, borderline = counted([prompt.kind for prompt in prompts])
        none = np.zeros((len(prompts), 2))
        bank = Bank(none, none, restricted=restricted, borderline=borderline)
        samples = Samples(bank, tuple(prompt.cluster for prompt in prompts))
        for one in self.constraints:
            rate = {"unsafe_rate": restricted, "over_refusal_rate": borderline}.get(one.metric)
            if rate is not None and not rate.any():
                raise DataError(
                    f"no prompt of '{one.prompts}' counts in {one.metric}, under which factors are chosen",
                    where=f"prompts.{one.prompts}",
                    value=f"{len(prompts)} prompts",
                    do="add prompts of the kind that it counts (restricted; of over-refusal: borderline), or leave the "
                    "constraint out",
                )
        limits = [_limit(one, samples, self.unit) for one in self.constraints]
        write_json(out / WEIGHED, {one.name: one.bound for one in limits})


@dataclass(frozen=True)
class WeighedAnswers(Answers):
    """Several answers of the SFT model to each tuning prompt, at temperature 1."""

    @property
    def name(self) -> str:
        """`factors/samples/STEP`."""
        return f"factors/samples/{self.title}"


@dataclass(frozen=True)
class WeighedVerdicts(Verdicts):
    """Verdicts on them, each answer judged alone."""

    @property
    def name(self) -> str:
        """`factors/judged/STEP`."""
        return f"factors/judged/{self.title}"


@dataclass(frozen=True)
class Weighed(JsonStage):
    """What weights of samples promise with every choice of factors, and the choice.

    Attributes:
        title: The step.
        answers: Samples of the SFT model.
        verdicts: On them.
        learned: Scores that were learned from pairs, that steps' models imply, or judges' put to scale; other
            criteria's are the judges' as they are.
        weights: Of the criteria, without factors.
        beta: The step's.
        factors: The choices.
        objective: The criterion whose mean score is to be high.
        constraints: What is to be met.
        untold: Constraints of which samples do not tell.
        least_ess: With a smaller effective sample size a choice is not taken: the step would refuse it.
        learnt: Samples of each prompt that the step learns from, of which that is asked.
        unit: What was drawn independently.
        seed: Of the bootstrap.
    """

    result: ClassVar[str] = WEIGHED

    title: str
    answers: WeighedAnswers
    verdicts: WeighedVerdicts
    learned: tuple[Scorer, ...]
    weights: Mapping[str, float]
    beta: float
    factors: tuple[Mapping[str, float], ...]
    objective: str
    constraints: tuple[ConstraintSpec, ...]
    untold: tuple[str, ...]
    least_ess: float
    learnt: int
    unit: str
    seed: int

    @property
    def name(self) -> str:
        """`factors/found/STEP`."""
        return f"factors/found/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Score, weigh, choose.

        Raises:
            DataError: Every choice rests on too few samples, no answer has a weight, or there are too few tuning
                prompts.
        """
        verdicts = tools.read(self.verdicts)
        scores, gone = self._scores(tools)
        kept = _with_weights(gone)
        criteria = [one.criterion for one in self.constraints if one.criterion is not None]
        bounded = {name: scores_of(verdicts, Score({name: 1.0})) for name in criteria}
        samples = samples_of(verdicts, Score({self.objective: 1.0}))
        limits = [_limit(one, samples, self.unit) for one in self.constraints]
        tilts = [self._tilt(factors, scores, gone)[kept] for factors in self.factors]
        told, means = _of_prompts(samples, kept), {name: own[kept] for name, own in bounded.items()}
        points = [self._point(told, tilt, means) for tilt in tilts]
        sizes = [effective_size(tilt, self.learnt) for tilt in tilts]
        tried = [
            Tried(p["objective"]["value"], ess, tuple(_value(p, one) for one in limits))
            for p, ess in zip(points, sizes, strict=True)
        ]
        best = chosen(tried, limits, self.least_ess)
        if best is None:
            raise DataError(
                "with any of the factors the weights rest on too few of the samples",
                where=f"steps.{self.title}.resample.factors",
                value=f"effective sample size {max(one.ess for one in tried):.2f} of {self.learnt}"
                + weightless(gone[kept]),
                allowed=f"{self.least_ess:g} or more (least_ess)",
                do="give smaller factors, take more samples, a larger max_new_tokens where answers are cut off, or "
                "lower least_ess",
            )
        write_json(out / WEIGHED, self._found(points, tried, limits, best, gone))

    def _tilt(self, factors: Mapping[str, float], scores: Mapping[str, Floats], gone: Any) -> Floats:
        """Return the log-weights of answers with some factors. Shape: (prompts, samples)."""
        parts = [factors[name] * self.weights[name] / self.beta * values for name, values in scores.items()]
        tilt: Floats = np.sum(parts, axis=0)
        lowest = np.where(gone, np.inf, tilt).min(1, keepdims=True, initial=0.0)
        return np.where(gone, lowest - FAR_BELOW, tilt)

    def _point(self, samples: Samples, tilt: Floats, bounded: Mapping[str, Floats]) -> JsonObject:
        """Return what some weights promise."""
        bank = replace(samples.bank, safeties=tilt, rewards=samples.bank.safeties)
        point = frontier(replace(samples, bank=bank, rewarded=True), [1.0], self.seed)[0]
        weights = self_normalised(tilt)
        rates: JsonObject = {name: point[name] for name in (*LABELLED, "kl") if name in point}
        means = {name: float((weights * own).sum(1).mean()) for name, own in bounded.items()}
        return {"objective": point["E_r"], **rates, "means": means, "ess": point["ess"]}

    def _found(
        self, points: list[JsonObject], tried: Sequence[Tried], limits: Sequence[Limit], best: int, gone: Any
    ) -> JsonObject:
        """Return the result."""
        notes = [f"{name} does not count here: samples do not tell it" for name in self.untold]
        if left_out := int(gone.all(1).sum()):
            notes.append(
                f"{left_out} of {gone.shape[0]} tuning prompts do not count here: all of their answers are cut off or "
                "without a score"
            )
        if not tried[best].met(limits):
            notes.append("no choice meets every bound by these samples; the nearest was taken")
        taken = self.factors[best]
        if at_end := [name for name, own in self._offered().items() if len(own) > 1 and max(own) == taken[name]]:
            notes.append(f"the factor of {' and of '.join(at_end)} is the largest that was given")
        if (ess := points[best]["ess"]) < LEAST_ESS:
            notes.append(
                f"the effective sample size of the choice is {ess:.1f}, below {LEAST_ESS:g}: its figures rest on few "
                "samples, as its training does"
            )
        return {
            "step": self.title,
            "prompts": gone.shape[0],
            "samples": gone.shape[1],
            "not_weighed": int(gone.sum()),
            "objective": self.objective,
            "bounds": [{"name": one.name, "bound": one.bound, "at_most": one.at_most} for one in limits],
            "tried": [
                {"factors": dict(factors), **point, "met": one.met(limits), "enough": one.ess >= self.least_ess}
                for factors, point, one in zip(self.factors, points, tried, strict=True)
            ],
            "factors": dict(self.factors[best]),
            "chosen": best,
            "met": tried[best].met(limits),
            "notes": notes,
        }

    def _offered(self) -> dict[str, set[float]]:
        """Return every criterion's factors."""
        return {name: {one[name] for one in self.factors} for name in self.weights}

    def _scores(self, tools: Tools) -> tuple[dict[str, Floats], Any]:
        """Return every criterion's scores, 0 where there is none, and which answers are cut off or have none.

        Shape: (prompts, samples) each, in the verdicts' order.
        """
        verdicts, answers = tools.read(self.verdicts), tools.read(self.answers)
        texts = [(answer.prompt, answer.text) for answer in answers]
        own = scorers_say(self.learned, tools, texts)
        places = places_of(verdicts)
        found = {
            name: _placed(own[name], answers, places) if name in own else scores_of(verdicts, Score({name: 1.0}))
            for name in self.weights
        }
        cut = {(answer.prompt.id, answer.sample): answer.truncated for answer in answers}
        gone = np.array([[cut[place] for place in row] for row in places.values()])
        gone |= ~np.isfinite(sum(found.values()))
        return {name: np.where(gone, 0.0, values) for name, values in found.items()}, gone


def _with_weights(gone: Any) -> Any:
    """Return which prompts have an answer with a weight, of answers that have none. Shape: (prompts,).

    Raises:
        DataError: None has.
    """
    kept = ~gone.all(1)
    if not kept.any():
        raise DataError(
            "no tuning prompt has a whole answer with scores, so no factor weighs anything",
            where="factors",
            value=f"{gone.size} answers that are cut off or without a score",
            do="raise max_new_tokens of 'resample', or look at what the judges say of whole answers",
        )
    return kept


def _of_prompts(samples: Samples, kept: Any) -> Samples:
    """Return the samples of some of the prompts."""
    bank = samples.bank
    arrays = {name: own[kept] for name, own in vars(bank).items() if own is not None}
    clusters = tuple(np.array(samples.clusters)[kept].tolist())
    return replace(samples, bank=replace(bank, **arrays), clusters=clusters)


def _placed(scores: Sequence[TextScore], answers: Sequence[Answer], places: Mapping[str, Sequence[Place]]) -> Floats:
    """Return scores of answers where their verdicts stand; NaN: none."""
    known = {
        (answer.prompt.id, answer.sample): np.nan if score.value is None else score.value
        for answer, score in zip(answers, scores, strict=True)
    }
    return np.array([[known[place] for place in row] for row in places.values()])


def _limit(constraint: ConstraintSpec, samples: Samples, unit: str) -> Limit:
    """Return what weights are to promise; of a rate what these prompts can show to be within the bound."""
    name = metric_key(constraint.metric, constraint.criterion)
    bound = constraint.at_most if constraint.at_most is not None else constraint.at_least
    assert bound is not None
    if constraint.metric in LABELLED and constraint.at_most is not None:
        figure: Figure = "unsafe_rate" if constraint.metric == "unsafe_rate" else "over_refusal_rate"
        bound = allowed_rate(name, bound, figure, samples, unit)
    return Limit(name, constraint.criterion, bound, constraint.at_most is not None)


def _value(point: JsonObject, limit: Limit) -> float:
    """Return a figure that is bounded.

    Raises:
        DataError: Samples do not tell it.
    """
    if limit.criterion is not None:
        return float(point["means"][limit.criterion])
    if limit.name not in point:
        raise DataError(
            "these samples do not tell a rate that is bounded: not every answer has a label, or no prompt counts in it",
            where=f"constraint {limit.name}",
            do="look at the judges of tuning prompts, at which prompts the rate counts, and whether answers are whole",
        )
    return float(point[limit.name]["value"])
