"""A bank of scored samples, and what is resampled from it: the closed form of eq. 11 on samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sacpo.answer.generate import generate_answers
from sacpo.data.answers import ANSWERS
from sacpo.data.records import Answer, Demonstration, read_jsonl
from sacpo.data.report import data_report
from sacpo.data.splits import prompt_of
from sacpo.errors import DataError
from sacpo.judging.scored import Score
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.judges import CriterionJudge
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.answers import sampling
from sacpo.pipeline.stages.data import Data, StoredRecords, write_records
from sacpo.pipeline.stages.heads import HeadScorer, learned_scores
from sacpo.pipeline.tools import Tools
from sacpo.recipe.schema import BaseSpec
from sacpo.system.files import write_json
from sacpo.theory.optimum import Floats, self_normalised

SCORES = "scores.json"
BATCH = 256
"""Answers sampled at a time."""
FEW = 2.0
"""A prompt with a smaller effective sample size has one answer that counts."""


@dataclass(frozen=True)
class Scored:
    """What a bank holds.

    Attributes:
        scores: Each criterion's scores; NaN: could not be had. Shape: (prompts, samples).
        unsafe: Whether some judge labels an answer unsafe. Shape: (prompts, samples).
    """

    scores: dict[str, Floats]
    unsafe: Any


@dataclass(frozen=True)
class Samples(Stage[list[Answer]]):
    """Samples of a model's own distribution, side by side for each prompt; banks share them.

    Attributes:
        title: The stage's name behind `samples/`.
        model: The model that answers, at temperature 1.
        prompts: Data sources; each of their prompts is answered once for every sample.
        samples: Answers to each prompt.
        max_new_tokens: Longest answer.
        base: Template, dtype, device of the model.
        seed: The root of sampling.
    """

    title: str
    model: Checkpoint
    prompts: tuple[Data, ...]
    samples: int
    max_new_tokens: int
    base: BaseSpec
    seed: int

    @property
    def name(self) -> str:
        """`samples/STEP`."""
        return f"samples/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Sample."""
        records = [record for data in self.prompts for record in tools.read(data).train]
        prompts = {prompt.id: prompt for prompt in map(prompt_of, records)}
        tokenizer, template = tools.tokenizer(self.model, self.base)
        generate_answers(
            tools.load(self.model, self.base),
            tokenizer,
            [*prompts.values()],
            template,
            sampling(self.max_new_tokens, BATCH),
            model_name="sft",
            seed=self.seed,
            samples=self.samples,
            out=out,
            progress=tools.progress,
        )

    def read(self, folder: Path) -> list[Answer]:
        """Return the answers."""
        return read_jsonl(folder / ANSWERS, Answer)


@dataclass(frozen=True)
class Bank(Stage[Scored]):
    """Samples scored by every judge, and by scores that were learned from pairs.

    Attributes:
        title: The stage's name behind `bank/`.
        samples: What is scored.
        judges: Who scores.
        learned: Scores that were learned from pairs, on one model.
    """

    title: str
    samples: Samples
    judges: tuple[CriterionJudge, ...]
    learned: tuple[HeadScorer, ...] = ()

    @property
    def name(self) -> str:
        """`bank/STEP`."""
        return f"bank/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Score."""
        pairs = [(answer.prompt, answer.text) for answer in tools.read(self.samples)]
        found: dict[str, Sequence[Score]] = {judge.criterion: judge.scores(tools)(pairs) for judge in self.judges}
        found.update(learned_scores(self.learned, tools, pairs))
        values = {name: [score.value for score in scores] for name, scores in found.items()}
        unsafe = [any(label == "unsafe" for label in labels) for labels in zip(*_labels(found), strict=True)]
        write_json(out / SCORES, {"scores": values, "unsafe": unsafe})

    def read(self, folder: Path) -> Scored:
        """Return the scores."""
        found = json.loads((folder / SCORES).read_text(encoding="utf-8"))
        shape = (-1, self.samples.samples)
        scores = {name: np.array(values, float).reshape(shape) for name, values in found["scores"].items()}
        return Scored(scores, np.array(found["unsafe"], bool).reshape(shape))


def _labels(found: Mapping[str, Sequence[Any]]) -> list[list[str]]:
    return [[score.label for score in scores] for scores in found.values()]


@dataclass(frozen=True)
class Resampled(Stage[StoredRecords]):
    """Answers drawn from a bank with weights exp(tilt), as demonstrations.

    Attributes:
        title: The stage's name behind `resampled/`.
        bank: The scored samples.
        tilts: Each criterion's weight over the step's beta: the tilt is their sum, each times its score.
        keep: Answers drawn for each prompt.
        least_ess: Refuse a smaller effective sample size.
        seed: The root of the draws.
        draw: "weights", or "best": the answers of the largest tilts.
    """

    title: str
    bank: Bank
    tilts: Mapping[str, float]
    keep: int
    least_ess: float
    seed: int
    draw: str = "weights"

    @property
    def name(self) -> str:
        """`resampled/MODEL`."""
        return f"resampled/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Weigh, draw, write demonstrations and a report.

        Raises:
            DataError: No prompt has two scored answers, or the effective sample size is too small.
        """
        bank, answers = tools.read(self.bank), tools.read(self.bank.samples)
        cut = np.reshape([answer.truncated for answer in answers], bank.unsafe.shape)
        tilt = sum(weight * bank.scores[name] for name, weight in self.tilts.items()) + np.where(cut, np.nan, 0.0)
        known = np.isfinite(tilt).sum(1) >= (max(2, self.keep) if self.draw == "best" else 2)
        if not known.any():
            raise DataError("no prompt has two whole answers with scores", where=self.name, do="raise max_new_tokens")
        tilt = np.where(np.isfinite(tilt), tilt, -np.inf)[known]
        weights = self_normalised(tilt)
        ess = 1 / (weights**2).sum(1)
        if self.draw == "best":
            drawn = best(tilt, self.keep)
        else:
            self._check(float(ess.mean()))
            drawn = systematic(weights, self.keep, np.random.default_rng(self.seed))
        rows = np.flatnonzero(known)[:, None] * bank.unsafe.shape[1] + drawn
        chosen = [answers[place] for place in rows.ravel()]
        records = [Demonstration(answer.prompt, answer.text, self.title) for answer in chosen]
        report: dict[str, float] = {
            "samples": bank.unsafe.shape[1],
            "keep": self.keep,
            "ess": float(ess.mean()),
            "few": float((ess < FEW).mean()),
            "all_unsafe": int(bank.unsafe.all(1).sum()),
            "truncated": int(cut.sum()),
            "not_scored": int((~known).sum()),
        }
        described = data_report(self.title, records, dropped={"not scored": int((~known).sum())})
        write_records(out, records, {"kind": "demonstrations", "weights": report, **described})

    def _check(self, ess: float) -> None:
        if ess < self.least_ess:
            raise DataError(
                "the weights rest on too few of the samples: the answers asked for are too rare under the SFT model",
                where=self.name,
                value=f"effective sample size {ess:.2f} of {self.bank.samples.samples}",
                allowed=f"{self.least_ess:g} or more",
                do="take more samples, a larger beta, or lower least_ess",
            )

    def read(self, folder: Path) -> StoredRecords:
        """Return the demonstrations."""
        return StoredRecords(folder)


def best(tilt: Floats, keep: int) -> Any:
    """Return the places of the `keep` largest tilts of each row, of equal ones the first.

    Learnt by maximum likelihood they are RAFT's (arXiv 2304.06767). Shape: (prompts, samples) to (prompts, keep).
    """
    return np.argsort(-tilt, axis=1, kind="stable")[:, :keep]


def systematic(weights: Floats, keep: int, rng: np.random.Generator) -> Any:
    """Draw `keep` places a row, each as often as its weight says, on the average; one random number a row.

    The number of times that an answer is drawn is its expected number, rounded up or down (systematic resampling).
    Shape: (prompts, samples) to (prompts, keep).
    """
    points = (rng.random((len(weights), 1)) + np.arange(keep)) / keep
    ends = np.cumsum(weights, 1)
    ends[:, -1] = 1.0
    return (points[:, :, None] >= ends[:, None, :]).sum(2)
