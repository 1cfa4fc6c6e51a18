"""Samples of models' own distributions to a step's prompts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sacpo.answer.scoring import score_answers
from sacpo.data.answers import ANSWERS
from sacpo.data.records import Answer, read_jsonl, write_jsonl
from sacpo.data.splits import prompt_of
from sacpo.merge.source import Checkpoint, ModelSource
from sacpo.pipeline.stage import UNSAID, Stage
from sacpo.pipeline.stages.answers import SAMPLED, Answerer, sampling
from sacpo.pipeline.stages.data import Data
from sacpo.pipeline.tools import Tools
from sacpo.recipe.schema import BaseSpec, Engine
from sacpo.system.files import read_json, write_json
from sacpo.theory.draws import balance
from sacpo.theory.optimum import Floats

CORRECTION = "correction.json"


@dataclass(frozen=True)
class Sampled:
    """Answers of one or several models.

    Attributes:
        answers: Side by side for each prompt.
        correction: `log pi_ref(y|x) - log sum_k share_k pi_k(y|x)`, 0 where the SFT model alone was asked.
            Shape: (prompts, samples).
    """

    answers: list[Answer]
    correction: Floats


@dataclass(frozen=True)
class Samples(Stage[Sampled]):
    """Samples of models' own distributions, side by side for each prompt; banks share them.

    Attributes:
        title: The stage's name behind `samples/`.
        reference: The model that weights refer to: the SFT model.
        models: Who answers, at temperature 1: name, model, and how many answers to each prompt.
        prompts: Data sources.
        max_new_tokens: Longest answer.
        base: Template, dtype, device of the models.
        seeds: The root of each model's sampling.
        engine: What samples.
    """

    title: str
    reference: Checkpoint
    models: tuple[tuple[str, ModelSource, int], ...]
    prompts: tuple[Data, ...]
    max_new_tokens: int
    base: BaseSpec
    seeds: tuple[int, ...]
    engine: Engine = field(default="auto", metadata=UNSAID)

    @property
    def name(self) -> str:
        """`samples/STEP`."""
        return f"samples/{self.title}"

    @property
    def samples(self) -> int:
        """Answers to each prompt, of all models together."""
        return sum(count for _, _, count in self.models)

    def work(self, out: Path, tools: Tools) -> None:
        """Sample; where others than the reference are asked, score all answers under each."""
        records = [record for data in self.prompts for record in tools.read(data).train]
        prompts = [*{prompt.id: prompt for prompt in map(prompt_of, records)}.values()]
        generation = sampling(self.max_new_tokens, SAMPLED, self.engine)
        parts = [
            Answerer(name, model, self.reference, self.base, generation).answers(
                prompts, count, seed, out / "partial" / name, tools
            )
            for (name, model, count), seed in zip(self.models, self.seeds, strict=True)
        ]
        counts = [count for _, _, count in self.models]
        answers = [
            answer
            for place in range(len(prompts))
            for part, count in zip(parts, counts, strict=True)
            for answer in part[place * count : (place + 1) * count]
        ]
        correction = [0.0] * len(answers)
        if any(model != self.reference for _, model, _ in self.models):
            tokenizer, template = tools.tokenizer(self.reference, self.base)
            logps = [
                score_answers(tools.load(model, self.base), tokenizer, answers, template)
                for model in (self.reference, *(model for _, model, _ in self.models))
            ]
            correction = balance(logps[0], logps[1:], counts).tolist()
        write_jsonl(out / ANSWERS, answers)
        write_json(out / CORRECTION, correction)
        shutil.rmtree(out / "partial")

    def read(self, folder: Path) -> Sampled:
        """Return the answers and their correction."""
        correction = read_json(folder / CORRECTION)
        return Sampled(read_jsonl(folder / ANSWERS, Answer), np.array(correction, float).reshape(-1, self.samples))


def weightless(gone: Any) -> str:
    """Return what share of some answers can have no weight, in words behind others; "" where there is none."""
    return f"; {gone.mean():.0%} of the answers are cut off or have no score" if gone.any() else ""
