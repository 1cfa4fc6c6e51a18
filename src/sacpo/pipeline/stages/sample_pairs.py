"""Pairs of a step's own samples, which a closed form has labelled for its scores."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from sacpo.data.records import Answer, Prompt
from sacpo.data.report import data_report
from sacpo.errors import DataError
from sacpo.pipeline.stages.data import Data, write_records
from sacpo.pipeline.stages.pairs import Drawn, LabelledPairs, label_pairs
from sacpo.pipeline.stages.traits import SampleTraits
from sacpo.pipeline.tools import Tools
from sacpo.recipe.sampled import ScorePairs
from sacpo.theory.draws import tournament

ALONE = "prompts with fewer than two different whole answers"


@dataclass(frozen=True)
class SamplePairs(LabelledPairs):
    """Pairs of a step's own samples, for a score that is learned from their labels.

    To each prompt, answers are put side by side by lot, each text in about as many pairs as any other. Answers that
    were cut off are in none, since they are not learnt, nor those whose traits are not known.

    Attributes:
        traits: What the SFT model knows of the samples.
    """

    spec: ScorePairs
    traits: SampleTraits

    @property
    def sources(self) -> tuple[Data, ...]:
        """Where the prompts are from."""
        return self.traits.samples.prompts

    @property
    def each(self) -> float:
        """Pairs of a prompt, at most."""
        return self.spec.pairs

    @property
    def answers_each(self) -> float:
        """Answers to a prompt that stand in pairs, at most."""
        return min(2 * self.spec.pairs, self.traits.samples.samples)

    def work(self, out: Path, tools: Tools) -> None:
        """Draw pairs, label them, write them and a report.

        Raises:
            DataError: No prompt has two whole answers that differ.
        """
        rng = random.Random(self.seeds[""])
        rows = self._rows(tools)
        sides: list[Drawn] = []
        for row in rows:
            sides += [(row[one], row[other]) for one, other in tournament(range(len(row)), self.spec.pairs, rng)]
        alone = sum(len(row) < 2 for row in rows)
        if not sides:
            raise DataError(
                "no prompt has two whole answers that differ, so no pair of samples can be labelled",
                where=self.name,
                value=f"{alone} prompts, max_length {self.traits.reader.max_length}",
                do="raise max_new_tokens of 'resample' or max_length of the step, or take more samples",
            )
        pairs, dropped = label_pairs(sides, self.labeller(tools)(sides, out), self.spec, rng, self.sampled)
        dropped |= {ALONE: alone} if alone else {}
        write_records(out, pairs, {"kind": "pairs", **data_report(self.sampled, pairs, dropped=dropped)})

    def _rows(self, tools: Tools) -> list[list[Answer]]:
        """Return the answers to each prompt that may stand in pairs, each text once."""
        known = tools.read(self.traits).places
        rows: dict[Prompt, dict[str, Answer]] = {}
        for answer in tools.read(self.traits.samples).answers:
            row = rows.setdefault(answer.prompt, {})
            if not answer.truncated and (answer.prompt, answer.text) in known:
                row.setdefault(answer.text, answer)
        return [[*row.values()] for row in rows.values()]
