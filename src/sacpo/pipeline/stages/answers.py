"""Answers: one model's to one prompt set, and samples of its own distribution for KL."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sacpo.answer.generate import generate_answers
from sacpo.answer.scoring import kl_terms, score_answers
from sacpo.answer.vllm import VllmModel, uses_vllm
from sacpo.data.answers import ANSWERS
from sacpo.data.records import Answer, Prompt, read_jsonl, write_jsonl
from sacpo.merge.source import Checkpoint, Merge, ModelSource
from sacpo.models.loading import has_adapters, resolve_device
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.data import Prompts
from sacpo.pipeline.tools import Readable, Tools
from sacpo.plain import JsonObject
from sacpo.recipe.schema import BaseSpec, Engine, GenerationSpec
from sacpo.system.machine import machine_errors

SAMPLES = "samples.jsonl"
SAMPLED = 256
"""Answers sampled at a time where no recipe says how many."""
PromptSource = Prompts | Readable[list[Prompt]]
"""Where prompts come from: a stage, or files of a single verb."""


@dataclass(frozen=True)
class Answers(Stage[list[Answer]]):
    """One model's answers to one prompt set.

    Attributes:
        title: The model's name in the answers.
        model: The model.
        tokenizer: The model whose tokenizer it takes.
        prompts: The prompt set.
        set_name: The prompt set's name.
        generation: How answers are decoded.
        base: Template, dtype, device of the model.
        seed: The root of sampling.
        samples: Answers to each prompt.
    """

    title: str
    model: ModelSource
    tokenizer: Checkpoint
    prompts: PromptSource
    set_name: str
    generation: GenerationSpec
    base: BaseSpec
    seed: int
    samples: int = 1

    @property
    def name(self) -> str:
        """`generate/MODEL/PROMPTS`."""
        return f"generate/{self.title}/{self.set_name}"

    def work(self, out: Path, tools: Tools) -> None:
        """Answer, keeping each answer as it comes; what a killed process left is kept."""
        asked = Answerer(self.title, self.model, self.tokenizer, self.base, self.generation)
        asked.answers(tools.read(self.prompts), self.samples, self.seed, out, tools)

    def read(self, folder: Path) -> list[Answer]:
        """Return the answers."""
        return read_jsonl(folder / ANSWERS, Answer)


@dataclass(frozen=True)
class Answerer:
    """A model that answers prompts, for whatever the answers are.

    Attributes:
        name: What the answers say of whose they are.
        model: The model.
        tokenizer: The model whose tokenizer it takes.
        base: Template, dtype, device.
        generation: How answers are decoded, and by which engine.
    """

    name: str
    model: ModelSource
    tokenizer: Checkpoint
    base: BaseSpec
    generation: GenerationSpec

    def answers(self, prompts: Sequence[Prompt], samples: int, seed: int, out: Path, tools: Tools) -> list[Answer]:
        """Return the answers in the prompts' order, those to a prompt side by side.

        They are kept in `out` as they come; a killed process goes on there.
        """
        tokenizer, template = tools.tokenizer(self.tokenizer, self.base)
        with generator(self.model, self.base, self.generation, out, tools) as model:
            return generate_answers(
                model,
                tokenizer,
                prompts,
                template,
                self.generation,
                model_name=self.name,
                seed=seed,
                samples=samples,
                out=out,
                progress=tools.progress,
            )


@contextlib.contextmanager
def generator(
    model: ModelSource, base: BaseSpec, generation: GenerationSpec, out: Path, tools: Tools
) -> Iterator[object]:
    """Give the model that answers: vLLM's where the recipe and the machine want it, else as it is loaded.

    For vLLM a merged model is written to `out` while it answers. Mixed logits need both models, and adapters stand on a
    base that stays loaded: never vLLM.
    """
    source = tools.place(model)
    mixed = isinstance(source, Merge) and not source.has_weights
    stack = source.stack()
    own = not (isinstance(source, Checkpoint) and has_adapters(source.place))
    plain = not mixed and own and (stack is None or not stack.members)
    if not plain or not uses_vllm(generation.engine, resolve_device(base.device)):
        yield tools.load(model, base)
        return
    written = out / "weights"
    with machine_errors(out):
        shutil.rmtree(written, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        path, revision = (source.place, source.revision) if isinstance(source, Checkpoint) else (written, None)
        if isinstance(source, Merge):
            source.write(written, progress=tools.progress)
        served = VllmModel(path, dtype=base.dtype, revision=revision, trust_remote_code=base.trust_remote_code)
        try:
            yield served
        finally:
            served.close()
            shutil.rmtree(written, ignore_errors=True)


@dataclass(frozen=True)
class KlSamples(Stage[list[JsonObject]]):
    """Answers sampled at temperature 1, scored under the model and under others.

    The mean of log pi - log pi_sft estimates KL(pi || pi_sft).

    Attributes:
        title: The model's name.
        model: The model.
        tokenizer: The model whose tokenizer all take.
        others: By the name of their log-ratios: "sft", "reference", and "merged/0", "merged/1", ... of a merge.
        prompts: The prompt set.
        n_prompts: Its first so many are answered.
        samples: Answers to each prompt.
        max_new_tokens: Longest answer.
        batch_size: Answers at a time; it changes rounding.
        base: Template, dtype, device of the models.
        seed: The root of sampling.
    """

    title: str
    model: ModelSource
    tokenizer: Checkpoint
    others: Mapping[str, Checkpoint]
    prompts: Prompts
    n_prompts: int
    max_new_tokens: int
    batch_size: int
    base: BaseSpec
    seed: int
    samples: int = 1

    @property
    def name(self) -> str:
        """`kl/MODEL/PROMPTS`."""
        return f"kl/{self.title}/{self.prompts.source.name}"

    def work(self, out: Path, tools: Tools) -> None:
        """Sample, score under each model, write answers and log-ratios."""
        chosen = tools.read(self.prompts)[: self.n_prompts]
        tokenizer, template = tools.tokenizer(self.tokenizer, self.base)
        answers = generate_answers(
            tools.load(self.model, self.base),
            tokenizer,
            chosen,
            template,
            sampling(self.max_new_tokens, self.batch_size),
            model_name=self.title,
            seed=self.seed,
            samples=self.samples,
            out=out,
            progress=tools.progress,
        )

        def scores(model: ModelSource) -> list[float]:
            return score_answers(tools.load(model, self.base), tokenizer, answers, template)

        own = scores(self.model)
        known: list[tuple[ModelSource, list[float]]] = [(self.model, own)]
        terms = {}
        for name, other in self.others.items():
            found = next((logps for model, logps in known if model == other), None)
            if found is None:
                found = scores(other)
                known.append((other, found))
            terms[name] = kl_terms(own, found)
        rows = [
            {"answer": answer.to_json(), **{key: values[i] for key, values in terms.items()}}
            for i, answer in enumerate(answers)
        ]
        write_jsonl(out / SAMPLES, rows)
        (out / ANSWERS).unlink()

    def read(self, folder: Path) -> list[JsonObject]:
        """Return the samples: each with its `answer` and the log-ratio of every other model by its name."""
        rows = [json.loads(line) for line in (folder / SAMPLES).read_text(encoding="utf-8").splitlines()]
        return [{**row, "answer": Answer.from_json(row["answer"])} for row in rows]


def sampling(max_new_tokens: int, batch_size: int, engine: Engine = "auto") -> GenerationSpec:
    """Return how answers are sampled from a model's own distribution: temperature 1, all tokens."""
    return GenerationSpec(max_new_tokens=max_new_tokens, do_sample=True, batch_size=batch_size, engine=engine)
