"""What a recipe's author should know although nothing is wrong: what has no effect, is published, is not checked."""

from __future__ import annotations

import os

from sacpo.recipe.models import BaseModelNode, StepModel, model_graph
from sacpo.recipe.references import dataset_references
from sacpo.recipe.schema import FIDELITY_SAMPLES, SFT, Recipe, TokenizerSpec


def notices(recipe: Recipe) -> list[str]:
    """Return what is valid in a recipe and probably not meant."""
    found = []
    if recipe.constraints and recipe.objective is None:
        found.append("constraints without an objective choose nothing: add one, which the chosen model maximises")
    named = {name for _, name in dataset_references(recipe)}
    named |= {name for step in recipe.steps if step.resample is not None for name in step.resample.learned_from}
    for name, spec in recipe.data.items():
        if name not in named and not spec.holdout:
            found.append(f"nothing names the data source '{name}': it is read, and no model learns from it")
    if recipe.world is not None and not _uses_world(recipe):
        found.append("no part of the recipe uses the 'world'")
    if not recipe.prompts and (recipe.evaluate.judges or recipe.evaluate.models):
        found.append("without 'prompts' nothing is evaluated: judges only label the pairs that steps sample")
    if recipe.evaluate.generation.engine == "vllm" and recipe.evaluate.generation.batch_size != 16:
        found.append("vLLM fills its batches itself: evaluate.generation.batch_size has no effect")
    return found + _not_by_vllm(recipe) + _fidelity_costs(recipe) + recipe.published()


def _not_by_vllm(recipe: Recipe) -> list[str]:
    """Return whose answers do not come from vLLM although it is asked for."""
    if recipe.evaluate.generation.engine != "vllm":
        return []
    found = []
    if mixed := [spec.name for spec in recipe.merge if spec.method == "token-level"]:
        found.append(f"vLLM mixes no logits: {', '.join(mixed)} answers with transformers")
    if adapted := _adapted(recipe):
        found.append(f"adapters answer on the base that stays loaded, not by vLLM: {', '.join(adapted)}")
    return found


def _adapted(recipe: Recipe) -> list[str]:
    """Return what is adapters on a base: trainings with plain LoRA, and merges of such on one base."""
    bases: dict[str, str] = {}  # by a model's name and by its step's: the model whose weights it has below its adapters
    adapted: dict[str, None] = {}
    for name, node in model_graph(recipe).items():
        if isinstance(node, BaseModelNode):
            lora, start, title = recipe.sft.lora if recipe.sft is not None else None, "", SFT
        elif isinstance(node, StepModel):
            lora, start, title = node.step.lora, bases[node.start], node.step.name
        else:
            continue
        plain = lora is not None and lora.plain  # anything else is written with weights of its own
        if plain:
            adapted[title] = None
            adapted[name] = None
        bases[name] = bases[title] = start if plain else name
    names = [SFT, *(step.name for step in recipe.steps)]
    merges = [
        spec.name
        for spec in recipe.merge
        if spec.method != "token-level"
        and any(name in adapted for name in spec.models)
        and len({bases[name] for name in (*spec.models, *([SFT] * (spec.method == "task-vectors")))}) == 1
    ]
    return [*(name for name in names if name in adapted), *merges]


def unchecked(recipe: Recipe) -> list[str]:
    """Return what a look at the recipe alone cannot tell; a run looks at it before its first stage."""
    found = []
    paths = [path for spec in (*recipe.data.values(), *recipe.prompts.values()) for path in spec.paths]
    absent = [path for path in dict.fromkeys(paths) if not os.path.exists(os.path.expanduser(path))]  # noqa: PTH110, PTH111 - any text
    if absent:
        found.append("data, which is not here as files: " + ", ".join(recipe.hidden(absent)))
    labels = recipe.certify.labels if recipe.certify is not None else None
    judges = [*recipe.evaluate.judges.values(), *(labels.judges.values() if labels is not None else ())]
    models = [recipe.base.model, *(judge.model for judge in judges)]
    if any(models):
        found.append("models: " + ", ".join(dict.fromkeys(filter(None, recipe.hidden(models)))))
    asked = [judge for spec in recipe.evaluate.judges.values() for judge in spec.judges]
    if asked:
        places = dict.fromkeys(f"{judge.title} at {judge.base_url or 'OpenAI'}" for judge in asked)
        found.append("keys and endpoints: " + ", ".join(recipe.hidden([*places])))
    return found


def _fidelity_costs(recipe: Recipe) -> list[str]:
    """Return what measuring the fidelity of merges costs; merges of the same models share the samples."""
    merges = [spec for spec in recipe.merge if spec.fidelity]
    sets = [name for name, spec in recipe.prompts.items() if spec.role == "report"]
    drawn = {
        models: len(models) * FIDELITY_SAMPLES * recipe.evaluate.kl_prompts for models in (s.models for s in merges)
    }
    if not merges or not sets:
        return []
    return [
        f"the fidelity of {', '.join(spec.name for spec in merges)} takes up to {sum(drawn.values()) * len(sets):,} "
        f"answers more ({FIDELITY_SAMPLES} of each model in a merge to each prompt); they and the merged models' own "
        "samples are scored under all models in the merge"
    ]


def _uses_world(recipe: Recipe) -> bool:
    tokenizer = recipe.base.tokenizer
    return (
        any(spec.format == "world" for spec in (*recipe.data.values(), *recipe.prompts.values()))
        or any(judge.kind == "oracle" for judge in recipe.evaluate.judges.values())
        or (isinstance(tokenizer, TokenizerSpec) and tokenizer.kind == "world")
    )
