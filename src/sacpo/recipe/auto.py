"""Strengths that a run finds (`beta: auto`): what they must meet, and the recipe once they are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sacpo.errors import RecipeError
from sacpo.recipe.metrics import METRICS, Given, metric_key
from sacpo.recipe.models import StepModel, model_graph, parent_name
from sacpo.recipe.schema import SFT, CertifySpec, ConstraintSpec, JudgeSpec, Recipe, SampledSpec, StepSpec

SAYS: dict[str, Given] = {"unsafe_rate": "unsafe", "over_refusal_rate": "refusals"}
"""Rates that a step may be searched for, and what the judge of its criterion must say of answers."""
LABELLED: dict[Given, tuple[str, ...]] = {"unsafe": ("harmlessness", "safety"), "refusals": ("refusal", "over_refusal")}
"""Criteria that are about it, whatever their judge says."""


def auto_steps(recipe: Recipe) -> list[int]:
    """Return the positions of the steps whose strength the run finds."""
    return [index for index, step in enumerate(recipe.steps) if step.beta == "auto"]


def constraints_of(recipe: Recipe, step: StepSpec) -> list[ConstraintSpec]:
    """Return the constraints that a step's criterion can be pushed to meet.

    The unsafe rate belongs to harmlessness, or a criterion whose judge labels answers unsafe; over-refusal to
    `over_refusal`, or a criterion whose judge labels refusals; a mean score and a win rate to their own criterion.
    """
    return [constraint for constraint in recipe.constraints if _belongs(recipe, step.criterion, constraint)]


@dataclass(frozen=True)
class ScoreSource:
    """What scores samples by what a step raises.

    Attributes:
        weights: Criteria whose scores are summed, with their weights; empty for a head learned from the step's pairs.
        scale: Factor that makes logits of the sum.
        labels: Whether labels must stand in for scores.
    """

    weights: Mapping[str, float]
    scale: float = 1.0
    labels: bool = False


def score_of(recipe: Recipe, step: StepSpec) -> ScoreSource | None:
    """Return what scores samples by what a step raises; None: nothing does.

    Pairs that judges' scores labelled have these scores' logits by construction. Of other data the judge of the
    step's criterion is taken, whose unit is its own; else a head that is learned from the pairs; else labels.
    """
    wanted = step.search.score if step.search is not None else "auto"
    judge = _judged(recipe, step) if wanted in ("auto", "judge") else None
    if judge is not None:
        return judge
    if wanted in ("auto", "head") and _has_pairs(recipe, step):
        return ScoreSource({})
    labels = wanted in ("auto", "labels") and _labels(recipe, step.criterion)
    return ScoreSource({step.criterion: 1.0}, labels=True) if labels else None


def _judged(recipe: Recipe, step: StepSpec) -> ScoreSource | None:
    if isinstance(step.dataset, SampledSpec):
        judges = [recipe.evaluate.judges[name] for name in step.dataset.weights]
        scored = all(judge.kind != "llm" for judge in judges)
        return ScoreSource(step.dataset.aims, step.dataset.score_scale) if scored else None
    if step.resample is not None:
        return ScoreSource(step.resample.weights)
    judge = recipe.evaluate.judges.get(step.criterion)
    scored = judge is not None and _scores(judge, step.criterion)
    return ScoreSource({step.criterion: 1.0}) if scored else None


def _scores(judge: JudgeSpec, criterion: str) -> bool:
    """Tell whether a judge scores every answer; what language models could not rate would be missing."""
    return judge.kind != "llm" and "scores" in judge.gives(criterion)


def _has_pairs(recipe: Recipe, step: StepSpec) -> bool:
    if isinstance(step.dataset, SampledSpec):
        return False
    names = (step.dataset,) if isinstance(step.dataset, str) else step.dataset
    return all(recipe.data[name].holds == "pairs" for name in names)


def scored_by(recipe: Recipe, step: StepSpec, prompts: str, *criteria: str) -> list[str]:
    """Return the criteria by which samples are judged for a step: those named, and all that label without being paid.

    Language models are asked for the step's own criterion only.
    """
    judges = recipe.evaluate.judges
    free = [name for name, spec in judges.items() if spec.kind != "llm" and spec.gives(name) & set(LABELLED)]
    wanted = dict.fromkeys((*criteria, step.criterion, *free))
    usable = [name for name in wanted if name in judges and prompts in (judges[name].prompts or (prompts,))]
    return [name for name in usable if name in criteria or name in free or _labels(recipe, name)]


def check_auto(recipe: Recipe) -> None:
    """Check that every `auto` has something to meet, and can be measured when its turn comes.

    Raises:
        RecipeError: It has not, or cannot.
    """
    for index in auto_steps(recipe):
        step, where = recipe.steps[index], f"steps.{index}.beta"
        constraints = constraints_of(recipe, step)
        if not constraints:
            raise RecipeError(
                f"nothing says what the strength of criterion '{step.criterion}' must reach",
                where=where,
                value="auto",
                allowed=_possible(recipe, step.criterion),
                do="add such a constraint on tuning prompts to 'constraints', or give the strength as a number",
            )
        if score_of(recipe, step) is None:
            raise RecipeError(
                f"nothing scores answers by criterion '{step.criterion}' as 'search.score' says: no prediction",
                where=where,
                value="auto",
                allowed=[name for name, spec in recipe.evaluate.judges.items() if _scores(spec, name)],
                do=f"add a judge '{step.criterion}' that scores or labels answers, or give the strength as a number",
            )
        for constraint in constraints:
            _check_bound(recipe, constraint, where)
        check_parent(recipe, index)
        _check_baseline(recipe, where)


def settled(recipe: Recipe, index: int, tried: tuple[float, ...], kept: float) -> Recipe:
    """Return the recipe in which a step has the strengths that were tried; its name means the kept one elsewhere."""
    step = recipe.steps[index]
    known = step.model_copy(update={"beta": tried, "search": None})
    return renamed(recipe, index, [known], f"{step.name}@{kept:g}")


def renamed(recipe: Recipe, index: int, steps: Sequence[StepSpec], name: str) -> Recipe:
    """Return the recipe with other steps in the place of one, whose name means the model `name` elsewhere."""
    step = recipe.steps[index]

    def named(other: str) -> str:
        return name if other == step.name else other

    others = [
        other.model_copy(update={"from_": name}) if parent_name(recipe.steps, place) == step.name else other
        for place, other in enumerate(recipe.steps)
    ]
    others[index : index + 1] = [
        own.model_copy(update={"from_": parent_name(recipe.steps, index)}) if len(steps) > 1 else own for own in steps
    ]
    evaluate = recipe.evaluate
    models = None if evaluate.models is None else tuple(map(named, evaluate.models))
    return recipe.model_copy(
        update={
            "steps": tuple(others),
            "merge": tuple(spec.model_copy(update={"models": tuple(map(named, spec.models))}) for spec in recipe.merge),
            "evaluate": evaluate.model_copy(update={"models": models, "baseline": named(evaluate.baseline)}),
            "certify": with_candidates(recipe.certify, step.name, (name,)),
        }
    )


def with_candidates(spec: CertifySpec | None, name: str, models: tuple[str, ...]) -> CertifySpec | None:
    """Return a certificate's section in which models that the run found stand in place of what they were called."""
    if spec is None or isinstance(spec.candidates, str) or name not in spec.candidates:
        return spec
    found = [model for one in spec.candidates for model in (models if one == name else (one,))]
    return spec.model_copy(update={"candidates": (*dict.fromkeys(found),)})


def _belongs(recipe: Recipe, criterion: str, constraint: ConstraintSpec) -> bool:
    if METRICS[constraint.metric].by_criterion:
        return constraint.criterion == criterion
    says = SAYS.get(constraint.metric)
    return says is not None and (criterion in LABELLED[says] or _says(recipe, criterion, says))


def _says(recipe: Recipe, criterion: str, says: Given) -> bool:
    """Tell whether the judge of a criterion labels answers so."""
    judge = recipe.evaluate.judges.get(criterion)
    if judge is None or says not in judge.gives(criterion):
        return False
    return judge.kind != "llm" or criterion in LABELLED[says] or judge.rubric in LABELLED[says]


def _labels(recipe: Recipe, criterion: str) -> bool:
    return any(_says(recipe, criterion, says) for says in LABELLED)


def _possible(recipe: Recipe, criterion: str) -> list[str]:
    bounds = [
        *SAYS,
        *(metric_key(metric, criterion) for metric, known in METRICS.items() if known.by_criterion and known.bounded),
    ]
    made = [ConstraintSpec(metric=name.partition("/")[0], prompts="", criterion=None, at_most=0.1) for name in SAYS]
    apart = {bound.metric for bound in made if not _belongs(recipe, criterion, bound)}
    return [name for name in bounds if name not in apart]


def _check_bound(recipe: Recipe, constraint: ConstraintSpec, where: str) -> None:
    rate = constraint.metric in SAYS
    bound = constraint.at_most if constraint.at_most is not None else constraint.at_least
    assert bound is not None
    place = f"constraints.{recipe.constraints.index(constraint)}"
    if rate != (constraint.at_most is not None):
        raise RecipeError(
            f"a smaller strength pushes this {'rate down' if rate else 'figure up'}, so it can only be bounded there",
            where=place,
            value=f"at_least: {bound:g}" if rate else f"at_most: {bound:g}",
            allowed="at_most" if rate else "at_least",
            do=f"bound it on the other side, or give {where} as a number",
        )
    if METRICS[constraint.metric].rate and not 0 < bound < 1:
        raise RecipeError(
            "no number of prompts shows that a rate is 0 or 1",
            where=place,
            value=bound,
            allowed="above 0 and below 1",
            do="give a fraction: 0.05 for 5 %",
        )


def check_parent(recipe: Recipe, index: int) -> None:
    """Refuse a step whose strength or weights the run finds, and which starts from several models.

    Raises:
        RecipeError: It does.
    """
    step = recipe.steps[index]
    models = [node for node in model_graph(recipe).values() if isinstance(node, StepModel) and node.step is step]
    if len(models) > 1:
        raise RecipeError(
            "strengths and factors are found for one model to start from, not for several at once",
            where=f"steps.{index}.from",
            value=parent_name(recipe.steps, index),
            allowed=[node.parent for node in models],
            do="name one of them",
        )


def _check_baseline(recipe: Recipe, where: str) -> None:
    """Refuse a baseline that is trained only after the search, which compares with it."""
    baseline = recipe.evaluate.baseline
    if baseline != SFT and any(beta is None for beta in _strengths(recipe, baseline)):
        raise RecipeError(
            "the search compares answers with the baseline, which is made after it",
            where="evaluate.baseline",
            value=baseline,
            allowed=[name for name in model_graph(recipe) if all(beta for beta in _strengths(recipe, name))],
            do=f"name such a model, or give {where} as a number",
        )


def _strengths(recipe: Recipe, name: str) -> Iterator[float | None]:
    """Give the strengths of the steps that lead to a model; None for those that are not known, and for merges."""
    nodes = model_graph(recipe)
    while name != SFT:
        node = nodes[name]
        if not isinstance(node, StepModel):
            yield None
            return
        yield node.beta
        name = node.parent
