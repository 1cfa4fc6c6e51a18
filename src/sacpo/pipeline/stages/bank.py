"""A bank of scored samples, and what is resampled from it: the closed form of eq. 11 on samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sacpo.data.records import Answer, Demonstration, Prompt
from sacpo.data.report import data_report
from sacpo.errors import DataError
from sacpo.judging.scored import Score, ScoreFunction
from sacpo.pipeline.judges import CriterionJudge
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.data import StoredRecords, write_records
from sacpo.pipeline.stages.heads import HeadScorer, learned_scores
from sacpo.pipeline.stages.implicit import ImplicitScorer, implicit_scores
from sacpo.pipeline.stages.samples import Samples, weightless
from sacpo.pipeline.stages.scaled import ScaledScorer, scaled_scores
from sacpo.pipeline.stages.traits import SampleTraits
from sacpo.pipeline.tools import Tools
from sacpo.system.files import read_json, write_json
from sacpo.theory.draws import best, systematic, thinned, thirds, without_few
from sacpo.theory.optimum import Floats, self_normalised

Scorer = HeadScorer | ImplicitScorer | ScaledScorer
"""What gives a criterion's scores in the place of a judge as it is."""
SCORES = "scores.json"
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
class Bank(Stage[Scored]):
    """Samples scored by every judge, and by scores that were learned from pairs.

    Attributes:
        title: The stage's name behind `bank/`.
        samples: What is scored.
        judges: Who scores.
        learned: Scores that were learned from pairs, on one model, that steps' models imply, or judges' put to scale.
    """

    title: str
    samples: Samples
    judges: tuple[CriterionJudge, ...]
    learned: tuple[Scorer, ...] = ()

    @property
    def name(self) -> str:
        """`bank/STEP`."""
        return f"bank/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Score."""
        answers = tools.read(self.samples).answers
        pairs = [(answer.prompt, answer.text) for answer in answers]
        found = self.scores(tools, pairs, [answer.truncated for answer in answers])
        values = {name: [score.finite for score in scores] for name, scores in found.items()}
        unsafe = [any(label == "unsafe" for label in labels) for labels in zip(*_labels(found), strict=True)]
        write_json(out / SCORES, {"scores": values, "unsafe": unsafe})

    @property
    def paid(self) -> bool:
        """Whether language models score."""
        return any(judge.rubric is not None for judge in self.judges)

    def scores(
        self, tools: Tools, pairs: Sequence[tuple[Prompt, str]], cut: Sequence[bool] = ()
    ) -> dict[str, Sequence[Score]]:
        """Return the scores of texts, by criterion; of those that are cut off language models are not asked."""
        return scores_of(self.judges, self.learned, tools, pairs, cut)

    def read(self, folder: Path) -> Scored:
        """Return the scores."""
        found = read_json(folder / SCORES)
        shape = (-1, self.samples.samples)
        scores = {name: np.array(values, float).reshape(shape) for name, values in found["scores"].items()}
        return Scored(scores, np.array(found["unsafe"], bool).reshape(shape))


def scores_of(
    judges: Sequence[CriterionJudge],
    learned: Sequence[Scorer],
    tools: Tools,
    pairs: Sequence[tuple[Prompt, str]],
    cut: Sequence[bool] = (),
) -> dict[str, Sequence[Score]]:
    """Return the scores of texts, by criterion; of those that are cut off language models are not asked."""
    judged: dict[str, Sequence[Score]] = {
        judge.criterion: _of_whole(judge.scores(tools), pairs, cut)
        if judge.rubric is not None and cut
        else judge.scores(tools)(pairs)
        for judge in judges
    }
    return {**judged, **scorers_say(learned, tools, pairs)}


def scorers_say(
    scorers: Sequence[Scorer], tools: Tools, pairs: Sequence[tuple[Prompt, str]]
) -> dict[str, Sequence[Score]]:
    """Return the scores of texts that were learned, are implied, or are judges' put to scale, by criterion."""
    return {
        **learned_scores([scorer for scorer in scorers if isinstance(scorer, HeadScorer)], tools, pairs),
        **implicit_scores([scorer for scorer in scorers if isinstance(scorer, ImplicitScorer)], tools, pairs),
        **scaled_scores([scorer for scorer in scorers if isinstance(scorer, ScaledScorer)], tools, pairs),
    }


def _of_whole(score: ScoreFunction, pairs: Sequence[tuple[Prompt, str]], cut: Sequence[bool]) -> list[Score]:
    said = iter(score([pair for pair, gone in zip(pairs, cut, strict=True) if not gone]))
    return [Score(None) if gone else next(said) for gone in cut]


def _labels(found: Mapping[str, Sequence[Any]]) -> list[list[str]]:
    return [[score.label for score in scores] for scores in found.values()]


@dataclass(frozen=True)
class Resampled(Stage[StoredRecords]):
    """Answers of a bank with weights exp(tilt), as demonstrations.

    Attributes:
        title: The stage's name behind `resampled/`.
        bank: The scored samples.
        tilts: Each criterion's weight over the step's beta: the tilt is their sum, each times its score.
        keep: Answers drawn for each prompt; None: all of them are learnt, each with its weight.
        least_ess: Refuse a smaller effective sample size.
        seed: The root of the draws.
        draw: "weights"; "best": the answers of the largest tilts; "all": no draw; "thinned": few of all with weights.
        listwise: Keep some of the answers that "all" leaves out, and what the reference gives each answer.
        traits: Traits of the samples, whose log-probs are taken from there.
    """

    title: str
    bank: Bank
    tilts: Mapping[str, float]
    keep: int | None
    least_ess: float
    seed: int
    draw: str = "weights"
    listwise: bool = False
    traits: SampleTraits | None = None

    @property
    def name(self) -> str:
        """`resampled/MODEL`."""
        return f"resampled/{self.title}"

    @property
    def of_sft(self) -> bool:
        """Whether the weights are drawn from, or learnt, and all samples are the SFT model's."""
        samples = self.bank.samples
        return self.draw != "best" and all(model == samples.reference for _, model, _ in samples.models)

    def work(self, out: Path, tools: Tools) -> None:
        """Weigh, draw, write demonstrations and a report.

        Raises:
            DataError: No prompt has two scored answers, or the effective sample size is too small.
        """
        bank, sampled = tools.read(self.bank), tools.read(self.bank.samples)
        answers = sampled.answers
        cut = np.reshape([answer.truncated for answer in answers], bank.unsafe.shape)
        tilt = sum(weight * bank.scores[name] for name, weight in self.tilts.items()) + sampled.correction
        unrated = int((~cut & ~np.isfinite(tilt)).sum())
        tilt = np.where(cut, np.nan, tilt)
        known = np.isfinite(tilt).sum(1) >= (max(2, self.keep or 2) if self.draw == "best" else 2)
        if not known.any():
            seen = f"of {cut.size} answers {cut.sum()} are cut off, and {unrated} whole ones have no score"
            do = "raise max_new_tokens" if cut.sum() >= unrated else "look at what the judges say of them"
            raise DataError("no prompt has two whole answers with scores", where=self.name, value=seen, do=do)
        tilt = np.where(np.isfinite(tilt), tilt, -np.inf)[known]
        weights = self_normalised(tilt)
        ess = 1 / (weights**2).sum(1)
        if self.draw != "best":
            self._check(float(ess.mean()), ~np.isfinite(tilt))
        places = np.reshape(np.arange(len(answers)), bank.unsafe.shape)[known]
        if self.listwise:
            of_reference = np.where(np.isfinite(tilt), np.exp(sampled.correction[known]), 0.0)
            records = self._lists([[answers[place] for place in row] for row in places], weights, of_reference, tools)
        else:
            records = self._records(places, answers, tilt, weights)
        report: dict[str, float] = {
            "samples": bank.unsafe.shape[1],
            **({} if self.keep is None else {"keep": self.keep}),
            "ess": float(ess.mean()),
            "few": float((ess < FEW).mean()),
            "all_unsafe": int(bank.unsafe.all(1).sum()),
            "truncated": int(cut.sum()),
            "answers_not_scored": unrated,
            **({"without_weight": sum(not record.weight for record in records)} if self.listwise else {}),
            "not_scored": int((~known).sum()),
        }
        fits = {scorer.criterion: scorer.known(tools) for scorer in self.bank.learned}
        described = data_report(self.title, records, dropped={"not scored": int((~known).sum())})
        write_records(out, records, {"kind": "demonstrations", "weights": report, "learned": fits, **described})

    def _records(self, places: Any, answers: list[Answer], tilt: Floats, weights: Floats) -> list[Demonstration]:
        """Return what is learnt of the answers at these places. Shape: (prompts, samples), but of `answers`."""
        if self.keep is None or self.draw == "thinned":
            rows = [[answers[place] for place in row] for row in places]
            rng = np.random.default_rng(self.seed)
            return weighted(
                rows,
                weights,
                self.title,
                without_few if self.keep is None else partial(thinned, keep=self.keep, rng=rng),
            )
        if self.draw == "best":
            drawn = best(tilt, self.keep)
        else:
            drawn = systematic(weights, self.keep, np.random.default_rng(self.seed))
        chosen = [answers[place] for place in np.take_along_axis(places, drawn, 1).ravel()]
        return [Demonstration(answer.prompt, answer.text, self.title) for answer in chosen]

    def _lists(
        self, answers: Sequence[Sequence[Answer]], weights: Floats, of_reference: Floats, tools: Tools
    ) -> list[Demonstration]:
        """Return what is learnt of all answers, some of those that hardly count, and what the reference gives each."""
        rng = np.random.default_rng(self.seed)
        logps = {} if self.traits is None else tools.read(self.traits).logps()
        found = []
        for row, shares, own in zip(answers, weights, of_reference, strict=True):
            texts, (mine, its) = by_text(row, np.stack([shares, own]))
            left, there = without_few(mine), its > 0  # what is cut off or has no score is not there
            counted = np.zeros(len(texts))
            counted[there] = thirds(left[there], rng)
            found += [
                Demonstration(
                    row[0].prompt,
                    text,
                    self.title,
                    weight=round(weight, 6),
                    ref_weight=float(f"{its[place] * counted[place]:.6g}"),
                    ref_logp=logps.get((row[0].prompt, text)),
                )
                for place, (text, weight) in enumerate(zip(texts, scaled(left, len(row)), strict=True))
                if counted[place]
            ]
        return found

    def _check(self, ess: float, gone: Any) -> None:
        if ess < self.least_ess:
            raise DataError(
                "the weights rest on too few of the samples: the answers asked for are too rare among them",
                where=self.name,
                value=f"effective sample size {ess:.2f} of {self.bank.samples.samples}{weightless(gone)}",
                allowed=f"{self.least_ess:g} or more",
                do="take more samples, a larger beta, proposals of a step (sample_from), a larger max_new_tokens where "
                "answers are cut off, or lower least_ess",
            )

    def read(self, folder: Path) -> StoredRecords:
        """Return the demonstrations."""
        return StoredRecords(folder)


def weighted(
    answers: Sequence[Sequence[Answer]], weights: Floats, source: str, fewer: Callable[[Floats], Floats]
) -> list[Demonstration]:
    """Return answers that count, each text of a prompt once, with its weight times the prompt's samples.

    Where a draw keeps few answers and so adds its own noise, the likelihood of all of them is its expectation.

    Args:
        answers: The samples of each prompt.
        weights: Self-normalised. Shape: (prompts, samples).
        source: The records' source.
        fewer: Takes some of a prompt's weights for 0, since each answer costs as much as any other.
    """
    found: list[Demonstration] = []
    for row, shares in zip(answers, weights, strict=True):
        texts, (own,) = by_text(row, shares[None])
        found += [
            Demonstration(row[0].prompt, text, source, round(weight, 6))
            for text, weight in zip(texts, scaled(fewer(own), len(row)), strict=True)
            if weight
        ]
    return found


def by_text(answers: Sequence[Answer], numbers: Floats) -> tuple[list[str], Floats]:
    """Return the texts of a prompt's answers, each once, and the sums of their numbers.

    Shape: (kinds, answers) to (kinds, texts).
    """
    places: dict[str, int] = {}
    of = [places.setdefault(answer.text, len(places)) for answer in answers]
    sums = np.zeros((len(numbers), len(places)))
    np.add.at(sums.T, of, numbers.T)
    return [*places], sums


def scaled(weights: Floats, total: float) -> list[float]:
    """Return weights that sum up to a total."""
    return [float(weight) for weight in weights * total / weights.sum()]
