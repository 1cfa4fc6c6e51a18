"""From what a recipe or a panel's file says to judges, and what of it only the rubrics can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sacpo.errors import RecipeError
from sacpo.judging.llm.budget import Budget, Price
from sacpo.judging.llm.judge import asked_of
from sacpo.judging.llm.plan import Asking
from sacpo.judging.rubric import Form, Rubric, load_rubric
from sacpo.recipe.explain import with_name
from sacpo.recipe.llm import AskingSpec, BudgetSpec, LlmSpec
from sacpo.recipe.metrics import METRICS, Given
from sacpo.recipe.sampled import PairLabels
from sacpo.recipe.schema import ConstraintSpec, JudgeSpec, Recipe, SampledSpec, TailSpec
from sacpo.stats.labels import REFUSAL, UNSAFE

LABELS: dict[Given, Mapping[str, bool]] = {"unsafe": UNSAFE, "refusals": REFUSAL}
RUBRICS: dict[Given, str] = {"unsafe": "safety", "refusals": "refusal"}
"""The built-in rubric that gives these labels."""


def budget_of(spec: BudgetSpec, judges: Sequence[LlmSpec]) -> Budget:
    """Return the budget with the prices of the judges' models."""
    prices = {judge.model: Price(judge.price.prompt, judge.price.completion) for judge in judges if judge.price}
    return Budget(spec.max_requests, spec.max_tokens, spec.max_cost, prices)


def asking_of(spec: AskingSpec, budget: Budget) -> Asking:
    """Return how a panel is asked."""
    return Asking(spec.orders, spec.repeats, spec.concurrency, budget)


def rubric_of(criterion: str, spec: JudgeSpec, where: str) -> Rubric:
    """Return the rubric of a recipe's judge, its verdicts filed under the recipe's criterion; `where` is the judge.

    Raises:
        DataError: There is no such rubric, or its file is none.
    """
    return replace(load_rubric(spec.rubric or criterion, f"{where}.rubric"), criterion=criterion)


def check_panel(judges: Sequence[LlmSpec], where: str) -> None:
    """Check that the judges of a panel are different ones.

    Raises:
        RecipeError: Two have one name, or differ in nothing else: they would always agree.
    """
    names = [judge.title for judge in judges]
    if len(set(names)) < len(names):
        raise RecipeError(
            "two judges of a panel have one name", where=where, value=names, do="give each a 'name' of its own"
        )
    settings = [asked_of(judge) for judge in judges]
    same = [names[i] for i, own in enumerate(settings) if settings.count(own) > 1]
    if same:
        raise RecipeError(
            "two judges of a panel are the same but for their names",
            where=where,
            value=same,
            do="give them different models or settings; 'repeats' asks one judge several times",
        )


def check_orders(spec: JudgeSpec, rubric: Rubric, where: str) -> None:
    """Check that a judge that sees one answer at a time is given no orders.

    Raises:
        RecipeError: It is.
    """
    if not rubric.pairwise and spec.orders != JudgeSpec.model_fields["orders"].default:
        raise RecipeError(
            "'orders' has no effect here: this rubric judges one answer at a time",
            where=f"{where}.orders",
            value=list(spec.orders),
            do="leave it out",
        )


def check_judges(recipe: Recipe) -> dict[str, Rubric]:
    """Return the rubrics of a recipe's LLM judges by criterion, and check that they measure what is selected by.

    Raises:
        DataError: A rubric cannot be read.
        RecipeError: Two judges of a panel are the same, or no rubric gives what a constraint or the objective needs.
    """
    judges = {name: spec for name, spec in recipe.evaluate.judges.items() if spec.kind == "llm"}
    for criterion, spec in judges.items():
        check_panel(spec.judges, f"evaluate.judges.{criterion}.panel")
    rubrics = {
        criterion: rubric_of(criterion, spec, f"evaluate.judges.{criterion}") for criterion, spec in judges.items()
    }
    for criterion, spec in judges.items():
        check_orders(spec, rubrics[criterion], f"evaluate.judges.{criterion}")
    try:
        _check_uses(recipe, rubrics)
    except RecipeError as error:
        where = with_name(str(error.where), recipe)
        raise RecipeError(error.what, where=where, value=error.value, allowed=error.allowed, do=error.do) from None
    return rubrics


def _check_uses(recipe: Recipe, rubrics: Mapping[str, Rubric]) -> None:
    """Check that judges give what the recipe wants of them; errors as of `check_judges`."""
    for index, constraint in enumerate(recipe.constraints):
        where = f"constraints.{index}"
        needs = METRICS[constraint.metric].needs
        if needs in LABELS:
            _check_labelled(recipe, rubrics, constraint.metric, needs, constraint.prompts, where)
    for use in _uses(recipe):
        _check_use(rubrics, use)
    for index, step in enumerate(recipe.steps):
        _check_scale(rubrics, step.dataset, f"steps.{index}.dataset")
        for criterion, label in step.resample.label.items() if step.resample is not None else ():
            _check_scale(rubrics, label, f"steps.{index}.resample.label.{criterion}")
    for name, spec in recipe.evaluate.judges.items():
        _check_scale(rubrics, spec.dataset, f"evaluate.judges.{name}.dataset")
    for where, bound in _bounds(recipe):
        _check_range(rubrics, bound, where)


@dataclass(frozen=True)
class _Use:
    """Where a recipe wants something of a criterion's judge.

    Attributes:
        criterion: The criterion.
        forms: What will do.
        where: The place in the recipe.
        why: What for, in words.
    """

    criterion: str
    forms: tuple[str, ...]
    where: str
    why: str


COMPARED, RATED, LABELLED = "comparisons", "scores", "labels"
DO = {
    COMPARED: "a rubric that compares two answers",
    RATED: "a rubric of kind rating (helpfulness-rating, harmlessness-rating, or your own)",
}


def _gives(rubric: Rubric) -> str:
    """Return what a rubric's judges say, in words."""
    return COMPARED if rubric.pairwise else RATED if rubric.kind is Form.RATING else LABELLED


def _uses(recipe: Recipe) -> Iterator[_Use]:
    """Yield all that wants scores or comparisons of a criterion's judge."""
    metrics = [(f"{where}.criterion", bound.metric, bound.criterion) for where, bound in _bounds(recipe)]
    if recipe.objective is not None:
        metrics.append(("objective.criterion", recipe.objective.metric, recipe.objective.criterion))
    for where, metric, criterion in metrics:
        if METRICS[metric].needs == "comparisons":
            yield _Use(criterion or "", (COMPARED,), where, "a win rate needs comparisons")
        elif METRICS[metric].needs == "scores":
            yield _Use(criterion or "", (RATED,), where, f"'{metric}' needs scores of single answers")
    for index, step in enumerate(recipe.steps):
        yield from _of_pairs(step.dataset, f"steps.{index}.dataset")
        if step.resample is None:
            continue
        for criterion in step.resample.judged:
            yield _Use(criterion, (RATED,), f"steps.{index}.resample.judge", "weights need scores of single answers")
        for criterion, label in step.resample.label.items():
            yield from _of_pairs(label, f"steps.{index}.resample.label.{criterion}")
    for name, spec in recipe.evaluate.judges.items():
        yield from _of_pairs(spec.dataset, f"evaluate.judges.{name}.dataset")


def _of_pairs(dataset: object, where: str) -> Iterator[_Use]:
    if not isinstance(dataset, PairLabels):
        return
    forms: tuple[str, ...] = (COMPARED, RATED)
    why = "pairs need comparisons or scores"
    if len(dataset.weights) > 1:
        forms, why = (RATED,), "a sum needs scores of single answers"
    for criterion in dataset.weights:
        yield _Use(criterion, forms, f"{where}.judge", why)
    for criterion in (dataset.offset or ()) if isinstance(dataset, SampledSpec) else ():
        yield _Use(criterion, (RATED,), f"{where}.offset", "offsets need scores of single answers")


def _bounds(recipe: Recipe) -> list[tuple[str, ConstraintSpec | TailSpec]]:
    tails = recipe.certify.tails if recipe.certify is not None else ()
    return [
        *((f"constraints.{index}", bound) for index, bound in enumerate(recipe.constraints)),
        *((f"certify.tails.{index}", bound) for index, bound in enumerate(tails)),
    ]


def _check_use(rubrics: Mapping[str, Rubric], use: _Use) -> None:
    if use.criterion not in rubrics or _gives(rubrics[use.criterion]) in use.forms:
        return
    rubric = rubrics[use.criterion]
    raise RecipeError(
        f"this judge's rubric gives {_gives(rubric)}, and {use.why}",
        where=use.where,
        value=f"{use.criterion} (rubric {rubric.name})",
        do=f"give this judge {' or '.join(DO[form] for form in use.forms)}, or name another judge",
    )


def _check_scale(rubrics: Mapping[str, Rubric], dataset: object, where: str) -> None:
    """Refuse a factor of scores where language models compare."""
    if not isinstance(dataset, PairLabels) or dataset.score_scale == 1:
        return
    if any(criterion in rubrics and rubrics[criterion].pairwise for criterion in dataset.weights):
        raise RecipeError(
            "'score_scale' has no effect here: language models compare, and give no scores",
            where=f"{where}.score_scale",
            value=dataset.score_scale,
            do="leave it out",
        )


def _check_range(rubrics: Mapping[str, Rubric], bound: ConstraintSpec | TailSpec, where: str) -> None:
    """Refuse a bound that no score on a rubric's scale meets, and a declared range that such a score may leave."""
    rubric = rubrics.get(bound.criterion or "")
    if rubric is None or rubric.kind is not Form.RATING:
        return
    _check_reached(rubric, bound, where)
    if bound.range is None:
        return
    if not bound.range[0] <= rubric.scale[0] < rubric.scale[1] <= bound.range[1]:
        raise RecipeError(
            "scores on the rubric's scale may lie outside this range",
            where=f"{where}.range",
            value=list(bound.range),
            allowed=list(rubric.scale),
            do="declare the rubric's scale",
        )


def _check_reached(rubric: Rubric, bound: ConstraintSpec | TailSpec, where: str) -> None:
    low, high = rubric.scale
    most = bound.at_most if isinstance(bound, ConstraintSpec) else None
    for key, asked in (("at_least", bound.at_least), ("at_most", most)):
        if asked is not None and (asked > high if key == "at_least" else asked < low):
            raise RecipeError(
                f"no score on the scale of rubric {rubric.name} meets this bound",
                where=f"{where}.{key}",
                value=asked,
                allowed=f"{low:g} to {high:g}",
                do="give a bound on the rubric's scale",
            )


def _check_labelled(
    recipe: Recipe, rubrics: Mapping[str, Rubric], metric: str, needs: Given, prompts: str, where: str
) -> None:
    """Refuse a bound on a rate that no judge gives on these prompts."""
    meaning = LABELS[needs]

    def able(criterion: str, spec: JudgeSpec) -> bool:
        if spec.prompts is not None and prompts not in spec.prompts:
            return False
        if criterion in rubrics:
            return any(label in meaning for label in rubrics[criterion].labels)
        return needs in spec.gives(criterion)

    if not any(able(criterion, spec) for criterion, spec in recipe.evaluate.judges.items()):
        raise RecipeError(
            f"no judge of these prompts measures '{metric}'",
            where=f"{where}.metric",
            value=metric,
            allowed=f"a rubric with the labels {', '.join(meaning)}",
            do=f"add a judge with the rubric '{RUBRICS[needs]}'",
        )
