"""Factors of a step's weights (`resample.factors`): by what a run chooses them, and the recipe once they are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sacpo.errors import RecipeError
from sacpo.recipe.auto import SAYS, check_parent, scored_by
from sacpo.recipe.metrics import METRICS, metric_key
from sacpo.recipe.schema import ConstraintSpec, Recipe, StepSpec


@dataclass(frozen=True)
class Choice:
    """What factors are chosen by.

    Attributes:
        objective: The criterion whose mean score is to be high.
        constraints: What is to be met, on one set of tuning prompts.
        criteria: By what samples are judged: what labels or scores for the above, and for weights that judges' scores
            have.
        untold: Constraints on tuning prompts that samples do not tell of.
    """

    objective: str
    constraints: tuple[ConstraintSpec, ...]
    criteria: tuple[str, ...]
    untold: tuple[str, ...]

    @property
    def prompts(self) -> str:
        """The tuning prompts."""
        return self.constraints[0].prompts


def choice_of(recipe: Recipe, step: StepSpec) -> Choice:
    """Return what a step's factors are chosen by; the recipe has been checked."""
    assert step.resample is not None and recipe.objective is not None
    on_tuning = [one for one in recipe.constraints if recipe.prompts[one.prompts].role == "tuning"]
    told = tuple(one for one in on_tuning if _told(recipe, one))
    named = [one.criterion for one in told if one.criterion is not None]
    wanted = (*step.resample.judged, recipe.objective.criterion, *named)
    scored = scored_by(recipe, step, told[0].prompts, *wanted)
    criteria = (name for name in scored if recipe.evaluate.judges[name].kind != "llm")
    untold = (metric_key(one.metric, one.criterion) for one in on_tuning if one not in told)
    return Choice(recipe.objective.criterion, told, tuple(criteria), tuple(untold))


def check_factors(recipe: Recipe) -> None:
    """Check that every step with factors has something to choose them by.

    Raises:
        RecipeError: It has not.
    """
    for index, step in enumerate(recipe.steps):
        if not step.multiplied:
            continue
        where = f"steps.{index}.resample.factors"
        if recipe.objective is None:
            raise RecipeError(
                "nothing says what chosen factors are to maximise",
                where=where,
                do="add 'objective: {criterion: ..., prompts: ...}', or leave 'factors' out",
            )
        prompts = _check_constraints(recipe, where)
        judged = step.resample.judged if step.resample is not None else ()
        for criterion in dict.fromkeys((recipe.objective.criterion, *judged)):
            _check_scores(recipe, criterion, prompts, where)
        check_parent(recipe, index)


def multiplied(recipe: Recipe, index: int, factors: Mapping[str, float]) -> Recipe:
    """Return the recipe in which a step's weights are multiplied."""
    step = recipe.steps[index]
    assert step.resample is not None
    known = step.model_copy(update={"resample": step.resample.multiplied(factors), "search": None})
    return recipe.model_copy(update={"steps": (*recipe.steps[:index], known, *recipe.steps[index + 1 :])})


def _told(recipe: Recipe, constraint: ConstraintSpec) -> bool:
    """Tell whether samples that are judged one by one, at no price, tell of what a constraint bounds."""
    judges = {
        name: spec.gives(name)
        for name, spec in recipe.evaluate.judges.items()
        if spec.kind != "llm" and constraint.prompts in (spec.prompts or (constraint.prompts,))
    }
    if constraint.metric == "mean_score":
        return "scores" in judges.get(constraint.criterion or "", ())
    says = SAYS.get(constraint.metric)
    return says is not None and any(says in gives for gives in judges.values())


def _check_scores(recipe: Recipe, criterion: str, prompts: str, where: str) -> None:
    spec = recipe.evaluate.judges.get(criterion)
    if spec is None or spec.kind == "llm" or "scores" not in spec.gives(criterion):
        judges = recipe.evaluate.judges.items()
        raise RecipeError(
            "factors are chosen by scores of many samples, and this criterion has no judge that gives them at no price",
            where=where,
            value=criterion,
            allowed=[name for name, one in judges if one.kind != "llm" and "scores" in one.gives(name)],
            do="add a reward model as its judge, or train a step for each choice and let the selection choose",
        )
    if spec.prompts is not None and prompts not in spec.prompts:
        raise RecipeError(
            f"factors are chosen by scores of answers to '{prompts}', which this criterion's judge does not judge",
            where=where,
            value=criterion,
            allowed=spec.prompts,
            do=f"add '{prompts}' to evaluate.judges.{criterion}.prompts, or put the constraints on other prompts",
        )


def _check_constraints(recipe: Recipe, where: str) -> str:
    """Return the tuning prompts that the constraints are on."""
    roles = {name: spec.role for name, spec in recipe.prompts.items()}
    told = [one for one in recipe.constraints if roles.get(one.prompts) == "tuning" and _told(recipe, one)]
    sets = [*dict.fromkeys(one.prompts for one in told)]
    if len(sets) != 1:
        possible = [*SAYS, *(name for name, known in METRICS.items() if name == "mean_score" and known.bounded)]
        raise RecipeError(
            "factors are chosen under constraints on one set of tuning prompts that judges of samples tell of",
            where=where,
            value=sets or "no such constraint",
            allowed=possible,
            do="add such a constraint to 'constraints', with a judge that is no language model"
            if not sets
            else "put these constraints on the same prompts",
        )
    for one in told:
        if METRICS[one.metric].rate and one.at_most == 0:
            raise RecipeError(
                "no number of prompts shows that a rate is 0",
                where=f"constraints.{recipe.constraints.index(one)}.at_most",
                value=one.at_most,
                allowed="above 0",
                do="give a fraction: 0.05 for 5 %",
            )
    return sets[0]
