"""A score learned from a step's own preference pairs: a Bradley-Terry head on frozen features of the SFT model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sacpo.answer.features import mean_states
from sacpo.answer.scoring import answer_trees
from sacpo.data.packing import Tree
from sacpo.data.records import Answer, Verdict, read_jsonl, write_jsonl
from sacpo.data.tokenize import tokenize_pairs
from sacpo.judging.question import Question, verdict_on
from sacpo.judging.verdicts import VERDICTS
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.data import Data
from sacpo.pipeline.stages.drawn import Drawn
from sacpo.pipeline.stages.plan import LEARNED, Learned
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonObject
from sacpo.recipe.schema import BaseSpec
from sacpo.system.files import read_json, write_json
from sacpo.theory.calibrated import calibrated_head

HEAD = "head.json"


@dataclass(frozen=True)
class _Head:
    """Who judges, as verdicts record it."""

    name: str = "head"
    criterion: str = LEARNED


@dataclass(frozen=True)
class HeadScores(Stage[Learned]):
    """Scores of samples by a head that is fitted to a step's pairs.

    Attributes:
        title: The step.
        sft: The SFT model, whose hidden states are the features.
        base: Template, dtype, device of the model.
        records: The step's pairs.
        max_length, too_long: How they are tokenised.
        drawn: The samples.
    """

    title: str
    sft: Checkpoint
    base: BaseSpec
    records: tuple[Data, ...]
    max_length: int
    too_long: str
    drawn: Drawn

    @property
    def name(self) -> str:
        """`plan/head/STEP`."""
        return f"plan/head/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Fit, calibrate, score."""
        tokenizer, template = tools.tokenizer(self.sft, self.base)
        pairs = [pair for source in self.records for pair in tools.read(source).train]
        tokens, _ = tokenize_pairs(pairs, tokenizer, template, max_length=self.max_length, too_long=self.too_long)
        sides = [Tree(pair.prompt, (side,)) for pair in tokens for side in (pair.chosen, pair.rejected)]
        answers = tools.read(self.drawn)
        trees = [*sides, *answer_trees(answers, tokenizer, template)]
        features = mean_states(tools.load(self.sft, self.base), tokenizer, trees, progress=tools.progress)
        rows = features[: len(sides)].reshape(len(tokens), 2, -1)
        head = calibrated_head(rows[:, 0] - rows[:, 1], np.array([pair.p for pair in tokens]))
        write_jsonl(out / VERDICTS, _verdicts(answers, head.scores(features[len(sides) :])))
        facts = {"accuracy": head.accuracy, "separable": head.separable, "factor": head.factor}
        write_json(out / HEAD, {**facts, "pairs": head.pairs, "heldout": head.heldout, "penalty": head.penalty})

    def read(self, folder: Path) -> Learned:
        """Return the scores as verdicts, and what is known of the head."""
        facts: JsonObject = read_json(folder / HEAD)
        return Learned(read_jsonl(folder / VERDICTS, Verdict), facts)


def _verdicts(answers: Sequence[Answer], scores: Any) -> list[Verdict]:
    questions = [Question(answer.prompt, answer) for answer in answers]
    return [verdict_on(q, _Head(), score=float(score)) for q, score in zip(questions, scores, strict=True)]
