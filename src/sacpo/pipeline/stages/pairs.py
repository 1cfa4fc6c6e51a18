"""Preference pairs sampled from models and labelled by judges' scores."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacpo.answer.generate import generate_answers
from sacpo.data.records import Answer, Pair, Prompt
from sacpo.data.report import data_report
from sacpo.errors import DataError
from sacpo.judging.scored import Score, ScoreFunction
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.judges import CriterionJudge
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.data import Data, StoredRecords, write_records
from sacpo.pipeline.stages.offsets import safe_first, with_offsets
from sacpo.pipeline.tools import Tools
from sacpo.recipe.schema import BaseSpec, GenerationSpec, SampledSpec

BATCH = 256
"""Answers sampled at a time."""


@dataclass(frozen=True)
class Pairs(Stage[StoredRecords]):
    """Two answers to each prompt, and the probability that one is preferred, by Bradley-Terry on judges' scores.

    Attributes:
        title: The stage's name behind `pairs/`.
        spec: How to sample and to label.
        judges: Whose scores label the pairs, in the order of `spec.weights`.
        prompts: The prompts; records of any kind have one.
        models: "sft" and "reference", those that are asked: name and model.
        tokenizer: The model whose tokenizer all of the run share.
        base: Template, dtype, device of the models.
        sampled: The name that records carry.
        seeds: Of the labels and lots under "", of each model's answers under its role.
        others: Whose scores make offsets, in the order of `spec.offset`.
        safety: Who says whether an answer is safe, where `spec.safety` asks.
    """

    title: str
    spec: SampledSpec
    judges: tuple[CriterionJudge, ...]
    prompts: Data
    models: Mapping[str, tuple[str, Checkpoint]]
    tokenizer: Checkpoint
    base: BaseSpec
    sampled: str
    seeds: Mapping[str, int]
    others: tuple[CriterionJudge, ...] = ()
    safety: CriterionJudge | None = None

    @property
    def name(self) -> str:
        """`pairs/STEP`, or `pairs/REFERENCE+STEP` where the step's reference is asked too."""
        return f"pairs/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Sample, label, write the pairs and a report."""
        score = weighted([judge.scores(tools) for judge in self.judges], [*self.spec.weights.values()])
        prompts = _prompts(tools.read(self.prompts).train)
        rng = random.Random(self.seeds[""])
        shares = shared_out(prompts, self.spec.sample_from, rng)
        tokenizer, template = tools.tokenizer(self.tokenizer, self.base)
        generation = GenerationSpec(
            max_new_tokens=self.spec.max_new_tokens,
            do_sample=True,
            temperature=self.spec.temperature,
            batch_size=BATCH,
        )
        answers: list[Answer] = []
        for role, share in shares.items():
            name, model = self.models[role]
            answers += generate_answers(
                tools.load(model, self.base),
                tokenizer,
                share,
                template,
                generation,
                model_name=name,
                seed=self.seeds[role],
                samples=2,
                out=out / f"answers-{role}",
                progress=tools.progress,
            )
        pairs, dropped = label_pairs(answers, score, self.spec, rng, self.sampled)
        pairs, dropped = self._offset(pairs, Counter(dropped), tools)
        write_records(out, pairs, {"kind": "pairs", **data_report(self.sampled, pairs, dropped=dropped)})

    def _offset(self, pairs: list[Pair], dropped: Counter[str], tools: Tools) -> tuple[list[Pair], dict[str, int]]:
        if self.spec.safety is not None:
            assert self.safety is not None
            pairs, unsafe = safe_first(pairs, self.safety.scores(tools), self.spec.safety)
            dropped.update(unsafe)
        if self.spec.offset:
            scores = {judge.criterion: judge.scores(tools) for judge in self.others}
            pairs, unscored = with_offsets(pairs, scores, self.spec.offset)
            dropped.update(unscored)
        _require_some(pairs, self.sampled, dropped)
        return pairs, {reason: n for reason, n in dropped.items() if n}

    def read(self, folder: Path) -> StoredRecords:
        """Return the pairs."""
        return StoredRecords(folder)


def label_pairs(
    answers: Sequence[Answer], score: ScoreFunction, spec: SampledSpec, rng: random.Random, name: str
) -> tuple[list[Pair], dict[str, int]]:
    """Turn answers, two to each prompt side by side, into pairs with the probability that the first is preferred.

    `p = sigmoid(score_scale (s1 - s2))`, or the share of `votes` draws from it. Source: the Bradley-Terry model of
    section 3 of the paper.

    Returns:
        The pairs, and how many were dropped for which reason.
    """
    scores = score([(answer.prompt, answer.text) for answer in answers])
    pairs: list[Pair] = []
    dropped = {"equal answers": 0, "tie": 0, "not scored": 0}
    for i in range(0, len(answers), 2):
        first, second = answers[i], answers[i + 1]
        one, other = scores[i].finite, scores[i + 1].finite
        draws = [rng.random() for _ in range(spec.votes)]
        if first.text == second.text:
            dropped["equal answers"] += 1
            continue
        if one is None or other is None:
            dropped["not scored"] += 1
            continue
        if one == other and spec.ties == "drop":
            dropped["tie"] += 1
            continue
        p = 1 / (1 + math.exp(-max(min(spec.score_scale * (one - other), 60.0), -60.0)))
        if spec.labels == "sampled":
            p = sum(draw < p for draw in draws) / spec.votes
        elif spec.labels == "hard":
            p = 0.5 if one == other else float(one > other)
        if p < 0.5:
            first, second, p = second, first, 1 - p
        pairs.append(Pair(first.prompt, first.text, second.text, p, f"{name}, pair {i // 2}"))
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
