"""A plan in numbers: optimiser steps, tokens, memory and disk of every training, as far as they can be known."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sacpo.align.defaults import optimiser_steps, with_defaults
from sacpo.data.prepare import prepare
from sacpo.data.report import data_report
from sacpo.data.sources import read_source
from sacpo.errors import DataError
from sacpo.pipeline.data_work import report_of
from sacpo.pipeline.stages import Status
from sacpo.pipeline.study import Study
from sacpo.recipe.models import StepModel
from sacpo.recipe.schema import SFT, DataSpec, SampledSpec
from sacpo.system.runs import RunFolder

TOKENS_A_WORD = 1.4
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
NAMED_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bm])(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class Training:
    """One training of the plan; None where something is only known once the data or the model was read.

    Attributes:
        model: Its name.
        stage: Its stage.
        state: "done", "resumed" or "open".
        records: Pairs, completions or demonstrations.
        steps: Optimiser steps.
        tokens: Tokens of all epochs, estimated from words where the text was not tokenised.
        memory: Peak bytes of weights, gradients and optimiser; activations come on top.
        disk: Bytes of the finished model.
    """

    model: str
    stage: str
    state: str
    records: int | None
    steps: int | None
    tokens: int | None
    memory: int | None
    disk: int | None


@dataclass(frozen=True)
class Judging:
    """What one language model is to judge by one criterion; None where prompts are only known once they were read.

    Attributes:
        criterion, judge: Who judges by what.
        endpoint: Where; "" is OpenAI's.
        requests: At most so many, without repeated ones; answers that were judged before cost nothing.
    """

    criterion: str
    judge: str
    endpoint: str
    requests: int | None


@dataclass(frozen=True)
class Size:
    """How many records a source has and how many tokens one of them takes, as far as known."""

    records: int | None
    tokens: float | None


def trainings(study: Study, statuses: Sequence[Status], folder: RunFolder) -> list[Training]:
    """Return the trainings of a plan, in order."""
    states = {status.stage.name: status.state for status in statuses}
    sizes = _Sizes(study, states, folder)
    parameters = parameter_count(study)
    width = BYTES.get(study.recipe.base.dtype, 4 if study.recipe.base.config else 2)
    found = []
    for name, node in study.nodes.items():
        stage = study.made_by(name)[0] if study.made_by(name) else ""
        if isinstance(node, StepModel):
            spec: Any = node.step
            dataset = node.step.dataset
        elif name == SFT and study.recipe.sft is not None:
            spec, dataset = study.recipe.sft, study.recipe.sft.dataset
        else:
            continue
        size = sizes.of_dataset(dataset)
        if isinstance(node, StepModel) and node.step.algorithm == "kto" and size.records is not None:
            size = Size(2 * size.records, size.tokens and size.tokens / 2)
        options = study.training(spec.training)
        steps = None if size.records is None else optimiser_steps(max(size.records, 1), options)
        found.append(
            Training(
                model=name,
                stage=stage,
                state=states[stage],
                records=size.records,
                steps=steps,
                tokens=_tokens(size, options),
                memory=None if parameters is None else _memory(parameters, width, spec.lora is not None),
                disk=None if parameters is None else parameters * width,
            )
        )
    return found


def judgings(study: Study, statuses: Sequence[Status], folder: RunFolder) -> list[Judging]:
    """Return how many requests the plan's open stages send to language models that judge."""
    states = {status.stage.name: status.state for status in statuses}
    evaluate, found = study.recipe.evaluate, []
    for criterion, rubric in study.rubrics.items():
        spec = evaluate.judges[criterion]
        asked: int | None = 0
        for prompts in study.recipe.prompts if spec.prompts is None else spec.prompts:
            models = [name for name in study.evaluated if states[f"judge/{name}/{prompts}"] != "done"]
            models = [name for name in models if not rubric.pairwise or name != evaluate.baseline]
            n = _prompt_count(study, prompts, states, folder)
            asked = None if n is None or asked is None else asked + n * len(models)
        each = spec.repeats * (len(spec.orders) if rubric.pairwise else 1)
        requests = None if asked is None else asked * each
        found += [Judging(criterion, judge.title, judge.base_url, requests) for judge in spec.judges]
    return found


def _prompt_count(study: Study, name: str, states: dict[str, str], folder: RunFolder) -> int | None:
    if states[f"prompts/{name}"] == "done":
        n: int = report_of(folder.final(f"prompts/{name}"))["n"]
        return n
    spec = study.recipe.prompts[name]
    if spec.format == "world" or not all(Path(path).exists() for path in spec.paths):
        return spec.limit
    return len(read_source(spec, name=name, seed=study.seed("prompts", name), as_="prompts").records)


def parameter_count(study: Study) -> int | None:
    """Return how many parameters the base has: from its configuration, its files, or its name such as `alpaca-7b`."""
    base = study.recipe.base
    if base.model is None:
        return _from_config(dict(base.config or {}), study)
    files = sorted(Path(base.model).glob("*.safetensors")) if Path(base.model).is_dir() else []
    if files:
        return sum(file.stat().st_size for file in files) // BYTES.get(base.dtype, 2)
    named = NAMED_SIZE.search(base.model)
    return int(float(named[1]) * (1e9 if named[2].lower() == "b" else 1e6)) if named else None


def _from_config(config: dict[str, Any], study: Study) -> int | None:
    tokenizer = study.recipe.base.tokenizer
    if "vocab_size" not in config and not isinstance(tokenizer, str) and tokenizer is not None:
        config["vocab_size"] = tokenizer.vocab_size if tokenizer.kind == "bpe" else len(study.world.tokenizer())
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    return sum(parameter.numel() for parameter in model.parameters())


def _memory(parameters: int, width: int, lora: bool) -> int:
    """Weights; in full fine-tuning also gradients and Adam's two moments, all of the weights' type."""
    return parameters * width * (1 if lora else 4)


def _tokens(size: Size, options: dict[str, Any]) -> int | None:
    if size.records is None or size.tokens is None:
        return None
    return round(size.records * size.tokens * with_defaults(options)["num_train_epochs"])


class _Sizes:
    """Sizes of data sources: from a finished stage, else by reading local files, else from the recipe's limits."""

    def __init__(self, study: Study, states: dict[str, str], folder: RunFolder) -> None:
        self.study, self.states, self.folder = study, states, folder
        self._known: dict[str, Size] = {}

    def of_dataset(self, dataset: str | tuple[str, ...] | SampledSpec) -> Size:
        if isinstance(dataset, SampledSpec):
            prompts = self.of_source(dataset.prompts)
            return Size(prompts.records, float(2 * dataset.max_new_tokens))
        names = (dataset,) if isinstance(dataset, str) else dataset
        return _together([self.of_source(name) for name in names])

    def of_source(self, name: str) -> Size:
        if name not in self._known:
            self._known[name] = self._of_source(name, self.study.recipe.data[name])
        return self._known[name]

    def _of_source(self, name: str, spec: DataSpec) -> Size:
        if self.states.get(f"data/{name}") == "done":
            report = json.loads((self.folder.final(f"data/{name}") / "report.json").read_text())
            return Size(report["train"], _words(report["words"]))
        if spec.format == "world" or not all(Path(path).exists() for path in spec.paths):
            return Size(spec.limit, None)
        seed = self.study.seed("data", name)
        try:
            records = read_source(spec, name=name, seed=seed, as_=spec.as_).records
            prepared = prepare(records, spec, name=name, seed=self.study.seed("holdout"))
        except DataError:
            return Size(None, None)  # the run will say what is wrong, where it matters
        return Size(len(prepared.train), _words(data_report(name, prepared.train)["words"]))


def _words(words: dict[str, dict[str, float]]) -> float:
    return TOKENS_A_WORD * sum(quantiles.get("mean", quantiles.get("median", 0.0)) for quantiles in words.values())


def _together(sizes: Iterable[Size]) -> Size:
    sizes = list(sizes)
    if any(size.records is None for size in sizes):
        return Size(None, None)
    records = sum(size.records or 0 for size in sizes)
    if any(size.tokens is None for size in sizes):
        return Size(records, None)
    return Size(records, sum((size.records or 0) * (size.tokens or 0) for size in sizes) / max(records, 1))


def as_json(
    study: Study, statuses: Sequence[Status], found: Sequence[Training], judged: Sequence[Judging]
) -> dict[str, Any]:
    """Return a plan as a JSON-ready dictionary."""
    return {
        "name": study.recipe.name,
        "stages": [{"name": s.stage.name, "state": s.state, "key": s.key} for s in statuses],
        "models": list(study.nodes),
        "trainings": [asdict(training) for training in found],
        "judging": [asdict(judging) for judging in judged],
    }
