"""Stages that find a step's strength: samples, the forecast from them, what each trained strength reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sacpo.data.records import Verdict
from sacpo.errors import DataError
from sacpo.pipeline.stage import JsonStage, Stage
from sacpo.pipeline.stages.drawn import JudgedDrawn, LogRatios
from sacpo.pipeline.stages.held import LABELLED, Held, Reached
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.metrics import METRICS, metric_key
from sacpo.recipe.schema import ConstraintSpec
from sacpo.select.strength import Tried, kept, log_odds
from sacpo.stats.intervals import upper_bound
from sacpo.system.files import write_json
from sacpo.theory.forecast import Bound, forecast, predictions, share_of
from sacpo.theory.frontier import Figure, Realised, Samples, realised
from sacpo.theory.judged import Score, pooled, samples_of, scores_of

FORECAST, TRIAL, FOUND = "forecast.json", "trial.json", "found.json"
LEARNED = "a score learned from the step's pairs"
"""Stands for a criterion; no judge can have this name."""
SEPARABLE = (
    "the step's pairs are told apart without an error, so they do not identify the scale of the score: it is that of a "
    "penalty, and the strength is only a place to begin"
)
HALF_WIDTHS = 2.0
"""Half widths of a mean's interval that weigh as much as a unit of a rate's log-odds."""


@dataclass(frozen=True)
class Learned:
    """Scores of samples that were learned from pairs, under the criterion `LEARNED`, and what is known of them."""

    verdicts: Sequence[Verdict]
    facts: JsonMapping


@dataclass(frozen=True)
class Forecast(JsonStage):
    """What a step would reach at every strength, and the strength that its constraints need.

    Attributes:
        title: The step.
        model: The model that it starts from.
        judged: That model's samples.
        safety: Where the step's score comes from.
        reward: The score that the step before raised, and its strength; None: there is no such step.
        before: Samples of what the step before started from.
        constraints: What is to be met.
        unit: What was drawn independently.
        seed: Of the bootstrap.
        learned: The step's score of the samples where it is learned from pairs.
        ratios: Log-ratios with which the samples before count too; None: only the model's own count.
    """

    result: ClassVar[str] = FORECAST

    title: str
    model: str
    judged: JudgedDrawn
    safety: Score
    reward: Score | None
    strength: float | None
    before: JudgedDrawn | None
    constraints: tuple[ConstraintSpec, ...]
    unit: str
    seed: int
    learned: Stage[Learned] | None = None
    ratios: LogRatios | None = None

    @property
    def name(self) -> str:
        """`plan/forecast/STEP`."""
        return f"plan/forecast/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Estimate."""
        samples = self.samples(tools)
        bounds = [_bound(c, self.safety, samples, self.unit) for c in self.constraints]
        found = forecast(samples, bounds, self.realised(tools), self.seed)
        shape = samples.bank.safeties.shape
        about: JsonObject = {"step": self.title, "model": self.model, "prompts": shape[0], "samples": shape[1]}
        facts = None if self.learned is None else dict(tools.read(self.learned).facts)
        if facts is not None and facts["separable"]:
            found["notes"].append(SEPARABLE)
        about |= {"score": self.safety.criterion, "scale": self.safety.scale, "learned": facts}
        write_json(out / FORECAST, {**about, **found})

    def samples(self, tools: Tools) -> Samples:
        """Return the samples: the model's own, and those before where their log-ratios are known."""
        if self.ratios is not None and self.before is not None:
            own, before, ratios = tools.read(self.judged), tools.read(self.before), tools.read(self.ratios)
            return pooled(own, before, ratios["own"], ratios["before"], self.safety, self.reward)
        scored = [] if self.learned is None else tools.read(self.learned).verdicts
        return samples_of([*tools.read(self.judged), *scored], self.safety, self.reward)

    def realised(self, tools: Tools) -> Realised | None:
        """Return how much of its tilt the step before realised."""
        if self.before is None or self.reward is None or self.strength is None:
            return None
        before, own = (scores_of(tools.read(judged), self.reward) for judged in (self.before, self.judged))
        return realised(before, float(own.mean()), self.strength)


@dataclass(frozen=True)
class Trial(Reached):
    """What a trained strength reached; `beta` is the strength."""

    result: ClassVar[str] = TRIAL

    beta: float

    @property
    def name(self) -> str:
        """`plan/tried/MODEL`."""
        return f"plan/tried/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Measure."""
        checks, metrics = [], {}
        for found, own in self.held(tools):
            metrics[found.constraint.prompts] = {key: figure["value"] for key, figure in own.items()}
            own_terms = {"value": found.value, "method": found.estimate.method, "excess": _excess(found)}
            checks.append({**found.to_json(), **own_terms})
        excess = max(one["excess"] for one in checks)
        about = {"model": self.title, "beta": self.beta, "met": excess <= 0, "excess": excess}
        write_json(out / TRIAL, {**about, "checks": checks, "measured": metrics})


@dataclass(frozen=True)
class Found(JsonStage):
    """The strength that was kept, and how it was found."""

    result: ClassVar[str] = FOUND

    title: str
    forecast: Forecast
    trials: tuple[Trial, ...]
    start: float | None

    @property
    def name(self) -> str:
        """`plan/found/STEP`."""
        return f"plan/found/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Compare what was predicted with what was trained."""
        planned, samples = tools.read(self.forecast), self.forecast.samples(tools)
        trials = [tools.read(trial) for trial in self.trials]
        share = planned["realised"] and planned["realised"]["share"]
        rows = []
        for trial in trials:
            rows.append({**trial, "predicted": predictions(samples, trial["beta"], share)})
            share = _share_after(trial, self.forecast, samples, share)
        best = kept(tried(trials))
        write_json(
            out / FOUND,
            {
                "forecast": planned,
                "start": self.start,
                "trainings": rows,
                "kept": best.beta,
                "model": next(trial["model"] for trial in trials if trial["beta"] == best.beta),
                "met": best.met,
            },
        )


def tried(trials: Sequence[JsonMapping]) -> list[Tried]:
    """Return trials as the search sees them."""
    return [Tried(trial["beta"], trial["excess"]) for trial in trials]


def _excess(found: Held) -> float:
    """Return by how much an end misses its bound: in log-odds for rates, in half widths of the interval for others."""
    if METRICS[found.constraint.metric].rate:
        return found.sign * (log_odds(found.end) - log_odds(found.bound))
    return found.excess / (HALF_WIDTHS * abs(found.value - found.end))


def _bound(constraint: ConstraintSpec, safety: Score, samples: Samples, unit: str) -> Bound:
    """Return what a model should reach so that tuning prompts show that it meets a constraint.

    Raises:
        DataError: There are too few tuning prompts to show it of any model.
    """
    name = metric_key(constraint.metric, constraint.criterion)
    if constraint.metric in LABELLED:
        assert constraint.at_most is not None
        figure: Figure = "unsafe_rate" if constraint.metric == "unsafe_rate" else "over_refusal_rate"
        return Bound(name, figure, allowed_rate(name, constraint.at_most, figure, samples, unit))
    if constraint.metric == "mean_score" and safety.is_of(constraint.criterion):
        assert constraint.at_least is not None
        return Bound(name, "E_g", constraint.at_least * safety.scale)
    return Bound(name, None, constraint.at_least or 0.0)


def allowed_rate(name: str, bound: float, figure: Figure, samples: Samples, unit: str) -> float:
    """Return the largest rate on these prompts, one answer each, whose one-sided 95 % bound is within the bound."""
    counted = samples.bank.restricted if figure == "unsafe_rate" else samples.bank.borderline
    prompts = len(samples.clusters) if counted is None else int(counted.sum())
    clusters = {c for i, c in enumerate(samples.clusters) if counted is None or counted[i]}
    units = prompts if unit == "prompt" else len(clusters)
    if not units or upper_bound(0, units, 0.95) > bound:
        least = upper_bound(0, units, 0.95) if units else 1.0
        raise DataError(
            f"too few tuning prompts: without a single such answer {units} independent ones show at most {least:.3g}",
            where=f"constraint {name}, at_most {bound:g}",
            value=f"{prompts} prompts that count, {units} independent",
            do="give more tuning prompts ('sacpo certify --power' says how many), or a larger bound"
            + ("; or search: {unit: prompt} where prompts were drawn independently" if unit == "cluster" else ""),
        )
    events = max(k for k in range(prompts + 1) if upper_bound(k, prompts, 0.95) <= bound)
    return max(events, 0.5) / prompts


def _share_after(trial: JsonMapping, plan: Forecast, samples: Samples, share: float | None) -> float | None:
    """Return the share of the tilt that a training realised, by its first constraint that samples tell of."""
    for one in trial["checks"]:
        rate = one["metric"] in LABELLED
        if rate or (one["metric"] == "mean_score" and plan.safety.is_of(one["criterion"])):
            figure: Figure = one["metric"] if rate else "E_g"
            measured = one["value"] * (1.0 if rate else plan.safety.scale)
            return share_of(samples, figure, measured, trial["beta"]) or share
    return share
