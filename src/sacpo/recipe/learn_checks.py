"""Checks of resampling: each summed score has a judge, or pairs that it can be learned from when its turn comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sacpo.errors import RecipeError
from sacpo.recipe.explain import did_you_mean
from sacpo.recipe.judge_checks import check_scores
from sacpo.recipe.kept_weights import holds_out
from sacpo.recipe.models import MergedModel, Node, StepModel
from sacpo.recipe.resample import POLICY
from sacpo.recipe.schema import SFT, Recipe, StepSpec


def check_resampled(recipe: Recipe, step: StepSpec, index: int, nodes: Mapping[str, Node]) -> None:
    """Refuse scores that nobody gives and that cannot be learned.

    Raises:
        RecipeError: A criterion has no judge that scores; or pairs are named that are not there, not yet, or no pairs.
    """
    spec, where = step.resample, f"steps.{index}.resample"
    assert spec is not None
    if spec.draw == "best" and step.swept:
        raise RecipeError(
            "the best answers are kept whatever beta is: a sweep would train one model several times",
            where=f"steps.{index}.beta",
            value=list(step.betas),
            do="give one beta, or another 'draw'",
        )
    for criterion in spec.weights:
        if criterion in spec.implicit:
            _check_implicit(recipe, nodes, step, spec.implicit[criterion], f"{where}.implicit.{criterion}")
        elif criterion not in spec.learned:
            check_scores(recipe, criterion, f"{where}.judge")
        if criterion in spec.label:
            for judge in spec.label[criterion].weights:
                check_scores(recipe, judge, f"{where}.label.{criterion}.judge")
        _check_sources(recipe, nodes, step, spec.sources(criterion), f"{where}.learn.{criterion}")
        if criterion in spec.scale:
            _check_scale(recipe, nodes, step, criterion, f"{where}.scale.{criterion}")
    for name in spec.sample_from:
        _check_proposal(nodes, step, name, f"{where}.sample_from")
    asked = [name for name in spec.judged if recipe.evaluate.judges[name].kind == "llm"]
    if (spec.learned or spec.implicit or spec.scale or asked) and step.beta == "auto":
        found = "are learned from pairs" if not spec.scale else "are put to scale on pairs"
        if asked:
            found = f"come from language models, which may leave some out ({asked[0]})"
        raise RecipeError(
            f"a strength is found by judges' scores of samples, and these scores {found}",
            where=f"steps.{index}.beta",
            value="auto",
            do="give 'beta' as a number or as a list, or name judges that score every answer",
        )


def check_turns(recipe: Recipe, nodes: Mapping[str, Node]) -> None:
    """Refuse steps that wait for each other: for models to start from, to sample, or to learn scores from.

    Raises:
        RecipeError: None of some steps could be trained first.
    """
    waits: dict[str, set[str]] = {step.name: set() for step in recipe.steps}
    for node in nodes.values():
        if isinstance(node, StepModel):
            spec = node.step.resample
            named = [nodes[name] for name in (spec.waits_for if spec else ()) if name in nodes]
            named += [nodes[end] for one in named if isinstance(one, MergedModel) for end in one.models]
            before = {one.step.name for one in (nodes[node.parent], *named) if isinstance(one, StepModel)}
            waits[node.step.name] |= before - {node.step.name}
    while ready := [name for name, others in waits.items() if not others & waits.keys()]:
        waits = {name: others for name, others in waits.items() if name not in ready}
    if waits:
        index = next(i for i, step in enumerate(recipe.steps) if step.name in waits)
        raise RecipeError(
            "steps wait for each other, so none of them can be trained first",
            where=f"steps.{index}",
            value=", ".join(waits),
            do="take one of them out of another's 'from', 'sample_from' or 'learn'",
        )


def _check_proposal(nodes: Mapping[str, Node], step: StepSpec, name: str, where: str) -> None:
    if name in (SFT, POLICY):
        return
    steps = _trained_before(nodes, step)
    ends = {SFT, *steps}
    merges = [other for other, one in nodes.items() if isinstance(one, MergedModel) and ends.issuperset(one.models)]
    if name not in (*steps, *merges):
        raise RecipeError(
            "samples come from the SFT model, from steps that are trained before, and from merges of these",
            where=where,
            value=name,
            allowed=[SFT, *steps, *merges],
            do=did_you_mean(name, [*steps, *merges], "name 'sft' or such a model, at a given strength"),
        )


def _check_implicit(recipe: Recipe, nodes: Mapping[str, Node], step: StepSpec, name: str, where: str) -> None:
    steps = _trained_before(nodes, step)
    node = nodes.get(name)
    if not isinstance(node, StepModel) or name not in steps:
        raise RecipeError(
            "an implicit reward is that of a step which is trained before",
            where=where,
            value=name,
            allowed=steps,
            do=did_you_mean(name, steps, "name such a step, at a given strength"),
        )
    if said := _implies_otherwise(node):
        raise RecipeError(
            said,
            where=where,
            value=name,
            do="name another step, or learn the score from pairs ('learn')",
        )
    assert step.resample is not None
    if step.resample.calibrate and not (_has_pairs(recipe, node) and holds_out(recipe, node.step.dataset)):
        raise RecipeError(
            "an implicit reward is calibrated on held-out pairs of its step, and this one has none",
            where=where,
            value=name,
            do="hold out pairs ('holdout' of the step's data source, or of its prompts), or give 'calibrate: false'",
        )


def _check_scale(recipe: Recipe, nodes: Mapping[str, Node], step: StepSpec, criterion: str, where: str) -> None:
    assert step.resample is not None
    if recipe.evaluate.judges[criterion].kind == "llm":
        raise RecipeError(
            "language models' ratings of held-out pairs would have to be paid for: their unit is the rubric's scale",
            where=where,
            value=criterion,
            do="leave it out, and choose the weight in 'judge' for that scale",
        )
    names = step.resample.named(step.resample.scale, criterion)
    _check_sources(recipe, nodes, step, names, where)
    datasets = [name if name in recipe.data else _step_of(nodes, name).dataset for name in names]
    if not any(holds_out(recipe, dataset) for dataset in datasets):
        raise RecipeError(
            "a score is put to scale on held-out pairs, and these have none",
            where=where,
            value=", ".join(names),
            do="hold out pairs ('holdout' of the data source, or of the step's prompts), or leave it out",
        )


def _step_of(nodes: Mapping[str, Node], name: str) -> StepSpec:
    node = nodes[name]
    assert isinstance(node, StepModel)
    return node.step


def _implies_otherwise(node: StepModel) -> str | None:
    """Return why a step's model does not imply beta log pi/pi_ref as a reward; None: it does."""
    resample = node.step.resample
    if node.step.algorithm == "chipo":
        return "chi-PO's implicit reward is not beta log pi/pi_ref"
    if node.step.algorithm == "ipo":
        return "IPO's log-ratios are means over tokens, so its reward is not beta log pi/pi_ref of whole answers"
    if resample is not None and resample.draw == "best":
        return "best of n has no strength, so its model implies no reward beta log pi/pi_ref"
    if resample is not None and node.parent != SFT:
        return "RWR's implicit reward is beta log pi/pi_sft, and this step does not start from the SFT model"
    return None


def _trained_before(nodes: Mapping[str, Node], step: StepSpec) -> list[str]:
    """Return the models of steps at given strengths that do not come from this step."""
    return [
        name
        for name, one in nodes.items()
        if isinstance(one, StepModel) and one.beta and step.name not in {one.step.name, *_origins(nodes, one)}
    ]


def _check_sources(recipe: Recipe, nodes: Mapping[str, Node], step: StepSpec, names: Sequence[str], where: str) -> None:
    for place, name in enumerate(names):
        _check_source(recipe, nodes, step, name, where)
        if name in names[:place]:
            raise RecipeError(
                "pairs are named twice, and each would count twice", where=where, value=name, do="remove one of them"
            )


def _check_source(recipe: Recipe, nodes: Mapping[str, Node], step: StepSpec, name: str, where: str) -> None:
    if name in recipe.data:
        if recipe.data[name].holds not in ("pairs", None):
            raise RecipeError(
                "a score is learned from pairs",
                where=where,
                value=f"{name} (holds {recipe.data[name].holds})",
                allowed=[other for other, spec in recipe.data.items() if spec.holds == "pairs"],
                do="name a data source of pairs, or a step that learns from some",
            )
        return
    node = nodes.get(name)
    learning = [
        other for other, one in nodes.items() if isinstance(one, StepModel) and one.beta and _has_pairs(recipe, one)
    ]
    if not isinstance(node, StepModel) or name not in learning:
        raise RecipeError(
            "no such step or data source of pairs to learn a score from",
            where=where,
            value=name,
            allowed=[*learning, *(other for other, spec in recipe.data.items() if spec.holds == "pairs")],
            do=did_you_mean(name, learning, "name a step that learns from pairs, at a given strength"),
        )
    if step.name in {node.step.name, *_origins(nodes, node)}:
        raise RecipeError(
            "a score cannot be learned from pairs of a step that starts from this one",
            where=where,
            value=name,
            do="name a step that is trained before",
        )


def _has_pairs(recipe: Recipe, node: StepModel) -> bool:
    dataset = node.step.dataset
    if node.step.resample is not None:
        return False
    names = (dataset,) if isinstance(dataset, str) else dataset
    return not isinstance(names, tuple) or all(recipe.data[name].holds in ("pairs", None) for name in names)


def _origins(nodes: Mapping[str, Node], node: StepModel) -> list[str]:
    """Return the names of the steps that a model comes from."""
    found = []
    parent = nodes[node.parent]
    while isinstance(parent, StepModel):
        found.append(parent.step.name)
        parent = nodes[parent.parent]
    return found
