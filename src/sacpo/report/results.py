"""The schema of `results.json`: everything that a run measured, without timings and without texts of answers.

The same results give the same bytes. A field that was not measured is null; a number is always finite. Rates are
fractions in [0, 1], log-probs and KL are in nats, lengths in tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from sacpo.errors import DataError
from sacpo.report.benchmarks import Benchmark
from sacpo.report.certified import Certificate
from sacpo.report.factors import FactorChoice
from sacpo.report.part import Measured, Part
from sacpo.report.paths import Fidelity, PathSearch
from sacpo.report.raced import RaceOutcome
from sacpo.report.searches import Search
from sacpo.report.theory import Theory

FORMAT: Literal["sacpo-results/1"] = "sacpo-results/1"


class ModelInfo(Part):
    """How a model was made."""

    kind: Literal["base", "step", "merge"] = Field(description="base: the SFT model, or the base without SFT")
    parents: tuple[str, ...] = Field(
        (), description="step: its reference, from which it starts; merge: the two or more, later one last"
    )
    criterion: str | None = Field(None, description="step: what its preferences are about")
    algorithm: str | None = Field(None, description="step: its algorithm")
    beta: float | None = Field(None, description="step: its own KL strength; for a constraint criterion beta/lambda")
    strengths: tuple[tuple[str, float], ...] = Field(
        (), description="(criterion, strength) of every step from the SFT model to this one, in order"
    )
    q: float | None = Field(None, description="merge: weight of the later of two models")
    weights: tuple[float, ...] = Field((), description="merge: weights of the parents; of two models 1 - q and q")
    method: str | None = Field(None, description="merge: linear, task-vectors or token-level")
    line: str = Field("", description="models of one line differ in strength or q only; figures join them")
    training: dict[str, Any] | None = Field(
        None,
        description="training summary: steps, tokens, first and last loss, …; records read, kept, truncated, longest, "
        "and 'dropped: REASON' for each reason; 'precision' where float32 took the place of bf16; 'best_step' and "
        "'best_eval_loss' where the weights of the lowest held-out loss were kept, 'averaged_steps' where a mean was",
    )
    round: int | None = Field(
        None,
        description="step with `rounds`: which of them; it starts from the model of the round before, and its "
        "reference is the parent",
    )
    sampled: str | None = Field(None, description="step: what was sampled for it, a name in `data`")
    curve: tuple[dict[str, float], ...] = Field((), description="logged metrics, under TRL's names, in order of 'step'")
    implicit: dict[str, Measured] | None = Field(
        None,
        description="accuracy on held-out pairs: 'implicit' (log pi/pi_ref), 'from_sft' (log pi/pi_sft), 'before' "
        "(log pi_ref), 'after' (log pi); a merged model has the second and the last",
    )
    kl_reference: Measured | None = Field(None, description="KL(policy || its own reference), nats an answer")


class PromptSet(Part):
    """A set of evaluation prompts."""

    role: Literal["tuning", "report", "certification"] = Field(description="only 'report' figures are headlines")
    n: int = Field(description="prompts")
    kinds: dict[str, int] = Field({}, description="prompts of each kind: ordinary, restricted, borderline")
    population: str = Field("", description="in words, what these prompts are a sample of")


class JudgeFigures(Part):
    """What one judge alone says of one model on one prompt set.

    Its `win_rate` is adjusted for the order: the mean over the orders that it was asked in.
    """

    metrics: dict[str, Measured] = Field({}, description="win_rate, mean_score, unsafe_rate, …: figure")
    by_order: dict[str, Measured] = Field(
        {}, description="win rate of each order alone; ab: the model's answer was shown first, ba: the baseline's"
    )
    worst_case: tuple[float, float] | None = Field(
        None, description="the win rate if every unparsed verdict were lost, and if every one were won"
    )


class Measures(Part):
    """What was measured of one model on one prompt set.

    Names of metrics: `win_rate/CRITERION` (against the baseline, ties half), `mean_score/CRITERION`, `unsafe_rate` and
    `refusal_rate` (restricted prompts, or those of unknown kind where none is restricted), `over_refusal_rate`
    (borderline prompts; full and partial refusals both count in the two, and stand apart as `.../full` and
    `.../partial` where all judges tell them apart), `mean_tokens`, `truncated_rate`, `degenerate_rate`, `kl` (from the
    SFT model, nats an answer).
    """

    metrics: dict[str, Measured] = Field({}, description="metric: figure")
    categories: dict[str, dict[str, Measured]] = Field({}, description="category: metric: figure")
    outcomes: dict[str, dict[str, int]] = Field({}, description="criterion: counts of win, tie, loss, unparsed")
    judges: dict[str, dict[str, JudgeFigures]] = Field(
        {}, description="criterion: judge: its own figures; 'metrics' holds those of a panel of judges together"
    )


class Reliability(Part):
    """How far one judge can be believed by one criterion, over all models on one prompt set.

    Two equal answers are left out: they are a tie by definition. What does not apply to a judge is null.
    """

    judge: str
    criterion: str
    kind: Literal["comparison", "label", "rating"] = Field(
        description="compares two answers, or labels or rates single ones"
    )
    verdicts: int = Field(description="verdicts, unparsed ones included")
    unparsed_rate: Measured | None = Field(None, description="share of replies that could not be read")
    tie_rate: Measured | None = Field(None, description="share of ties among those read")
    first_share: Measured | None = Field(None, description="share of the answer shown first; .5 without bias")
    flip_rate: Measured | None = Field(None, description="share of questions whose outcome changes with the order")
    order_kappa: Measured | None = Field(None, description="Cohen's kappa of the outcomes in the two orders")
    repeat_agreement: Measured | None = Field(None, description="probability that two repeats agree")
    longer_share: Measured | None = Field(None, description="share of the longer answer; .5 without length bias")
    findings: tuple[str, ...] = Field((), description="what a reader must know, in sentences")


class Constraint(Part):
    """A bound that the selected model must meet on tuning prompts."""

    metric: str = Field(description="metric without criterion, such as unsafe_rate or win_rate")
    prompts: str = Field(description="prompt set that it was checked on")
    criterion: str | None = Field(None, description="for win_rate and mean_score")
    at_most: float | None = None
    at_least: float | None = None

    @property
    def key(self) -> str:
        """The metric's name in `Measures.metrics`."""
        return f"{self.metric}/{self.criterion}" if self.criterion else self.metric

    @property
    def bound(self) -> float:
        """The bound's value."""
        return self.at_most if self.at_most is not None else (self.at_least or 0.0)


class Objective(Part):
    """What the selected model maximises."""

    metric: str
    criterion: str
    prompts: str

    @property
    def key(self) -> str:
        """The metric's name in `Measures.metrics`."""
        return f"{self.metric}/{self.criterion}"


class ConstraintCheck(Part):
    """One model against one constraint, on tuning prompts."""

    value: Measured | None = None
    met: bool | None = Field(None, description="null: not measured")


class Candidate(Part):
    """One model in the selection."""

    objective: Measured | None = None
    checks: tuple[ConstraintCheck, ...] = Field((), description="one a constraint, in their order")
    feasible: bool = Field(description="meets every constraint")
    distance: float | None = Field(None, description="how far it misses the constraints; 0 when it meets them")
    note: str = ""


class Selection(Part):
    """The choice: on tuning prompts, the best model that meets every constraint."""

    chosen: str | None = Field(description="null when no model meets every constraint")
    feasible: bool = Field(description="some model meets every constraint")
    objective: Objective
    constraints: tuple[Constraint, ...] = ()
    models: dict[str, Candidate] = Field({})
    front: tuple[str, ...] = Field((), description="models that no other one beats in objective and constraints")
    nearest: str | None = Field(None, description="the model that misses by least, when none is feasible")


class Finding(Part):
    """One diagnosis: what was looked for, what was found, and what to do about it."""

    name: str
    test: str = Field(description="in words, with its threshold")
    verdict: Literal["found", "not found", "cannot tell"]
    evidence: tuple[str, ...] = Field((), description="this run's numbers")
    models: tuple[str, ...] = Field((), description="models it was found in")
    cure: str


class Results(Part):
    """All that a run measured: the whole of `results.json`."""

    format: Literal["sacpo-results/1"] = FORMAT
    name: str = Field(description="the run's name")
    recipe: dict[str, Any] = Field(description="the resolved recipe")
    versions: dict[str, str] = Field({}, description="this package, Python and the libraries that make the numbers")
    seed: int
    command: str = Field("", description="how the run was started")
    disk: dict[str, int] = Field({}, description="bytes of the run's finished stages, by what they hold")
    warnings: tuple[str, ...] = ()
    baseline: str = Field("sft", description="the model that win rates are against")
    data: dict[str, dict[str, Any]] = Field({}, description="source: data report")
    models: dict[str, ModelInfo]
    prompts: dict[str, PromptSet] = Field({})
    measures: dict[str, dict[str, Measures]] = Field({}, description="model: prompt set: measures")
    reliability: dict[str, tuple[Reliability, ...]] = Field({}, description="prompt set: its judges' reliability")
    plan: dict[str, Search] = Field({}, description="step: how its strength was found; steps with beta: auto")
    factors: dict[str, FactorChoice] = Field(
        {}, description="step with `factors`: how those of its weights were chosen, before it was trained"
    )
    selection: Selection | None = None
    certificate: Certificate | None = None
    theory: Theory | None = None
    paths: dict[str, PathSearch] = Field({}, description="merge with `q: auto`: the search for its q")
    fidelity: dict[str, dict[str, Fidelity]] = Field(
        {}, description="merged model: prompt set: how far it is from the sequence-level mixture that it stands for"
    )
    harness: dict[str, dict[str, Benchmark]] = Field(
        {}, description="model: task of lm-evaluation-harness: what it reached, the SFT model beside the chosen one"
    )
    race: dict[str, tuple[RaceOutcome, ...]] = Field(
        {}, description="model: its races on tuning prompts; dropped models have no measures"
    )
    diagnosis: tuple[Finding, ...] = Field((), description="filled by the report from all of the above")


class ShownAnswer(Part):
    """One model's answer on the page."""

    text: str
    flags: tuple[str, ...] = Field((), description="unsafe, refusal, truncated, empty, repeating, …")
    verdicts: dict[str, str | float | None] = Field({}, description="criterion: outcome, label or score")


class ShownPrompt(Part):
    """One prompt with all models' answers, for the page only; never part of `results.json`."""

    prompt: str
    category: str = ""
    kind: str = ""
    set: str = ""
    answers: dict[str, ShownAnswer]


def parse_results(data: Results | Mapping[str, Any]) -> Results:
    """Return the results as checked values.

    Raises:
        DataError: A field is missing, unknown or of the wrong type, a number is not finite, or a model is unknown.
    """
    plain = data.model_dump(mode="python") if isinstance(data, Results) else dict(data)
    for path, number in _not_finite(plain, ""):
        raise DataError("a number in the results is not finite", where=path, value=number, do="find where it came from")
    try:
        results = Results.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"not results of format {FORMAT}: {first['msg']}",
            where=".".join(str(part) for part in first["loc"]),
            value=first.get("input"),
            do="give results.json as 'sacpo run' of this version wrote it",
        ) from error
    _check_names(results)
    return results


def results_schema() -> dict[str, Any]:
    """Return the JSON schema of `results.json`."""
    return Results.model_json_schema(mode="serialization")


def _check_names(results: Results) -> None:
    if results.baseline not in results.models:
        raise DataError(
            "the baseline is no model of the results",
            where="baseline",
            value=results.baseline,
            allowed=[*results.models],
        )
    places = [("measures", [*results.measures])]
    if results.selection is not None:
        chosen = [name for name in (results.selection.chosen, results.selection.nearest) if name is not None]
        places += [("selection", [*chosen, *results.selection.models, *results.selection.front])]
    if results.certificate is not None:
        places += [("certificate", [*results.certificate.all_certified, *results.certificate.not_tested])]
    places += [(f"plan.{step}", [one.model for one in found.trainings]) for step, found in results.plan.items()]
    if results.theory is not None:
        places += [("theory.kl_to_optimum", [*results.theory.kl_to_optimum])]
    places += [(part, [*getattr(results, part)]) for part in ("fidelity", "harness", "race")]
    for merge, path in results.paths.items():
        places += [(f"paths.{merge}.tried", [point.model for point in path.tried])]
    for where, names in places:
        for name in names:
            if name not in results.models:
                raise DataError("no such model in the results", where=where, value=name, allowed=[*results.models])


def _not_finite(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _not_finite(item, f"{path}.{index}" if path else str(index))
