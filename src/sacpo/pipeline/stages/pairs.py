"""Preference pairs sampled from models and labelled by judges: by scores of both answers, or by comparisons."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sacpo.data.records import Answer, Pair, Prompt, write_jsonl
from sacpo.data.report import data_report
from sacpo.errors import DataError
from sacpo.judging.preferences import bradley_terry, preferences
from sacpo.judging.question import Judge, Question
from sacpo.judging.scored import Score, ScoreFunction
from sacpo.judging.verdicts import VERDICTS
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.judges import CriterionJudge
from sacpo.pipeline.stage import UNSAID, Stage
from sacpo.pipeline.stages.answers import SAMPLED, Answerer, sampling
from sacpo.pipeline.stages.data import Data, StoredRecords, write_records
from sacpo.pipeline.stages.offsets import safe_first, with_offsets
from sacpo.pipeline.tools import Tools
from sacpo.recipe.sampled import PairLabels
from sacpo.recipe.schema import BaseSpec, Engine, SampledSpec

Drawn = tuple[Answer, Answer]
"""Two answers to one prompt."""
Labeller = Callable[[Sequence[Drawn], Path], Sequence[float | None]]
"""Says of pairs with which probability the first answer is preferred; the folder is for what is kept of that."""


@dataclass(frozen=True)
class LabelledPairs(Stage[StoredRecords]):
    """Two answers to a prompt, and the probability that one is preferred: see `SampledSpec`.

    Attributes:
        title: The stage's name behind `pairs/`.
        spec: How to label.
        judges: Who labels the pairs, in the order of `spec.weights`.
        sampled: The name that records carry.
        seeds: Of the labels and lots under "", of each model's answers under its role.
    """

    title: str
    spec: PairLabels
    judges: tuple[CriterionJudge, ...]
    sampled: str
    seeds: Mapping[str, int]

    @property
    def name(self) -> str:
        """`pairs/STEP`, or `pairs/MODEL+STEP` where another model than SFT is asked, too."""
        return f"pairs/{self.title}"

    @property
    def sources(self) -> tuple[Data, ...]:
        """Where the prompts are from."""
        raise NotImplementedError

    @property
    def each(self) -> float:
        """Pairs of a prompt, at most."""
        return 1.0

    @property
    def answers_each(self) -> float:
        """Answers to a prompt that stand in pairs, at most."""
        return 2 * self.each

    @property
    def scorers(self) -> tuple[CriterionJudge, ...]:
        """Whose scores single answers need beside those of the judges."""
        return ()

    @property
    def weighers(self) -> tuple[CriterionJudge, ...]:
        """Whose scores draw the answers of pairs."""
        return ()

    @property
    def weighed_each(self) -> float:
        """Answers to a prompt that they score."""
        return 0.0

    def labeller(self, tools: Tools) -> Labeller:
        """Return what says of pairs of answers with which probability the first one is preferred."""
        if any(judge.rubric is not None and judge.rubric.pairwise for judge in self.judges):
            (judge,) = (judge.make(tools) for judge in self.judges)
            return partial(_compared, judge)
        score = weighted([judge.scores(tools) for judge in self.judges], [*self.spec.weights.values()])
        return partial(scored, score, self.spec.score_scale)

    def read(self, folder: Path) -> StoredRecords:
        """Return the pairs."""
        return StoredRecords(folder)


@dataclass(frozen=True)
class Pairs(LabelledPairs):
    """Two answers to each prompt, sampled for this.

    Pairs of prompts that the data source holds out are held out.

    Attributes:
        prompts: The prompts; records of any kind have one.
        models: "sft", "reference" and "policy", those that are asked: name and model.
        tokenizer: The model whose tokenizer all of the run share.
        base: Template, dtype, device of the models.
        others: Whose scores make offsets, in the order of `spec.offset`.
        safety: Who says whether an answer is safe, where `spec.safety` asks.
        engine: What samples.
    """

    spec: SampledSpec
    prompts: Data
    models: Mapping[str, tuple[str, Checkpoint]]
    tokenizer: Checkpoint
    base: BaseSpec
    others: tuple[CriterionJudge, ...] = ()
    safety: CriterionJudge | None = None
    engine: Engine = field(default="auto", metadata=UNSAID)

    @property
    def sources(self) -> tuple[Data, ...]:
        """Where the prompts are from."""
        return (self.prompts,)

    @property
    def scorers(self) -> tuple[CriterionJudge, ...]:
        """Whose scores single answers need beside those of the judges."""
        return self.others

    def work(self, out: Path, tools: Tools) -> None:
        """Sample, label, write the pairs, those of held-out prompts apart, and a report."""
        say = self.labeller(tools)
        prompts, held = self.asked(tools)
        pairs, dropped = self._labelled(prompts, self.seeds, say, out, tools)
        heldout: list[Pair] | None = None
        if held:
            seeds = {role: seed + 1 for role, seed in self.seeds.items()}
            heldout, left = self._labelled(held, seeds, say, out / "held-out", tools)
            dropped += left
        report = data_report(self.sampled, pairs, heldout=heldout or (), dropped=dropped)
        write_records(out, pairs, {"kind": "pairs", **report}, heldout)

    def asked(self, tools: Tools) -> tuple[list[Prompt], list[Prompt]]:
        """Return the prompts of the pairs, and of those that are held out."""
        records = tools.read(self.prompts)
        return _prompts(records.train), _prompts(records.heldout)

    def _labelled(
        self, prompts: list[Prompt], seeds: Mapping[str, int], say: Labeller, out: Path, tools: Tools
    ) -> tuple[list[Pair], Counter[str]]:
        """Return labelled pairs of prompts, and how many were dropped for which reason."""
        rng = random.Random(seeds[""])
        sides = self.drawn(prompts, seeds, rng, out, tools)
        pairs, dropped = label_pairs(sides, say(sides, out), self.spec, rng, self.sampled)
        return self._offset(pairs, Counter(dropped), tools)

    def drawn(
        self, prompts: list[Prompt], seeds: Mapping[str, int], rng: random.Random, out: Path, tools: Tools
    ) -> list[Drawn]:
        """Return two answers to each prompt; each model answers its share of the prompts, by lot."""
        shares = shared_out(prompts, self.spec.sample_from, rng)
        answers: list[Answer] = []
        for role, share in shares.items():
            answers += self.answers(role, share, 2, seeds, out, tools)
        return [*zip(answers[::2], answers[1::2], strict=True)]

    def answers(
        self, role: str, prompts: list[Prompt], samples: int, seeds: Mapping[str, int], out: Path, tools: Tools
    ) -> list[Answer]:
        """Return a model's answers, those to a prompt side by side."""
        generation = sampling(self.spec.max_new_tokens, SAMPLED, self.engine)
        generation = generation.model_copy(update={"temperature": self.spec.temperature})
        asked = Answerer(*self.models[role], self.tokenizer, self.base, generation)
        return asked.answers(prompts, samples, seeds[role], out / f"answers-{role}", tools)

    def _offset(self, pairs: list[Pair], dropped: Counter[str], tools: Tools) -> tuple[list[Pair], Counter[str]]:
        if self.spec.safety is not None:
            assert self.safety is not None
            pairs, unsafe = safe_first(pairs, self.safety.scores(tools), self.spec.safety)
            dropped.update(unsafe)
        if self.spec.offset:
            scores = {judge.criterion: judge.scores(tools) for judge in self.others}
            pairs, unscored = with_offsets(pairs, scores, self.spec.offset)
            dropped.update(unscored)
        _require_some(pairs, self.sampled, dropped)
        return pairs, +dropped


def _compared(judge: Judge, pairs: Sequence[Drawn], out: Path) -> list[float | None]:
    """Let language models compare the answers; what they said is kept beside the pairs."""
    verdicts = judge.judge([Question(first.prompt, first, second) for first, second in pairs])
    write_jsonl(out / VERDICTS, verdicts)
    return preferences(pairs, verdicts)


def scored(score: ScoreFunction, scale: float, pairs: Sequence[Drawn], out: Path) -> list[float | None]:
    """Return what scores of both answers say of pairs; an answer that stands in several is scored once."""
    texts = [[(answer.prompt, answer.text) for answer in pair] for pair in pairs]
    each = [*dict.fromkeys(text for both in texts for text in both)]
    values = {text: found.value for text, found in zip(each, score(each), strict=True)}
    return [bradley_terry(values[one], values[other], scale) for one, other in texts]


def label_pairs(
    answers: Sequence[Drawn], said: Sequence[float | None], spec: PairLabels, rng: random.Random, name: str
) -> tuple[list[Pair], dict[str, int]]:
    """Turn two answers to one prompt into a pair with its label: a probability, or the share of `votes` draws from it.

    Args:
        answers: The answers.
        said: The probability that the first is preferred; .5: a tie; None: not known.
        spec: How a probability becomes a label.
        rng: Draws labels.
        name: Who the pairs are for.

    Returns:
        The pairs, and how many were dropped for which reason.
    """
    pairs: list[Pair] = []
    dropped = {"equal answers": 0, "tie": 0, "not scored": 0}
    for i, ((first, second), p) in enumerate(zip(answers, said, strict=True)):
        draws = [rng.random() for _ in range(spec.votes)]
        if first.text == second.text:
            dropped["equal answers"] += 1
            continue
        if p is None:
            dropped["not scored"] += 1
            continue
        if p == 0.5 and spec.ties == "drop":
            dropped["tie"] += 1
            continue
        if spec.labels == "sampled":
            p = sum(draw < p for draw in draws) / spec.votes
        elif spec.labels == "hard":
            p = 0.5 if p == 0.5 else float(p > 0.5)
        if p < 0.5:
            first, second, p = second, first, 1 - p
        pairs.append(Pair(first.prompt, first.text, second.text, p, f"{name}, pair {i}"))
    _require_some(pairs, name, dropped)
    return pairs, {reason: n for reason, n in dropped.items() if n}


def _require_some(pairs: Sequence[Pair], name: str, dropped: Mapping[str, int]) -> None:
    if not pairs:
        raise DataError(
            "no pairs are left after sampling", where=name, value=dict(dropped), do="look at the judge's scores"
        )


def weighted(functions: Sequence[ScoreFunction], weights: Sequence[float]) -> ScoreFunction:
    """Return the weighted sum of several scores; an answer that one of them does not score has none."""
    if len(functions) == 1:
        return functions[0]

    def score(pairs: Sequence[tuple[Prompt, str]]) -> list[Score]:
        rows = zip(*(function(pairs) for function in functions), strict=True)
        return [Score(_weighted_sum([one.value for one in row], weights)) for row in rows]

    return score


def _weighted_sum(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(w * v for w, v in zip(weights, known, strict=True)) if len(known) == len(values) else None


def shared_out(prompts: Sequence[Prompt], shares: Any, rng: random.Random) -> dict[str, list[Prompt]]:
    """Share prompts out by lot; each source's keep their order."""
    lots = list(range(len(prompts)))
    rng.shuffle(lots)
    found: dict[str, list[Prompt]] = {}
    start, total = 0, 0.0
    for source in sorted(shares, reverse=True):  # "sft" first, whatever the recipe's order
        share = shares[source]
        total += share
        stop = round(total * len(prompts))
        found[source] = [prompts[i] for i in sorted(lots[start:stop])]
        start = stop
    return {source: share for source, share in found.items() if share}


def _prompts(records: Sequence[Any]) -> list[Prompt]:
    prompts = [record if isinstance(record, Prompt) else record.prompt for record in records]
    return list({prompt.id: prompt for prompt in prompts}.values())
