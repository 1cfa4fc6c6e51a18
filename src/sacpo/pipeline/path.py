"""The path between merged models: the search for q (`q: auto`), and how far merges are from what they stand for.

The search merges, answers, judges, measures on tuning prompts, and halves what is left.

Everything that a tried q needs is an ordinary stage, named after the model as in any run. So answers are used again by
the evaluation, a killed search goes on to the same result, and a dry run tells how far results are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sacpo.pipeline.stages.fidelity import EndSamples, MergeFidelity
from sacpo.pipeline.stages.path import FoundPath, Tried, point_of
from sacpo.recipe.auto_merges import auto_merges, ends_of, merged_name, settled
from sacpo.recipe.models import MergedModel
from sacpo.recipe.schema import FIDELITY_SAMPLES, ConstraintSpec, PathSpec
from sacpo.select.path import next_q

if TYPE_CHECKING:
    from sacpo.pipeline.order import Order


def find_paths(run: Order) -> dict[str, FoundPath]:
    """Find q for every merge that leaves it to the run, and settle the recipe with the q that were tried.

    Args:
        run: The run; all steps are trained.
    """
    return {run.recipe.merge[index].name: _find(run, index) for index in auto_merges(run.recipe)}


def _find(run: Order, index: int) -> FoundPath:
    before, spec = run.recipe, run.recipe.merge[index]
    search = spec.search or PathSpec()
    ends = ends_of(before, index)
    stages = {q: _tried(run, spec.name, model, search) for q, model in zip((0.0, 1.0), ends, strict=True)}
    while True:
        between = [q for q in stages if 0 < q < 1]
        left = search.evaluations - len(between)
        with run.do.following(f"up to {left} q of {spec.name} are measured, then everything behind it"):
            points = [point_of(q, run.do.read(stage)) for q, stage in stages.items()]
        q = next_q(points, search.evaluations, search.tolerance)
        if q is None:
            break
        run.settle(settled(before, index, (*between, q)))
        run.name_merges()
        stages[q] = _tried(run, spec.name, merged_name(before, index, q), search)
    run.settle(settled(before, index, between))
    return run.do(FoundPath(spec.name, spec.method, ends, search, tuple(stages.items())))


def measure_fidelity(run: Order, name: str, prompts: str) -> None:
    """Measure how far a merged model is from the mixture that it stands for, where its merge asks for that.

    Args:
        run: The run; the model's own samples are there.
        name: The model.
        prompts: The prompt set.
    """
    node = run.nodes[name]
    if not isinstance(node, MergedModel) or not node.spec.fidelity:
        return
    own = run.kl[name][prompts]
    scored = {key: model for key, model in own.others.items() if key != "sft"}
    ends = []
    for end in node.models:
        options = {**run.kl_options(end, prompts), "others": scored, "seed": run.seed("path", end, prompts)}
        stage = EndSamples(end, run.models[end], **options, samples=FIDELITY_SAMPLES, line=node.line)
        unnamed = replace(stage, line="").key
        same = [other for other in run.end_samples if replace(other, line="").key == unnamed]
        if not same:
            run.end_samples.append(run.do(stage))
        ends.append(same[0] if same else stage)
    found = run.do(MergeFidelity(name, node.weights, own, tuple(ends)))
    run.fidelity.setdefault(name, {})[prompts] = found


def _tried(run: Order, line: str, name: str, search: PathSpec) -> Tried:
    constraints = run.recipe.constraints
    asked = measured_on(run, name, constraints)
    kl = {one: run.kl[name][one] for one in asked["answers"] if one in run.kl.get(name, {})}
    return run.do(Tried(title=name, constraints=constraints, **asked, kl=kl, unit=search.unit, line=line))


def measured_on(run: Order, name: str, constraints: Sequence[ConstraintSpec]) -> dict[str, Any]:
    """Let a model answer the constraints' tuning prompts, and judge the answers; return both by prompt set."""
    prompts = list(dict.fromkeys(constraint.prompts for constraint in constraints))
    for one in prompts:
        for model in dict.fromkeys((run.recipe.evaluate.baseline, name)):
            run.answer(model, one)
        run.judge_answers(name, one)
    answers, verdicts = run.answers[name], run.verdicts[name]
    return {"answers": {one: answers[one] for one in prompts}, "verdicts": {one: verdicts[one] for one in prompts}}
