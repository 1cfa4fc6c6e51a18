"""Checks of judges: what a recipe wants of them, and whether they can give it."""

from __future__ import annotations

from sacpo.errors import RecipeError
from sacpo.recipe.explain import did_you_mean, known
from sacpo.recipe.schema import Recipe, SampledSpec

ORACLES = ("helpfulness", "harmlessness", "over_refusal", "politeness", "brevity", "refusal")
"""What the world can judge: all but refusals by a score."""


def check_oracle(recipe: Recipe, criterion: str, where: str) -> None:
    """Refuse an oracle of what the world does not know, or without a world."""
    if criterion not in ORACLES:
        raise RecipeError(
            "the world's oracle knows no such criterion",
            where=where,
            value=criterion,
            allowed=list(ORACLES),
            do=did_you_mean(criterion, ORACLES, "rename the judge, or choose another kind"),
        )
    if recipe.world is None:
        raise RecipeError(
            "an oracle needs a world",
            where=f"{where}.kind",
            value="oracle",
            do="add a 'world' section, or choose another judge",
        )


def check_teachers(recipe: Recipe, criterion: str, spec: SampledSpec) -> None:
    """Refuse a judge that would learn from labels of a judge that itself is trained in the run."""
    where = f"evaluate.judges.{criterion}.dataset.judge"
    for teacher in spec.weights:
        check_scores(recipe, teacher, where)
        if recipe.evaluate.judges[teacher].dataset is not None:
            raise RecipeError(
                "a judge cannot learn from the labels of one that is trained in the run",
                where=where,
                value=teacher,
                do="name an oracle, or a reward model with 'model'",
            )


def check_sampled(recipe: Recipe, spec: SampledSpec, where: str) -> None:
    """Refuse a step's pairs whose judges cannot say what is asked of them."""
    for criterion in spec.weights:
        check_scores(recipe, criterion, f"{where}.judge")
    for criterion in spec.offset or ():
        check_scores(recipe, criterion, f"{where}.offset")
    if spec.safety is None:
        return
    judges, name = recipe.evaluate.judges, spec.safety.judge
    check_scores(recipe, name, f"{where}.safety.judge")
    if judges[name].kind == "llm" or "unsafe" not in judges[name].gives(name):  # no rubric rates and labels
        raise RecipeError(
            "this judge does not say whether an answer is safe",
            where=f"{where}.safety.judge",
            value=name,
            allowed=[
                other
                for other, judge in judges.items()
                if judge.kind != "llm" and {"unsafe", "scores"} <= judge.gives(other)
            ]
            or "none is defined",
            do="name an oracle of harmlessness, or give a reward-model judge 'unsafe_below'",
        )


def check_scores(recipe: Recipe, criterion: str, where: str, *, compared: bool = False) -> None:
    """Refuse a criterion whose judge gives no scores of single answers; `compared`: comparisons will do."""
    judges = recipe.evaluate.judges
    known("judge", criterion, judges, where)

    def gives(name: str) -> bool:
        return ("comparisons" if compared else "scores") in judges[name].gives(name)

    if not gives(criterion):
        scored = [name for name in judges if gives(name)]
        raise RecipeError(
            f"this judge gives {'comparisons' if 'comparisons' in judges[criterion].gives(criterion) else 'labels'}, "
            "not scores",
            where=where,
            value=criterion,
            allowed=scored or "none is defined",
            do="name an oracle that scores, as helpfulness or harmlessness, a reward-model judge, or an llm judge with "
            "a rubric of kind rating",
        )


def check_sources(recipe: Recipe) -> None:
    """Refuse data sources that give nothing of what is asked of them."""
    _check_world(recipe)
    _check_held_prompts(recipe)


def _check_world(recipe: Recipe) -> None:
    """Refuse records of the world that it does not have: it has no pairs, and labels none by itself."""
    for name, spec in recipe.data.items():
        if spec.format == "world" and spec.as_ not in (None, "prompts", "demonstrations"):
            raise RecipeError(
                "the world gives prompts and demonstrations",
                where=f"data.{name}.as",
                value=spec.as_,
                allowed=["prompts", "demonstrations"],
                do="let a step sample its pairs from these prompts",
            )


def _check_held_prompts(recipe: Recipe) -> None:
    """Refuse prompts that are held out where nothing is sampled for them: they would be lost without a word."""
    trained = [step.dataset for step in recipe.steps] + [judge.dataset for judge in recipe.evaluate.judges.values()]
    sampled = {dataset.prompts for dataset in trained if isinstance(dataset, SampledSpec)}
    for name, spec in recipe.data.items():
        if spec.holds == "prompts" and spec.holdout and name not in sampled:
            raise RecipeError(
                "prompts are held out for the pairs that are sampled for them, and none are sampled from this source",
                where=f"data.{name}.holdout",
                value=spec.holdout,
                do="leave it out, or name the source in the 'dataset' of a step that samples pairs",
            )
        if name in sampled and spec.holdout == 1:
            raise RecipeError(
                "every prompt of this data source is held out, so no pair is left to train on",
                where=f"data.{name}.holdout",
                value=1,
                do="lower it, or leave it out",
            )
