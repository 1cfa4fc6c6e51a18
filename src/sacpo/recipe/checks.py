"""Checks across a recipe's sections: names that must be defined, and figures that something must measure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sacpo.errors import RecipeError
from sacpo.recipe.algorithms import ALGORITHMS
from sacpo.recipe.auto_merges import check_auto_merges
from sacpo.recipe.dual import check_dual
from sacpo.recipe.explain import known, with_name
from sacpo.recipe.harness import WORLD_STEPS
from sacpo.recipe.judge_checks import (
    ORACLES,
    check_oracle,
    check_sampled,
    check_scores,
    check_sources,
    check_teachers,
)
from sacpo.recipe.kept_weights import check_kept_weights
from sacpo.recipe.learn_checks import check_resampled, check_turns
from sacpo.recipe.metrics import MEASURED, METRICS, Given
from sacpo.recipe.models import model_graph
from sacpo.recipe.race import check_race
from sacpo.recipe.references import dataset_references, names_of
from sacpo.recipe.schema import Recipe, SampledSpec, TokenizerSpec

ADVICE: dict[Given, str] = {
    "scores": "an oracle, a reward-model judge, or an llm judge with a rubric of kind rating",
    "comparisons": "a judge that compares answers",
    "unsafe": "an oracle of harmlessness, a reward-model judge with 'unsafe_below', "
    "or an llm judge with the rubric 'safety'",
    "refusals": "a judge of kind 'refusal', or an llm judge with the rubric 'refusal'",
}
"""Which judge says what a metric needs."""


def check_references(recipe: Recipe) -> None:
    """Check everything that one section says of another.

    Raises:
        RecipeError: A name is unknown, or something cannot be computed from what the recipe gives.
    """
    nodes = model_graph(recipe)
    named: set[tuple[str, str]] = set()
    for where, name in dataset_references(recipe):
        known("data source", name, recipe.data, where)
        _once(where, name, named)
    check_sources(recipe)
    _check_kinds(recipe)
    check_kept_weights(recipe)
    _check_tokenizer(recipe)
    _check_quantized(recipe)
    for index, step in enumerate(recipe.steps):
        if isinstance(step.dataset, SampledSpec):
            check_sampled(recipe, step.dataset, f"steps.{index}.dataset")
        if step.resample is not None:
            check_resampled(recipe, step, index, nodes)
    check_turns(recipe, nodes)
    for criterion, judge in recipe.evaluate.judges.items():
        for name in judge.prompts or ():
            known("prompt set", name, recipe.prompts, f"evaluate.judges.{criterion}.prompts")
        if isinstance(judge.dataset, SampledSpec):
            check_teachers(recipe, criterion, judge.dataset)
        if judge.kind == "oracle":
            check_oracle(recipe, criterion, f"evaluate.judges.{criterion}")
    known("model", recipe.evaluate.baseline, nodes, "evaluate.baseline")
    for index, name in enumerate(recipe.evaluate.models or ()):
        known("model", name, nodes, f"evaluate.models.{index}")
        _once("evaluate.models", name, named)
    for axis in ("x", "y"):
        criterion = getattr(recipe.report, axis)
        if criterion != type(recipe.report).model_fields[axis].default:  # the default may be judged by nobody
            known("judge", criterion, recipe.evaluate.judges, f"report.{axis}")
    _check_headlines(recipe)
    _check_budget(recipe)
    _check_world(recipe)
    _check_theory(recipe)
    _check_harness(recipe, nodes)
    _check_selection(recipe)
    check_auto_merges(recipe)
    check_dual(recipe)
    check_race(recipe)


def _check_budget(recipe: Recipe) -> None:
    limits = recipe.evaluate.budget.model_dump(exclude_none=True)
    if limits and not any(judge.kind == "llm" for judge in recipe.evaluate.judges.values()):
        raise RecipeError(
            "a budget has no effect here: no language model judges",
            where="evaluate.budget",
            value=limits,
            do="leave it out, or add a judge of kind 'llm'",
        )


def _check_headlines(recipe: Recipe) -> None:
    sets = {name for name, spec in recipe.prompts.items() if spec.role == "report"}
    for key, name in recipe.report.prompts.items():
        metric, _, criterion = key.partition("/")
        known("metric", metric, MEASURED, f"report.prompts.{key}")
        if criterion:
            known("judge", criterion, recipe.evaluate.judges, f"report.prompts.{key}")
        known("prompt set of role report", name, sets, f"report.prompts.{key}")


def _check_tokenizer(recipe: Recipe) -> None:
    tokenizer = recipe.base.tokenizer
    if not isinstance(tokenizer, TokenizerSpec):
        return
    if tokenizer.kind == "bpe" and not tokenizer.datasets:
        raise RecipeError(
            "a tokenizer needs texts to be trained on",
            where="base.tokenizer.datasets",
            allowed=[*recipe.data] or "none is defined",
            do="name data sources under 'datasets'",
        )
    if tokenizer.kind == "world" and recipe.world is None:
        raise RecipeError(
            "the world's tokenizer needs a world",
            where="base.tokenizer.kind",
            value="world",
            do="add a 'world' section",
        )


def _check_quantized(recipe: Recipe) -> None:
    if recipe.base.quantization is None:
        return
    trained = {f"steps.{index}.lora": step.lora for index, step in enumerate(recipe.steps)}
    trained |= {"sft.lora": recipe.sft.lora} if recipe.sft is not None else {}
    for where, lora in trained.items():
        if lora is None or not lora.plain:
            raise RecipeError(
                "on a quantised base only plain LoRA can be trained",
                where=where,
                value=lora.model_dump() if lora is not None else None,
                do="give it 'lora' without use_dora, bias and modules_to_save, or leave base.quantization out",
            )


def _check_selection(recipe: Recipe) -> None:
    targets: list[tuple[str, str, str | None, str]] = [
        (f"constraints.{i}", c.metric, c.criterion, c.prompts) for i, c in enumerate(recipe.constraints)
    ]
    if recipe.objective:
        targets.append(("objective", recipe.objective.metric, recipe.objective.criterion, recipe.objective.prompts))
    for where, metric, criterion, prompts in targets:
        known("prompt set", prompts, recipe.prompts, f"{where}.prompts")
        role = recipe.prompts[prompts].role
        if role != "tuning":
            raise RecipeError(
                "selection uses tuning prompts only; reported figures come from other prompts",
                where=f"{where}.prompts",
                value=f"{prompts} (role {role})",
                allowed=[n for n, p in recipe.prompts.items() if p.role == "tuning"] or "none is defined",
                do="name a prompt set of role 'tuning', or define one",
            )
        if METRICS[metric].by_criterion and criterion is None:
            raise RecipeError(
                f"metric '{metric}' needs a criterion",
                where=f"{where}.criterion",
                allowed=[*recipe.evaluate.judges] or "none is defined",
                do=f"add the judge's criterion, as in criterion: {next(iter(recipe.evaluate.judges), 'helpfulness')}",
            )
        if criterion is not None:
            known("judge", criterion, recipe.evaluate.judges, f"{where}.criterion")
        check_measured(recipe, where, metric, criterion, prompts)


def check_measured(recipe: Recipe, where: str, metric: str, criterion: str | None, prompts: str) -> None:
    """Refuse a bound or an objective on what nothing in the recipe measures: no model could ever meet it."""
    judges, needs = recipe.evaluate.judges, METRICS[metric].needs
    if METRICS[metric].by_criterion and criterion is not None:
        check_scores(recipe, criterion, f"{where}.criterion", compared=needs == "comparisons")
        by: list[str] = [criterion]
    elif needs is not None:
        by = [name for name, judge in judges.items() if needs in judge.gives(name)]
        if not by:
            raise RecipeError(
                f"no judge measures '{metric}'",
                where=f"{where}.metric",
                value=metric,
                do=f"add {ADVICE[needs]} to evaluate.judges",
            )
    else:
        if metric == "kl" and not recipe.evaluate.kl_prompts:
            raise RecipeError(
                "no prompts are sampled for the metric 'kl'",
                where=f"{where}.metric",
                value=f"kl_prompts: {recipe.evaluate.kl_prompts}",
                do="set evaluate.kl_prompts to how many prompts KL is sampled on",
            )
        return
    if not any(judges[name].prompts is None or prompts in (judges[name].prompts or ()) for name in by):
        raise RecipeError(
            "answers to this prompt set are not judged by this criterion",
            where=f"{where}.prompts",
            value=prompts,
            allowed=list(dict.fromkeys(p for name in by for p in judges[name].prompts or ())),
            do=f"add '{prompts}' to evaluate.judges.{by[0]}.prompts",
        )


def _check_world(recipe: Recipe) -> None:
    sections = (("data", recipe.data), ("prompts", recipe.prompts))
    for where, spec in ((f"{part}.{name}", spec) for part, specs in sections for name, spec in specs.items()):
        if spec.format == "world" and recipe.world is None:
            raise RecipeError(
                "format 'world' needs a 'world' section",
                where=f"{where}.format",
                value="world",
                do="add 'world: {seed: 0}', or choose another format",
            )


def _check_theory(recipe: Recipe) -> None:
    theory = recipe.theory
    if theory is None:
        return
    known("prompt set", theory.prompts, recipe.prompts, "theory.prompts")
    for name in ("reward", "safety"):
        criterion = getattr(theory, name)
        known("judge", criterion, recipe.evaluate.judges, f"theory.{name}")
        judge = recipe.evaluate.judges[criterion]
        if judge.kind != "oracle" or criterion == "refusal":
            raise RecipeError(
                "theory needs the world's own scores",
                where=f"theory.{name}",
                value=f"{criterion} (kind {judge.kind})",
                allowed=[name for name in ORACLES if name != "refusal"],
                do="name judges of kind 'oracle', or leave 'theory' out",
            )
    if not recipe.evaluate.kl_prompts:
        raise RecipeError(
            "theory needs samples of every model, and 'kl_prompts' asks for none",
            where="evaluate.kl_prompts",
            value=recipe.evaluate.kl_prompts,
            allowed="1 or more",
            do="set it to how many prompts KL is sampled on, or leave 'theory' out",
        )


def _check_harness(recipe: Recipe, nodes: Collection[str]) -> None:
    spec, where = recipe.evaluate.harness, "evaluate.harness"
    if spec is None:
        return
    for index, name in enumerate(spec.tasks):
        _once(f"{where}.tasks", name, {(f"{where}.tasks", other) for other in spec.tasks[:index]})
    for index, name in enumerate(spec.models or ()):
        known("model", name, nodes, f"{where}.models.{index}")
    if not recipe.prompts:
        do = "add a prompt set of role report, or leave 'harness' out"
        raise RecipeError("without prompt sets there is no report to show it in", where=where, do=do)
    if WORLD_STEPS in spec.tasks and recipe.world is None:
        do = "add 'world: {seed: 0}', or leave it out"
        raise RecipeError("this task needs a 'world' section", where=f"{where}.tasks", value=WORLD_STEPS, do=do)
    if spec.models is None and recipe.objective is None:
        raise RecipeError(
            "without an objective no model is chosen that could be asked",
            where=f"{where}.models",
            do="add 'objective' and 'constraints', or name the models",
        )


def _once(where: str, name: str, named: set[tuple[str, str]]) -> None:
    if (where, name) in named:
        raise RecipeError("a name is given twice", where=where, value=name, do="remove one of them")
    named.add((where, name))


def placed(error: RecipeError, source: str, recipe: Recipe) -> RecipeError:
    """Return the error with the recipe's file in front of the field that it names, and the step's name behind it."""
    where: object = f"{source}, {with_name(str(error.where), recipe)}" if error.where else source
    return RecipeError(error.what, where=where, value=error.value, allowed=error.allowed, do=error.do)


def _check_kinds(recipe: Recipe) -> None:
    """Refuse a training on data sources of another kind before anything is trained."""
    uses: list[tuple[str, str, Any, tuple[str, ...]]] = []
    if recipe.sft:
        uses.append(("SFT learns from demonstrations", "sft.dataset", recipe.sft.dataset, ("demonstrations",)))
    for index, step in enumerate(recipe.steps):
        algorithm = ALGORITHMS[step.algorithm]
        if isinstance(step.dataset, SampledSpec) or step.resample is not None:
            continue
        uses.append(
            (
                f"{algorithm.title} learns from {algorithm.learns_from}",
                f"steps.{index}.dataset",
                step.dataset,
                algorithm.records,
            )
        )
    for criterion, judge in recipe.evaluate.judges.items():
        if judge.dataset is not None and not isinstance(judge.dataset, SampledSpec):
            uses.append(
                ("a reward model learns from pairs", f"evaluate.judges.{criterion}.dataset", judge.dataset, ("pairs",))
            )
    for what, where, dataset, kinds in uses:
        given = {name: kind for name in names_of(dataset) if (kind := recipe.data[name].holds)}
        wrong = next((name for name, kind in given.items() if kind not in kinds), None)
        if wrong is not None:
            raise RecipeError(
                what,
                where=where,
                value=f"{wrong} (holds {given[wrong]})",
                allowed=[name for name, spec in recipe.data.items() if spec.holds in kinds] or "none is defined",
                do=f"name such a data source, or give this one 'as: {kinds[0]}' where its format allows it",
            )
        heldout = next((name for name in names_of(dataset) if recipe.data[name].holdout == 1), None)
        if heldout is not None:
            raise RecipeError(
                "every prompt of this data source is held out, so nothing is left to train on",
                where=f"data.{heldout}.holdout",
                value=1,
                do=f"lower it, or name another data source in {where}",
            )
        if len(set(given.values())) > 1:
            raise RecipeError(
                "one training mixes data sources of several kinds",
                where=where,
                value=", ".join(f"{name} (holds {kind})" for name, kind in given.items()),
                do="give them the same kind with 'as'",
            )
