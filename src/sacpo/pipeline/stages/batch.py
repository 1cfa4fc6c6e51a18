"""A batch of pairs that a closed form has labelled for its own scores, drawn where its model will be."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sacpo.data.records import Answer, Prompt
from sacpo.pipeline.judges import CriterionJudge
from sacpo.pipeline.stages.bank import Scorer, scores_of
from sacpo.pipeline.stages.pairs import Drawn, Pairs
from sacpo.pipeline.tools import Tools
from sacpo.theory.draws import contrasted
from sacpo.theory.optimum import Floats, self_normalised

UNKNOWN = 1e4
"""Nats that take every weight from an answer beside others, and none where all have this."""


@dataclass(frozen=True)
class Weigher:
    """What weighs answers: exp of a weighted sum of scores.

    Attributes:
        tilts: Each criterion's weight over the step's beta.
        judges: Who scores.
        learned: Scores that were learned from pairs, that steps' models imply, or judges' put to scale.
        candidates: Answers to each prompt that are weighed.
    """

    tilts: Mapping[str, float]
    judges: tuple[CriterionJudge, ...]
    learned: tuple[Scorer, ...]
    candidates: int


@dataclass(frozen=True)
class Batch(Pairs):
    """Pairs of SFT answers to a part of the prompts, for a score that is learned from their labels.

    Both answers are drawn at random; with a weigher one of them is drawn by the weights of what is known so far, and
    the other one at random among those that say something else. Labels of such pairs tell most of the answers that
    the model will give. Prompts that are held out for other pairs are not asked about.

    Attributes:
        number, of: Which part of the prompts, from 0 on: they are shared out by lot.
        lots: The seed of these lots.
        weigher: None: both answers are drawn at random.
    """

    number: int = 0
    of: int = 1
    lots: int = 0
    weigher: Weigher | None = None

    @property
    def each(self) -> float:
        """Pairs of a prompt, at most."""
        return 1 / self.of

    @property
    def weighers(self) -> tuple[CriterionJudge, ...]:
        """Whose scores draw the answers of pairs."""
        return () if self.weigher is None else self.weigher.judges

    @property
    def weighed_each(self) -> float:
        """Answers to a prompt that they score."""
        return 0.0 if self.weigher is None else self.each * self.weigher.candidates

    def asked(self, tools: Tools) -> tuple[list[Prompt], list[Prompt]]:
        """Return this batch's prompts, in their order; none is held out."""
        prompts, _ = super().asked(tools)
        lots = list(range(len(prompts)))
        random.Random(self.lots).shuffle(lots)
        ends = [round(len(lots) * place / self.of) for place in (self.number, self.number + 1)]
        return [prompts[place] for place in sorted(lots[slice(*ends)])], []

    def drawn(
        self, prompts: list[Prompt], seeds: Mapping[str, int], rng: random.Random, out: Path, tools: Tools
    ) -> list[Drawn]:
        """Return two answers to each prompt."""
        if self.weigher is None:
            return super().drawn(prompts, seeds, rng, out, tools)
        count = self.weigher.candidates
        answers = self.answers("sft", prompts, count, seeds, out, tools)
        shares = self_normalised(self._tilts(self.weigher, answers, tools).reshape(-1, count))
        rows = [answers[start : start + count] for start in range(0, len(answers), count)]
        return [
            (row[one], row[other])
            for row, weights in zip(rows, shares, strict=True)
            for one, other in [contrasted(weights, [answer.text for answer in row], rng)]
        ]

    def _tilts(self, weigher: Weigher, answers: Sequence[Answer], tools: Tools) -> Floats:
        """Return the log-weights of answers: as good as none of those that were cut off or have no score."""
        pairs, cut = [(answer.prompt, answer.text) for answer in answers], [answer.truncated for answer in answers]
        found = scores_of(weigher.judges, weigher.learned, tools, pairs, cut)
        scores = {name: np.array([score.value for score in each], float) for name, each in found.items()}
        tilt = sum(weight * scores[name] for name, weight in weigher.tilts.items())
        return np.where(np.isfinite(tilt) & ~np.array(cut), tilt, -UNKNOWN)
