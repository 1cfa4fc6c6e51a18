"""From a recipe to its stages: the only file that knows their order.

data -> base -> SFT -> steps -> answers -> verdicts -> measures -> selection -> theory -> report -> the chosen model
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sacpo.data.sources import source_key
from sacpo.judging.llm.specs import asked_of
from sacpo.models.loading import weights_key
from sacpo.pipeline import data_work, evaluation_work, report_work, theory_work, training_work
from sacpo.pipeline.stages import At, Stage
from sacpo.pipeline.study import Study
from sacpo.recipe.llm import AskingSpec
from sacpo.recipe.models import StepModel
from sacpo.recipe.schema import SFT, JudgeSpec, SampledSpec, SourceSpec
from sacpo.system import processes

SCORING = ("sign", "unsafe_below", "batch_size")
"""Options of a judge that its scores depend on, and its training does not."""
UNTRAINED = ("prompts", "rubric", *AskingSpec.model_fields, *SCORING)
"""Options of a judge that its training does not depend on."""


def stages_of(study: Study, command: str = "") -> list[Stage]:
    """Return every stage of a recipe, each after those that it reads.

    Args:
        study: The recipe.
        command: How the run was started, for the report.
    """
    return [
        *_data(study),
        *_base(study),
        *_judge_models(study),
        *(steps := [*_steps(study)]),
        *_evaluation(study),
        *_selection(study),
        *_theory(study),
        *_report(study, [stage.name for stage in steps], command),
    ]


def _data(study: Study) -> Iterator[Stage]:
    recipe = study.recipe
    for name, spec in recipe.data.items():
        config: dict[str, Any] = {"spec": _dump(spec), "seed": [study.seed("data", name), study.seed("holdout")]}
        work = partial(_without_at, partial(data_work.read_data, study, name, spec))
        yield Stage(f"data/{name}", work, config, sources=_source(study, spec))
    for name, prompts in recipe.prompts.items():
        config = {"spec": _dump(prompts), "seed": study.seed("prompts", name)}
        work = partial(_without_at, partial(data_work.read_prompts, study, name, prompts))
        yield Stage(f"prompts/{name}", work, config, sources=_source(study, prompts))
    if recipe.prompts:
        inputs = (*(f"data/{name}" for name in recipe.data), *(f"prompts/{name}" for name in recipe.prompts))
        roles = {name: spec.role for name, spec in recipe.prompts.items()}
        config = {"allow": recipe.allow_shared_prompts, "roles": roles}
        yield Stage(
            "overlap", partial(data_work.check_overlap, study, [*recipe.data], [*recipe.prompts]), config, inputs
        )


def _base(study: Study) -> Iterator[Stage]:
    base, sft = study.recipe.base, study.recipe.sft
    if base.config is not None:
        tokenizer = base.tokenizer
        names = () if tokenizer is None or isinstance(tokenizer, str) else tokenizer.datasets
        sources = {"world": study.world.key} if study.recipe.world is not None else {}
        sources |= {"tokenizer": weights_key(tokenizer)} if isinstance(tokenizer, str) else {}
        config = {"base": _dump(base), "seed": study.seed("base")}
        yield Stage("base", partial(training_work.build_base, study), config, _data_stages(names), sources)
    if sft is not None:
        names = _names(sft.dataset)
        config = {**_trained(study, sft), "seed": study.seed(SFT)}
        inputs = (*study.base_stages, *_data_stages(names))
        work = partial(training_work.fine_tune, study, names)
        yield Stage(SFT, work, config, inputs, study.external, shared=True)


def _judge_models(study: Study) -> Iterator[Stage]:
    for criterion, spec in study.recipe.evaluate.judges.items():
        if spec.dataset is None:
            continue
        names = _names(spec.dataset)
        config = {**_trained(study, spec, leave_out=UNTRAINED), "seed": study.seed("judge", criterion)}
        inputs = (*study.made_by(SFT), *_data_stages(names))
        work = partial(training_work.train_judge, study, criterion, spec, names)
        yield Stage(f"judge-model/{criterion}", work, config, inputs, study.external, shared=True)


def _steps(study: Study) -> Iterator[Stage]:
    sampled: dict[str, str] = {}
    for name, node in study.nodes.items():
        if not isinstance(node, StepModel):
            continue
        if isinstance(node.step.dataset, SampledSpec):
            pairs = _pairs(study, node, node.step.dataset)
            identity = repr((pairs.config, pairs.inputs))
            if identity not in sampled:
                sampled[identity] = pairs.name
                yield pairs
            records: tuple[str, ...] = (sampled[identity],)
        else:
            records = _data_stages(_names(node.step.dataset))
        config = {
            **_trained(study, node.step, leave_out=("name", "dataset", "beta", "from_")),
            "beta": node.beta,
            "seed": study.seed("align", node.step.name),
        }
        inputs = (*study.made_by(node.parent), *records)
        work = partial(training_work.align_model, study, node, records)
        yield Stage(f"align/{name}", work, config, inputs, study.external, shared=True)
    heldout = [name for name, spec in study.recipe.data.items() if spec.holdout > 0]
    trained = [SFT, *(name for name, node in study.nodes.items() if isinstance(node, StepModel))]
    if heldout and len(trained) > 1:
        for name in trained:
            inputs = (*study.made_by(name), *_data_stages(heldout))
            first = study.recipe.steps[0]
            config = {"max_length": first.max_length, "too_long": first.too_long, "base": _dump(study.recipe.base)}
            work = partial(training_work.score_heldout, study, name, heldout)
            yield Stage(f"heldout/{name}", work, config, inputs, study.external)


def _pairs(study: Study, node: StepModel, spec: SampledSpec) -> Stage:
    """Return the stage that samples a step's pairs; steps that sample the same pairs share it."""
    sources = {"sft": SFT, "reference": node.parent}
    used = [sources[source] for source, share in spec.sample_from.items() if share]
    name = f"pairs/{node.step.name}" if used == [SFT] else f"pairs/{node.parent}+{node.step.name}"
    judge = study.recipe.evaluate.judges[spec.judge]
    seed_name = f"pairs of {spec.judge}"
    config = {
        "spec": _dump(spec),
        "judge": _scoring(judge),
        "seed": study.seed(seed_name),
        "base": _dump(study.recipe.base),
    }
    inputs = (
        f"data/{spec.prompts}",
        *dict.fromkeys(stage for model in (*used, SFT) for stage in study.made_by(model)),
        *_judge_stages(spec.judge, judge),
    )

    def work(out: Path, at: At) -> None:
        score = evaluation_work.make_score(study, spec.judge, at)
        training_work.sample_pairs(study, spec, sources, score, seed_name, out, at)

    return Stage(name, work, config, inputs, {**study.external, **_judge_source(study, spec.judge, judge)})


def _evaluation(study: Study) -> Iterator[Stage]:
    recipe = study.recipe
    kl_sets = kl_sets_of(study)
    for name in study.evaluated:
        made = study.made_by(name)
        for prompts in recipe.prompts:
            config = {
                "generation": _dump(recipe.evaluate.generation),
                "base": _dump(recipe.base),
                "seed": study.seed("generate", prompts),
                "model": [name, study.identity(name)],
            }
            inputs = (f"prompts/{prompts}", *dict.fromkeys((*made, *study.made_by(SFT))))
            work = partial(evaluation_work.generate, study, name, prompts)
            yield Stage(f"generate/{name}/{prompts}", work, config, inputs, study.external)
            if prompts in kl_sets:
                yield _kl(study, name, prompts)
    for name in study.evaluated:
        for prompts in recipe.prompts:
            yield _verdicts(study, name, prompts)
        parts = [f"{part}/{name}/{prompts}" for prompts in recipe.prompts for part in ("generate", "judge")]
        parts += [f"kl/{name}/{prompts}" for prompts in kl_sets]
        if parts:
            work = partial(evaluation_work.measure_model, study, name, kl_sets)
            yield Stage(f"measure/{name}", work, {}, tuple(parts))


def kl_sets_of(study: Study) -> list[str]:
    """Return the prompt sets on which KL is sampled: those reported, constrained or used by theory."""
    recipe = study.recipe
    if not recipe.evaluate.kl_prompts:
        return []
    wanted = {name for name, spec in recipe.prompts.items() if spec.role == "report"}
    wanted |= {constraint.prompts for constraint in recipe.constraints if constraint.metric == "kl"}
    if recipe.theory is not None:
        wanted.add(recipe.theory.prompts)
    return [name for name in recipe.prompts if name in wanted]


def _kl(study: Study, name: str, prompts: str) -> Stage:
    node, evaluate = study.nodes[name], study.recipe.evaluate
    reference = node.parent if isinstance(node, StepModel) else None
    models = [name, SFT, *([reference] if reference else [])]
    config = {
        "prompts": evaluate.kl_prompts,
        "max_new_tokens": evaluate.generation.max_new_tokens,
        "base": _dump(study.recipe.base),
        "seed": study.seed("kl", prompts),
        "model": [name, study.identity(name)],
    }
    inputs = (f"prompts/{prompts}", *dict.fromkeys(stage for model in models for stage in study.made_by(model)))
    work = partial(evaluation_work.sample_kl, study, name, reference, prompts)
    return Stage(f"kl/{name}/{prompts}", work, config, inputs, study.external)


def _verdicts(study: Study, name: str, prompts: str) -> Stage:
    judges = study.recipe.evaluate.judges
    criteria = evaluation_work.criteria_on(judges, prompts)
    answers = dict.fromkeys(f"generate/{model}/{prompts}" for model in (name, study.recipe.evaluate.baseline))
    inputs = (*answers, *(stage for criterion in criteria for stage in _judge_stages(criterion, judges[criterion])))
    sources: dict[str, str] = {}
    for criterion in criteria:
        sources |= _judge_source(study, criterion, judges[criterion])
    config = {
        "judges": {criterion: _scoring(judges[criterion]) for criterion in criteria},
        "base": _dump(study.recipe.base),
    }
    work = partial(evaluation_work.judge, study, name, prompts, criteria)
    return Stage(f"judge/{name}/{prompts}", work, config, inputs, sources)


def _selection(study: Study) -> Iterator[Stage]:
    recipe = study.recipe
    if recipe.objective is None:
        return
    names = study.evaluated
    config = {
        "constraints": [_dump(constraint) for constraint in recipe.constraints],
        "objective": _dump(recipe.objective),
        "roles": {name: spec.role for name, spec in recipe.prompts.items()},
    }
    inputs = tuple(f"measure/{name}" for name in names)
    yield Stage("select", partial(evaluation_work.select, study, names), config, inputs)


def _theory(study: Study) -> Iterator[Stage]:
    spec = study.recipe.theory
    if spec is None:
        return
    config = {"theory": _dump(spec), "seed": study.seed("theory"), "models": study.evaluated}
    inputs = (
        f"prompts/{spec.prompts}",
        *study.made_by(SFT),
        *(f"kl/{name}/{spec.prompts}" for name in study.evaluated),
    )
    sources = {**study.external, "world": study.world.key}
    yield Stage("theory", partial(theory_work.theory, study), config, inputs, sources)


def _report(study: Study, steps: Sequence[str], command: str) -> Iterator[Stage]:
    recipe = study.recipe
    if not recipe.prompts:
        return
    kl_sets = kl_sets_of(study)
    inputs = [f"data/{name}" for name in recipe.data] + [f"prompts/{name}" for name in recipe.prompts]
    inputs += ["overlap"]
    made = dict.fromkeys(stage for name in study.nodes for stage in study.made_by(name))
    inputs += [stage for stage in made if stage == SFT or stage.startswith("align/")]
    for name in study.evaluated:
        inputs += [f"measure/{name}", *(f"kl/{name}/{prompts}" for prompts in kl_sets)]
        inputs += [f"{part}/{name}/{prompts}" for prompts in recipe.prompts for part in ("generate", "judge")]
    heldout = [name for name in steps if name.startswith("heldout/")]
    pairs = [name for name in steps if name.startswith("pairs/")]
    inputs += [*heldout, *pairs, *(["select"] if recipe.objective else []), *(["theory"] if recipe.theory else [])]
    config = {"recipe": _dump(recipe), "command": command}
    work = partial(report_work.report, study, command, pairs, heldout, kl_sets)
    yield Stage("report", work, config, tuple(dict.fromkeys(inputs)))
    if recipe.objective is not None:
        ends = (*dict.fromkeys((*made, *study.made_by(SFT))),)
        yield Stage("chosen", partial(report_work.chosen, study), {}, ("report", "select", *ends), study.external)


def _scoring(spec: JudgeSpec) -> dict[str, Any]:
    """Return what a judge's scores depend on beside its model; of language models also who is asked, and how often."""
    if spec.kind == "llm":
        panel = [{**asked_of(judge), "name": judge.name} for judge in spec.judges]
        return {"kind": spec.kind, "panel": panel, "orders": spec.orders, "repeats": spec.repeats}
    return {key: value for key, value in _dump(spec).items() if key in ("kind", "max_length", *SCORING)}


def _trained(study: Study, spec: Any, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "spec": {key: value for key, value in _dump(spec).items() if key not in ("training", *leave_out)},
        "training": study.training(spec.training),
        "base": _dump(study.recipe.base),
        **processes.part_of_key(),
    }


def _source(study: Study, spec: SourceSpec) -> dict[str, str]:
    return {"world": study.world.key} if spec.format == "world" else {"files": source_key(spec)}


def _judge_stages(criterion: str, spec: JudgeSpec) -> tuple[str, ...]:
    return (f"judge-model/{criterion}",) if spec.dataset is not None else ()


def _judge_source(study: Study, criterion: str, spec: JudgeSpec) -> dict[str, str]:
    if spec.kind == "oracle":
        return {"world": study.world.key}
    if spec.kind == "llm":
        return {f"rubric {criterion}": study.rubrics[criterion].key}
    if spec.model is not None:
        return {f"judge {criterion}": study.judge_models[criterion]}
    return {}


def _data_stages(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"data/{name}" for name in names)


def _names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _dump(spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = spec.model_dump(mode="json")
    return found


def _without_at(work: Any, out: Path, at: At) -> None:
    work(out)
