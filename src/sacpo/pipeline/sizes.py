"""A plan in numbers: optimiser steps, tokens, memory and disk of every training, as far as they can be known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sacpo.align.defaults import optimiser_steps, with_defaults
from sacpo.align.footprint import Method, Shape, training_bytes
from sacpo.data.prepare import prepare
from sacpo.data.records import Pair
from sacpo.data.report import data_report
from sacpo.data.sources import read_source
from sacpo.errors import DataError
from sacpo.pipeline.fits import Load, Room, answering, method_of, rooms, rooms_json, shape_of_recipe, width_of
from sacpo.pipeline.judges import CriterionJudge
from sacpo.pipeline.prompt_sets import PromptSet, shortfalls
from sacpo.pipeline.runner import Plan
from sacpo.pipeline.stages.answers import Answers
from sacpo.pipeline.stages.bank import Bank, Resampled
from sacpo.pipeline.stages.data import Data, report_of
from sacpo.pipeline.stages.pairs import LabelledPairs, Pairs
from sacpo.pipeline.stages.race import Race, RacedVerdicts
from sacpo.pipeline.stages.train import Align, FineTune
from sacpo.pipeline.stages.verdicts import Verdicts
from sacpo.plain import JsonObject
from sacpo.recipe.algorithms import ALGORITHMS
from sacpo.recipe.models import model_graph
from sacpo.recipe.schema import DataSpec, Recipe, TokenizerSpec
from sacpo.world import World

TOKENS_A_WORD = 1.4
NAMED_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bm])(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class TrainingPlan:
    """One training of the plan; None where something is only known once the data or the model was read.

    Attributes:
        model: Its name.
        stage: Its stage.
        state: "done", "resumed" or "open".
        records: Pairs, completions or demonstrations.
        at_most: `records`, and with it steps and tokens, is a bound: some of what is sampled, or of a limit, may go,
            and records that are too long where the recipe drops them.
        steps: Optimiser steps.
        tokens: Tokens of all epochs, estimated from words where the text was not tokenised.
        memory: Peak bytes: weights, gradients, optimiser, and activations and logits where the base's configuration is
            known; see `activations`.
        disk: Bytes of the finished model.
        activations: Whether `memory` counts activations and logits; they come on top otherwise.
        rooms: What other ways to train it would take, and what fits common devices.
        batch: Records a device batch, as the recipe has it.
    """

    model: str
    stage: str
    state: str
    records: int | None
    steps: int | None
    tokens: int | None
    memory: int | None
    disk: int | None
    activations: bool = False
    rooms: tuple[Room, ...] = ()
    batch: int | None = None
    at_most: bool = False


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
    """What is known of a source: records, tokens of one, whether they are pairs, the longest prompt with completion.

    With `at_most` there may be fewer records: they are a limit, or samples of which ties and equal answers go.
    """

    records: int | None
    tokens: float | None
    pairs: bool = False
    longest: float | None = None
    at_most: bool = False


def trainings(recipe: Recipe, plan: Plan) -> list[TrainingPlan]:
    """Return the trainings of language models in a plan, in order."""
    sizes = _Sizes(plan)
    parameters = parameter_count(recipe)
    shape, full = shape_of_recipe(recipe, _vocabulary(recipe)), width_of(recipe.base, full=True)
    found = []
    for status in plan.statuses:
        stage = status.stage
        if not isinstance(stage, Align | FineTune):
            continue
        size = sizes.of_records(stage.records)
        if isinstance(stage, Align) and size.records is not None and size.pairs:
            units = ALGORITHMS[stage.step.algorithm].units
            size = replace(size, records=units * size.records, tokens=size.tokens and size.tokens / units)
        options = dict(stage.training)
        spec = stage.step if isinstance(stage, Align) else stage.spec
        loaded = width_of(recipe.base, full=spec.lora is None)
        method, load = method_of(recipe.base, spec.lora, options, loaded), _load(stage, size, options)
        steps = None if size.records is None else optimiser_steps(max(size.records, 1), options)
        found.append(
            TrainingPlan(
                model=stage.title,
                stage=stage.name,
                state=status.state,
                records=size.records,
                steps=steps,
                tokens=_tokens(size, options),
                memory=_peak(shape, method, load, parameters),
                disk=None if parameters is None else parameters * loaded,
                activations=shape is not None,
                rooms=() if shape is None else tuple(rooms(shape, method, load, full)),
                batch=load.batch,
                at_most=size.at_most or (size.records is not None and spec.too_long == "drop"),
            )
        )
    return found


def judgings(recipe: Recipe, plan: Plan) -> list[Judging]:
    """Return how many requests the plan's open stages send to language models that judge."""
    asked: dict[str, int | None] = {}
    for status in plan.statuses:
        for judge, prompts, each in _questions(status.stage):
            if judge.rubric is None:
                continue
            known = asked.setdefault(judge.criterion, 0)
            if status.state != "done" and each:
                counts = [_prompt_count(one, plan) for one in prompts]
                each *= judge.spec.repeats * (len(judge.spec.orders) if judge.rubric.pairwise else 1)
                whole = known is None or None in counts
                asked[judge.criterion] = None if whole else (known or 0) + round(each * sum(n or 0 for n in counts))
    return [
        Judging(criterion, judge.title, judge.base_url, requests)
        for criterion, requests in asked.items()
        for judge in recipe.evaluate.judges[criterion].judges
    ]


def _questions(stage: object) -> Iterator[tuple[CriterionJudge, Sequence[Any], float]]:
    """Yield the judges that a stage asks, about which prompts, and how many questions each prompt makes."""
    if isinstance(stage, Race):
        yield from ((judge, [stage.prompts], 1) for judge in stage.judges)
    elif isinstance(stage, Verdicts) and isinstance(stage.answers, Answers):
        known_already = {judge.criterion for judge in stage.race.judges} if isinstance(stage, RacedVerdicts) else ()
        for judge in stage.judges:
            itself = judge.rubric is not None and judge.rubric.pairwise and stage.answers is stage.baseline
            if judge.criterion not in known_already:
                yield judge, [stage.answers.prompts], 0 if itself else stage.answers.samples
    elif isinstance(stage, LabelledPairs):
        for judge in (*stage.judges, *stage.scorers):  # two answers are compared at once, or scored one by one
            compares = judge.rubric is not None and judge.rubric.pairwise
            yield judge, stage.sources, stage.each if compares else stage.answers_each
        yield from ((judge, stage.sources, stage.weighed_each) for judge in stage.weighers)
    elif isinstance(stage, Bank):
        yield from ((judge, stage.samples.prompts, stage.samples.samples) for judge in stage.judges)


def _prompt_count(stage: Any, plan: Plan) -> int | None:
    data = isinstance(stage, Data)
    if any(status.stage is stage and status.state == "done" for status in plan.statuses):
        n: int = report_of(plan.folder.final(stage.name))["records" if data else "n"]
        return n
    spec = stage.source.spec
    if spec.format == "world" or not all(Path(path).exists() for path in spec.paths):
        found: int | None = spec.limit
        return found
    as_ = spec.as_ if data else "prompts"
    return len(read_source(spec, name=stage.source.name, seed=stage.seed, as_=as_).records)


def answering_peak(recipe: Recipe) -> int | None:
    """Return the peak bytes of answering with the base's weights, its keys and values; None where that is unknown."""
    shape = shape_of_recipe(recipe, _vocabulary(recipe))
    adapters = [step.lora for step in recipe.steps] + ([recipe.sft.lora] if recipe.sft is not None else [])
    width = width_of(recipe.base, full=None in adapters)
    longest = max((step.max_length for step in recipe.steps), default=0)
    return None if shape is None else answering(recipe, shape, width, longest)


def parameter_count(recipe: Recipe) -> int | None:
    """Return how many parameters the base has: from its configuration, its files, or its name such as `alpaca-7b`."""
    base = recipe.base
    if base.model is None:
        return _from_config(dict(base.config or {}), recipe)
    files = sorted(Path(base.model).glob("*.safetensors")) if Path(base.model).is_dir() else []
    if files:
        return sum(file.stat().st_size for file in files) // width_of(base, full=False)
    named = NAMED_SIZE.search(base.model)
    return int(float(named[1]) * (1e9 if named[2].lower() == "b" else 1e6)) if named else None


def _vocabulary(recipe: Recipe) -> int | None:
    tokenizer = recipe.base.tokenizer
    built = tokenizer is not None and not isinstance(tokenizer, str)
    return _words_of(tokenizer, recipe) if built else None  # type: ignore[arg-type]


def _from_config(config: JsonObject, recipe: Recipe) -> int | None:
    vocabulary = _vocabulary(recipe)
    if "vocab_size" not in config and vocabulary is not None:
        config["vocab_size"] = vocabulary
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    return sum(parameter.numel() for parameter in model.parameters())


def _words_of(tokenizer: TokenizerSpec, recipe: Recipe) -> int:
    if tokenizer.kind == "bpe":
        return tokenizer.vocab_size
    assert recipe.world is not None
    return len(World(recipe.world).tokenizer())


def _peak(shape: Shape | None, method: Method, load: Load, parameters: int | None) -> int | None:
    """Return a training's peak; without the model's shape that of weights, gradients and Adam's two moments alone."""
    if shape is not None:
        return round(training_bytes(shape, method, load.tokens))
    return None if parameters is None else parameters * method.width * (1 if method.rank else 4)


def _load(stage: Align | FineTune, size: Size, options: JsonObject) -> Load:
    """Return what the stage puts on a device at a time, where every record is as long as the longest."""
    spec = stage.step if isinstance(stage, Align) else stage.spec
    length = spec.max_length if size.longest is None else min(spec.max_length, round(size.longest))
    rows = 2 if isinstance(stage, Align) else 1  # a pair's completions; of KTO the mismatched ones beside its own
    return Load(with_defaults(options)["per_device_train_batch_size"], rows, max(length, 1))


def _tokens(size: Size, options: JsonObject) -> int | None:
    if size.records is None or size.tokens is None:
        return None
    return round(size.records * size.tokens * with_defaults(options)["num_train_epochs"])


class _Sizes:
    """Sizes of records: from a finished stage, else by reading local files, else from the recipe's limits."""

    def __init__(self, plan: Plan) -> None:
        self.done = {status.stage.name for status in plan.statuses if status.state == "done"}
        self.folder = plan.folder
        self._known: dict[str, Size] = {}

    def of_records(self, stages: Sequence[Any]) -> Size:
        sizes = []
        for stage in stages:
            if isinstance(stage, Pairs):
                prompts, tokens = self.of_data(stage.prompts).records, float(2 * stage.spec.max_new_tokens)
                sizes.append(Size(prompts and round(prompts * stage.each), tokens, True, at_most=True))
            elif isinstance(stage, Resampled):
                samples = stage.bank.samples
                prompts = self.of_records(samples.prompts).records
                kept = prompts and prompts * (stage.keep or samples.samples)
                sizes.append(Size(kept, float(samples.max_new_tokens), at_most=True))
            else:
                sizes.append(self.of_data(stage))
        return _together(sizes)

    def of_data(self, stage: Data) -> Size:
        if stage.name not in self._known:
            self._known[stage.name] = self._of_data(stage)
        return self._known[stage.name]

    def _of_data(self, stage: Data) -> Size:
        if stage.name in self.done:
            report = report_of(self.folder.final(stage.name))
            words = report["words"]
            return Size(report["train"], _words(words), report["kind"] == "pairs", _longest(words))
        name, spec = stage.source.name, stage.source.spec
        assert isinstance(spec, DataSpec)
        if spec.format == "world" or not all(Path(path).exists() for path in spec.paths):
            return Size(spec.limit, None, spec.holds == "pairs", at_most=spec.limit is not None)
        try:
            records = read_source(spec, name=name, seed=stage.seed, as_=spec.as_).records
            prepared = prepare(records, spec, name=name, seed=stage.holdout_seed)
        except DataError:
            return Size(None, None)  # the run will say what is wrong, where it matters
        words = data_report(name, prepared.train)["words"]
        pairs = any(isinstance(record, Pair) for record in prepared.train)
        return Size(len(prepared.train), _words(words), pairs, _longest(words))


def _words(words: dict[str, dict[str, float]]) -> float:
    return TOKENS_A_WORD * sum(quantiles.get("mean", quantiles.get("median", 0.0)) for quantiles in words.values())


def _longest(words: dict[str, dict[str, float]]) -> float:
    """Return at most how many tokens a prompt with one completion has."""
    most = {part: quantiles.get("max", 0.0) for part, quantiles in words.items()}
    return TOKENS_A_WORD * (most.pop("prompt", 0.0) + max(most.values(), default=0.0))


def _together(sizes: Iterable[Size]) -> Size:
    sizes = list(sizes)
    if any(size.records is None for size in sizes):
        return Size(None, None)
    records, pairs = sum(size.records or 0 for size in sizes), any(size.pairs for size in sizes)
    at_most = any(size.at_most for size in sizes)
    lengths = [size.longest for size in sizes]
    longest = None if None in lengths else max((length or 0.0 for length in lengths), default=None)
    if any(size.tokens is None for size in sizes):
        return Size(records, None, pairs, longest, at_most)
    tokens = sum((size.records or 0) * (size.tokens or 0) for size in sizes) / max(records, 1)
    return Size(records, tokens, pairs, longest, at_most)


def as_json(
    recipe: Recipe,
    plan: Plan,
    found: Sequence[TrainingPlan],
    judged: Sequence[Judging],
    sets: Sequence[PromptSet],
) -> JsonObject:
    """Return a plan as a JSON-ready dictionary."""
    return {
        "name": recipe.name,
        "stages": [{"name": s.stage.name, "state": s.state, "key": s.key} for s in plan.statuses],
        "later": plan.later,
        "models": list(model_graph(recipe)),
        "trainings": [{**asdict(training), "rooms": rooms_json([*training.rooms])} for training in found],
        "prompts": [asdict(one) for one in sets],
        "shortfalls": shortfalls(recipe, sets),
        "answering_memory": answering_peak(recipe),
        "judging": [asdict(judging) for judging in judged],
    }
