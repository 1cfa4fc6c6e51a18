"""Judges' scores put to the scale of preferences: multiplied by the factor under which held-out pairs are likeliest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from sacpo.data.records import Pair, Prompt
from sacpo.errors import DataError
from sacpo.judging.scored import Score
from sacpo.pipeline.judges import CriterionJudge
from sacpo.pipeline.stage import JsonStage
from sacpo.pipeline.stages.data import Data
from sacpo.pipeline.stages.implicit import calibration, few_prompts
from sacpo.pipeline.stages.pairs import Pairs
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonObject
from sacpo.system.files import write_json


@dataclass(frozen=True)
class Scale(JsonStage):
    """By what a judge's scores are to be multiplied, so that held-out preferences are likeliest under them.

    Attributes:
        title: The stage's name behind `scale/`.
        judge: Who scores.
        records: Pairs whose preferences are by the judge's criterion.
    """

    result: ClassVar[str] = "scale.json"

    title: str
    judge: CriterionJudge
    records: tuple[Data | Pairs, ...]

    @property
    def name(self) -> str:
        """`scale/STEP/CRITERION`."""
        return f"scale/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Score both sides of the held-out pairs, and find the factor.

        Raises:
            DataError: No held-out pair has scores.
        """
        held = [pair for source in self.records for pair in tools.read(source).heldout if isinstance(pair, Pair)]
        texts = [(pair.prompt, side) for pair in held for side in (pair.chosen, pair.rejected)]
        values = np.array([score.finite for score in self.judge.scores(tools)(texts)], float).reshape(-1, 2)
        known = np.isfinite(values).all(1)
        if not known.any():
            raise DataError(
                "no held-out pair has scores of both answers, so they cannot be put to scale",
                where=self.name,
                value=f"{len(held)} pairs held out",
                do="hold out more, look at the judge's scores, or leave 'scale' out",
            )
        scored = [pair for pair, whole in zip(held, known, strict=True) if whole]
        margins, prompts = values[known, 0] - values[known, 1], [str(pair.prompt) for pair in scored]
        found = calibration(margins, np.array([pair.p for pair in scored]), prompts)
        few_prompts(self.name, found, prompts, "leave 'scale' out", tools.progress)
        write_json(out / self.result, {**found, "not_scored": len(held) - len(scored)})


@dataclass(frozen=True)
class ScaledScorer:
    """A criterion's score of any text: a judge's, times a factor.

    Attributes:
        criterion: What it is called.
        scale: The judge, and what found the factor.
    """

    criterion: str
    scale: Scale

    def known(self, tools: Tools) -> JsonObject:
        """Return what is known of the score."""
        return tools.read(self.scale)


def scaled_scores(
    scorers: Sequence[ScaledScorer], tools: Tools, texts: Sequence[tuple[Prompt, str]]
) -> dict[str, list[Score]]:
    """Return the scores of texts by criterion, with the labels that the judges give."""
    found: dict[str, list[Score]] = {}
    for scorer in scorers:
        factor = scorer.known(tools)["factor"]
        said = scorer.scale.judge.scores(tools)(texts)
        found[scorer.criterion] = [
            replace(score, value=None if score.finite is None else factor * score.finite) for score in said
        ]
    return found
