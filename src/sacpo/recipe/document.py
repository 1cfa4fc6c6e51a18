"""The recipe's schema as a Markdown page: one table a section, each key with its values, default and meaning."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sacpo.recipe.schema import PromptsSpec, Recipe, SourceSpec, TrainingSpec
from sacpo.recipe.schema.training import ADDED
from sacpo.recipe.section import Section

INTRODUCTION = """\
# The recipe

One YAML file is one experiment. This page lists every key. `sacpo validate RECIPE` checks a file without doing
anything, `sacpo schema recipe` prints the JSON schema for an editor, and `--set KEY.PATH=VALUE` changes one value on
the command line. Unknown keys are refused, and so are keys that have no effect where they stand. `${NAME}` in a text
is the value of the environment variable NAME; what a run writes and publishes (its recipe.yaml, manifests, results and
report) keeps the name. Numbers may be written as `1e-4`.

This page is written by `python scripts/write_docs.py` from the schema; do not edit it by hand.

| section | what it says |
|---|---|
"""

MEANINGS = {
    "Recipe.name": "the run's folder is `runs/NAME`",
    "Recipe.seed": "root of every random number",
    "Recipe.world": "the synthetic preference world, where one is used",
    "Recipe.base": "the model and tokenizer to start from",
    "Recipe.data": "data sources by name",
    "Recipe.sft": "supervised fine-tuning; its model is called `sft` (without this section, `sft` is the base)",
    "Recipe.steps": "alignment steps",
    "Recipe.merge": "merged models",
    "Recipe.prompts": "sets of evaluation prompts by name",
    "Recipe.evaluate": "generation, judges and the baseline",
    "Recipe.constraints": "bounds that the selected model must meet",
    "Recipe.objective": "what the selected model maximises under them; without it nothing is selected",
    "Recipe.theory": "estimates of the optimum, where true rewards are known",
    "Recipe.report": "what the report shows",
    "TokenizerSpec.kind": "`world`: one token a word of the world; `bpe`: trained on data sources",
    "BaseSpec.revision": "hub revision of the model",
    "BaseSpec.dtype": "number type of the weights; `auto`: the checkpoint's own, and float32 where all are trained",
    "BaseSpec.attn_implementation": "as in transformers; without it, transformers chooses",
    "BaseSpec.trust_remote_code": "run code that comes with the model",
    "SourceSpec.format": "how rows are read: see [data.md](data.md)",
    "PromptsSpec.role": "`tuning` sets select, `report` sets are the headlines",
    "LoraSpec.r": "rank",
    "LoraSpec.lora_alpha": "scale: the change is multiplied by `lora_alpha / r`",
    "LoraSpec.lora_dropout": "dropout in front of the adapter",
    "LoraSpec.target_modules": "names of modules; without it, peft's choice for the architecture",
    "LoraSpec.use_rslora": "multiply by `lora_alpha / sqrt(r)` instead",
    "LoraSpec.use_dora": "learn the weights' magnitudes apart from their directions; the model is written merged",
    "LoraSpec.bias": "which biases are trained too; other than `none`: the model is written merged",
    "LoraSpec.modules_to_save": "modules that are trained whole, such as `lm_head`; the model is written merged",
    "QuantizationSpec.bits": "bits of a weight",
    "SftSpec.dataset": "a data source, or several, of demonstrations",
    "PairLabels.score_scale": "factor of the score difference in the sigmoid",
    "PairLabels.temperature": "sampling temperature",
    "PairLabels.max_new_tokens": "longest answer, in tokens",
    "StepSpec.name": "the model's name; a sweep's models are `NAME@VALUE`",
    "StepSpec.criterion": "what the preferences are about",
    "StepSpec.dataset": "a data source, or several, or pairs sampled from models",
    "StepSpec.beta": "strength; a list is a sweep; `auto` is found in the run",
    "MergeSpec.name": "the models' name; with a list of q they are `NAME@qVALUE`",
    "MergeSpec.method": "see above",
    "MergeSpec.models": "the earlier and the later model, or more models",
    "MergeSpec.q": "weight of the later model; a list is a sweep; `auto` is found in the run",
    "GenerationSpec.engine": "what generates, answers that steps learn from, too; `auto` takes vLLM where it is "
    "installed and the device is a CUDA GPU",
    "GenerationSpec.max_new_tokens": "longest answer, in tokens",
    "GenerationSpec.do_sample": "sample instead of taking the most probable token",
    "GenerationSpec.temperature": "with do_sample: sampling temperature",
    "GenerationSpec.top_p": "with do_sample: sample from the most probable tokens that hold this much probability",
    "GenerationSpec.batch_size": "prompts a batch",
    "JudgeSpec.kind": "see above",
    "JudgeSpec.model": "reward-model: hub id or folder",
    "JudgeSpec.revision": "reward-model: hub revision",
    "JudgeSpec.dataset": "reward-model: data sources of pairs to train one on, or pairs sampled from the SFT model",
    "JudgeSpec.batch_size": "answers a forward pass",
    "EvaluateSpec.baseline": "the model that win rates are against",
    "EvaluateSpec.generation": "how answers are decoded",
    "ConstraintSpec.metric": "what is bounded",
    "ConstraintSpec.prompts": "a prompt set of role `tuning`",
    "ConstraintSpec.at_most": "upper bound",
    "ConstraintSpec.at_least": "lower bound",
    "ObjectiveSpec.metric": "what is maximised",
    "ObjectiveSpec.criterion": "the judge",
    "ObjectiveSpec.prompts": "a prompt set of role `tuning`",
    "WorldSpec.seed": "root of the world's random numbers",
    "WorldSpec.restricted": "tasks that should be refused",
    "WorldSpec.borderline": "tasks that only sound risky",
    "TheorySpec.max_prompts": "at most this many prompts of the set",
    "TheorySpec.reward": "criterion of the reward r*",
    "TheorySpec.safety": "criterion of the safety g*",
    "ReportSpec.title": "the page's title; the recipe's name by default",
}
"""Meanings of keys that the schema leaves to their names."""

SHARED = {
    "max_length": "tokens of prompt and completion together",
    "training": "options for this training, over the recipe's own `training`",
    "lora": "train an adapter instead of all weights",
}

BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "any value"}


def recipe_document(training: Mapping[str, object]) -> str:
    """Return the page.

    Args:
        training: Defaults of the training options, which are not the recipe's to know.
    """
    sections = list(_sections(Recipe))
    overview = [_row(f"`{key}`", _meaning(Recipe, key, field)) for key, field in Recipe.model_fields.items()]
    tables = [_table(section, training) for section in sections]
    return INTRODUCTION + "\n".join([*overview, "", *tables])


def section_keys(section: type[Section]) -> dict[str, FieldInfo]:
    """Return a section's keys as a recipe writes them."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _sections(section: type[Section]) -> Iterator[type[Section]]:
    """Yield a section and all that its keys lead to, each once, in the order of the keys."""
    found: dict[type[Section], None] = {}
    waiting = [section]
    while waiting:
        one = waiting.pop(0)
        if one in found:
            continue
        found[one] = None
        waiting += [part for field in one.model_fields.values() for part in _inside(field.annotation)]
    yield from found


def _inside(annotation: object) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in typing.get_args(annotation):
        if not isinstance(argument, str):
            yield from _inside(argument)


def _table(section: type[Section], training: Mapping[str, object]) -> str:
    rows = []
    for name, field in section.model_fields.items():
        if section is PromptsSpec and name in SourceSpec.model_fields:
            continue
        default = _default(field)
        if section is TrainingSpec:
            usual = "none" if name in ADDED else "transformers' own"
            default = f"`{json.dumps(training[name])}`" if name in training else usual
        value = _or(_words(field.annotation, tuple(field.metadata)))
        rows.append(_row(f"`{field.alias or name}`", value, default, _meaning(section, name, field)))
    about = " ".join((section.__doc__ or "").split())
    if section is PromptsSpec:
        about += " Beside these keys it has those of a data source's origin: `format` to `mix` of DataSpec."
    header = "| key | value | default | meaning |\n|---|---|---|---|"
    return "\n".join([f"## {section.__name__}", "", about, "", header, *rows, ""])


def _meaning(section: type[Section], name: str, field: FieldInfo) -> str:
    if field.description:
        return field.description
    if section is TrainingSpec:
        return "as in `transformers.TrainingArguments`"
    for owner in section.__mro__:
        if f"{owner.__name__}.{name}" in MEANINGS:
            return MEANINGS[f"{owner.__name__}.{name}"]
    return SHARED[name]


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "**required**"
    if isinstance(field.default, Section) or field.default in ({}, (), ""):
        return "–"
    if field.default is None:
        return "none"
    return f"`{json.dumps(field.default) if not isinstance(field.default, str) else field.default}`"


def _words(annotation: Any, metadata: tuple[Any, ...] = ()) -> list[str]:
    """Return what a value may be, in words; each is one alternative."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _words(arguments[0], tuple(_constraints(arguments[1:])))
    if origin is typing.Literal:
        return [", ".join(f"`{value}`" for value in arguments)]
    if origin in (typing.Union, types.UnionType):
        return [words for part in arguments if part is not type(None) for words in _words(part, metadata)]
    if origin in (tuple, list):
        items = _or(dict.fromkeys(words for part in arguments if part is not ... for words in _words(part)))
        return [f"list ({items})"]
    if origin is dict:
        return [f"mapping ({_or(_words(arguments[0]))}: {_or(_words(arguments[1]))})"]
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [f"[{annotation.__name__}](#{annotation.__name__.lower()})"]
    bounds = [
        f"{word} {getattr(item, name):g}" for item in metadata for name, word in BOUNDS.items() if hasattr(item, name)
    ]
    name = any(getattr(item, "pattern", None) for item in metadata)
    return [", ".join(["name" if name else PLAIN[annotation], *bounds])]


def _constraints(metadata: tuple[Any, ...]) -> Iterator[Any]:
    for item in metadata:
        yield from item.metadata if isinstance(item, FieldInfo) else (item,)


def _or(words: typing.Iterable[str]) -> str:
    return " or ".join(words)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
