"""From what a recipe or a panel's file says to judges, and what of it only the rubrics can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sacpo.errors import RecipeError
from sacpo.judging.llm.budget import Budget, Price
from sacpo.judging.llm.judge import asked_of
from sacpo.judging.llm.plan import Asking
from sacpo.judging.rubric import Rubric, load_rubric
from sacpo.recipe.llm import AskingSpec, BudgetSpec, LlmSpec
from sacpo.recipe.metrics import METRICS, Given
from sacpo.recipe.schema import JudgeSpec, Recipe, SampledSpec
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


def rubric_of(criterion: str, spec: JudgeSpec) -> Rubric:
    """Return the rubric of a recipe's judge, its verdicts filed under the recipe's criterion.

    Raises:
        DataError: There is no such rubric, or its file is none.
    """
    return replace(load_rubric(spec.rubric or criterion), criterion=criterion)


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


def check_judges(recipe: Recipe) -> dict[str, Rubric]:
    """Return the rubrics of a recipe's LLM judges by criterion, and check that they measure what is selected by.

    Raises:
        DataError: A rubric cannot be read.
        RecipeError: Two judges of a panel are the same, or no rubric gives what a constraint or the objective needs.
    """
    judges = {name: spec for name, spec in recipe.evaluate.judges.items() if spec.kind == "llm"}
    for criterion, spec in judges.items():
        check_panel(spec.judges, f"evaluate.judges.{criterion}.panel")
    rubrics = {criterion: rubric_of(criterion, spec) for criterion, spec in judges.items()}
    for criterion, spec in judges.items():
        if not rubrics[criterion].pairwise and spec.orders != JudgeSpec.model_fields["orders"].default:
            raise RecipeError(
                "'orders' has no effect here: this rubric labels one answer at a time",
                where=f"evaluate.judges.{criterion}.orders",
                value=list(spec.orders),
                do="leave it out",
            )
    for index, constraint in enumerate(recipe.constraints):
        where = f"constraints.{index}"
        needs = METRICS[constraint.metric].needs
        if needs == "comparisons":
            _check_compared(rubrics, constraint.criterion or "", where)
        elif needs in LABELS:
            _check_labelled(recipe, rubrics, constraint.metric, needs, constraint.prompts, where)
    if recipe.objective is not None:
        _check_compared(rubrics, recipe.objective.criterion, "objective")
    datasets: dict[str, object] = {f"steps.{index}": step.dataset for index, step in enumerate(recipe.steps)}
    datasets |= {f"evaluate.judges.{name}": spec.dataset for name, spec in recipe.evaluate.judges.items()}
    for where, dataset in datasets.items():
        for criterion in dataset.weights if isinstance(dataset, SampledSpec) else ():
            _check_pairwise(rubrics, criterion, f"{where}.dataset.judge", "pairs need comparisons")
    return rubrics


def _check_compared(rubrics: Mapping[str, Rubric], criterion: str, where: str) -> None:
    _check_pairwise(rubrics, criterion, f"{where}.criterion", "a win rate needs comparisons")


def _check_pairwise(rubrics: Mapping[str, Rubric], criterion: str, where: str, needs: str) -> None:
    if criterion in rubrics and not rubrics[criterion].pairwise:
        raise RecipeError(
            f"this judge's rubric gives labels, and {needs}",
            where=where,
            value=f"{criterion} (rubric {rubrics[criterion].name})",
            do="name a criterion whose rubric compares two answers",
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
