"""Models: the base, fine-tuning, one alignment step, a judge's reward model, and held-out pairs scored under them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sacpo.align import heldout
from sacpo.align.job import TrainingJob
from sacpo.align.reward_model import train_reward_model
from sacpo.align.sft import run_sft
from sacpo.align.step import run_align
from sacpo.data.records import Demonstration, Pair
from sacpo.errors import DataError
from sacpo.merge.source import Checkpoint, Merge, ModelSource
from sacpo.models.byte_level_bpe import byte_level_bpe
from sacpo.models.loading import build_model, load_tokenizer, save_model
from sacpo.pipeline.fits import memory_told
from sacpo.pipeline.outside import OneFile
from sacpo.pipeline.stage import JsonStage, Stage
from sacpo.pipeline.stages.data import Data, Records
from sacpo.pipeline.stages.pairs import Pairs
from sacpo.pipeline.tools import Readable, Tools
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.schema import BaseSpec, LoraSpec, SftSpec, StepSpec, TrainingSpec, WorldSpec
from sacpo.system import processes
from sacpo.system.files import read_json, write_json
from sacpo.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCORES, SUMMARY, CURVE = "scores.json", "summary.json", "metrics.jsonl"
RecordSource = Stage[Records] | Readable[Records]
"""Where records come from: a stage, or files of a single verb."""


@dataclass(frozen=True)
class Trained:
    """What a training left: its summary and its curve, read when they are asked for."""

    folder: Path

    @property
    def summary(self) -> JsonObject:
        """Steps, losses, records and settings."""
        return read_json(self.folder / SUMMARY)

    @property
    def curve(self) -> list[dict[str, float]]:
        """One row a logged step."""
        lines = (self.folder / CURVE).read_text(encoding="utf-8").splitlines()
        return [{key: float(value) for key, value in json.loads(line).items()} for line in lines]


@dataclass(frozen=True)
class Base(Stage[Path]):
    """A model from a configuration, with weights drawn from the seed, and its tokenizer."""

    spec: BaseSpec
    tokenizer: Checkpoint | None
    texts: tuple[Data, ...]
    world: WorldSpec | None
    seed: int

    @property
    def name(self) -> str:
        """`base`."""
        return "base"

    def work(self, out: Path, tools: Tools) -> None:
        """Write the model."""
        assert self.spec.config is not None
        tokenizer = self._tokenizer(tools)
        save_model(build_model(self.spec.config, tokenizer, self.seed), tokenizer, out / "model")

    def _tokenizer(self, tools: Tools) -> PreTrainedTokenizerBase:
        built = self.spec.tokenizer
        if self.tokenizer is not None:
            return load_tokenizer(self.tokenizer.place, trust_remote_code=self.spec.trust_remote_code)
        assert built is not None and not isinstance(built, str)
        if built.kind == "world":
            assert self.world is not None
            return World(self.world).tokenizer()
        texts = [text for data in self.texts for text in tools.read(data).texts()]
        return byte_level_bpe(texts, built.vocab_size)

    def read(self, folder: Path) -> Path:
        """Return the model's folder."""
        return folder / "model"


@dataclass(frozen=True)
class FromGguf(Stage[Path]):
    """A model of a GGUF file as a standard folder, its weights as floating-point numbers."""

    file: OneFile
    dtype: str

    @property
    def name(self) -> str:
        """`base`."""
        return "base"

    def work(self, out: Path, tools: Tools) -> None:
        """Write the model."""
        from sacpo.models.gguf import load_gguf

        save_model(*load_gguf(self.file.path, self.dtype), out / "model")

    def read(self, folder: Path) -> Path:
        """Return the model's folder."""
        return folder / "model"


@dataclass(frozen=True)
class Training(Stage[Trained]):
    """What all trainings have: where they start, their records and options.

    Attributes:
        title: For progress bars and messages.
        model: The initial policy.
        base: Data type, device, template, attention and consent to remote code.
        records: What it learns from, in this order.
        training: Options under the names of `transformers.TrainingArguments`.
        seed: The root of the batch order, of dropout and of an adapter's first weights.
        launch: How many processes train, where that changes rounding.
    """

    shared: ClassVar[bool] = True

    title: str
    model: Checkpoint
    base: BaseSpec
    records: tuple[RecordSource, ...]
    training: JsonMapping
    seed: int
    launch: JsonMapping = field(default_factory=processes.part_of_key, kw_only=True)

    def job(self, tools: Tools, spec: Any, lora: LoraSpec | None = None) -> TrainingJob:
        """Return the training job; `spec` has max_length, and too_long where there is a choice."""
        return TrainingJob(
            self.title,
            tools.path(self.model),
            self.base,
            dict(self.training),
            self.seed,
            spec.max_length,
            getattr(spec, "too_long", "truncate"),
            lora,
            tools.home(self),
        )

    def all_records(self, tools: Tools) -> list[Any]:
        """Return the records of all sources."""
        return [record for source in self.records for record in tools.read(source).train]

    def all_heldout(self, tools: Tools) -> list[Any]:
        """Return the held-out records of all sources."""
        return [record for source in self.records for record in tools.read(source).heldout]

    def read(self, folder: Path) -> Trained:
        """Return what it left beside the model."""
        return Trained(folder)


@dataclass(frozen=True)
class FineTune(Training):
    """Supervised fine-tuning on demonstrations; of `spec` only what trains is looked at (see `sft_options`)."""

    spec: SftSpec

    @property
    def name(self) -> str:
        """`sft`."""
        return "sft"

    def work(self, out: Path, tools: Tools) -> None:
        """Train, resuming what a killed process left."""
        records = self.all_records(tools)
        wrong = next((record for record in records if not isinstance(record, Demonstration)), None)
        if wrong is not None:
            raise DataError(
                "SFT learns from demonstrations",
                where="sft.dataset",
                value=type(wrong).__name__,
                do="give the data source 'as: demonstrations'",
            )
        tools.make_room()
        job = self.job(tools, self.spec, self.spec.lora)
        with memory_told(job, 1):
            run_sft(job, records, out, layout=self.spec.layout, progress=tools.progress)


@dataclass(frozen=True)
class Align(Training):
    """One alignment step at one strength, whose reference is the model it starts from, or the one that is given.

    Of `step` only what trains is looked at (see `step_options`); its `beta` is the strength.
    """

    step: StepSpec
    reference: Checkpoint | None = None

    @property
    def name(self) -> str:
        """`align/MODEL`."""
        return f"align/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Train, resuming what a killed process left."""
        records, heldout = self.all_records(tools), self.all_heldout(tools)
        tools.make_room()
        job, (beta,) = self.job(tools, self.step, self.step.lora), self.step.betas
        reference = None if self.reference is None else tools.path(self.reference)
        with memory_told(job, 2):
            run_align(
                job,
                self.step,
                beta,
                records,
                out,
                tools.cache_for(out),
                reference=reference,
                heldout=heldout,
                progress=tools.progress,
            )


@dataclass(frozen=True)
class TrainJudge(Training):
    """A criterion's reward model, trained on preference pairs from the SFT model."""

    criterion: str
    max_length: int
    too_long: str

    @property
    def name(self) -> str:
        """`judge-model/CRITERION`."""
        return f"judge-model/{self.criterion}"

    def work(self, out: Path, tools: Tools) -> None:
        """Train, resuming what a killed process left."""
        records = self.all_records(tools)
        held = self.all_heldout(tools)
        tools.make_room()
        train_reward_model(self.job(tools, self), records, out, heldout=held, progress=tools.progress)


@dataclass(frozen=True)
class Heldout(JsonStage):
    """Held-out pairs of all data sources, and of what was sampled, scored under one model, the preferred one first."""

    result: ClassVar[str] = SCORES

    title: str
    model: ModelSource
    base: BaseSpec
    data: tuple[Data | Pairs, ...]
    max_length: int
    too_long: str

    @property
    def name(self) -> str:
        """`heldout/MODEL`."""
        return f"heldout/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Write the log-probs and clusters of each source's pairs."""
        first = self.model.models[0] if isinstance(self.model, Merge) else self.model  # whose tokenizer it takes
        path = tools.path(first)
        job = TrainingJob(self.title, path, self.base, max_length=self.max_length, too_long=self.too_long)
        model = tools.load(self.model, self.base)
        found: JsonObject = {}
        for data in self.data:
            records = tools.read(data)
            if records.kind is not Pair:
                continue
            logps, clusters = heldout.score_heldout(job, model, records.heldout, progress=tools.progress)
            if clusters:
                name = data.name if isinstance(data, Pairs) else data.source.name
                found[name] = {"clusters": clusters, "logps": logps.tolist()}
        write_json(out / SCORES, found)


def source_name(source: RecordSource) -> str:
    """Return the name that results.json has for a source of records; of another stage its own."""
    return source.source.name if isinstance(source, Data) else getattr(source, "name", "")


def not_independent(trained: Mapping[str, Training]) -> list[str]:
    """Say of which held-out pairs accuracies are no independent estimates: their loss chose weights.

    Args:
        trained: Trainings, by model.
    """
    chosen: dict[str, list[str]] = {}
    for name, stage in trained.items():
        for source in stage.records if stage.training.get("load_best_model_at_end") else ():
            chosen.setdefault(source_name(source), []).append(name)
    return [
        f"the held-out pairs of '{source}' chose the weights of {', '.join(names)} (load_best_model_at_end): "
        "accuracies on them are no independent estimates, of these models and of those made from them"
        for source, names in chosen.items()
    ]


def sft_options(spec: SftSpec) -> SftSpec:
    """Return what of a recipe's `sft` its training looks at: not where its records are, nor options given elsewhere."""
    return spec.model_copy(update={"dataset": "records", "training": TrainingSpec()})


def step_options(step: StepSpec, beta: float) -> StepSpec:
    """Return what of a recipe's step its training looks at, at one strength."""
    unseen: JsonObject = {
        "name": "step",
        "dataset": "records",
        "from_": None,
        "rounds": 1,
        "training": TrainingSpec(),
        "resample": None,
        "search": None,
        "dual": None,
    }
    return step.model_copy(update={**unseen, "beta": beta})
