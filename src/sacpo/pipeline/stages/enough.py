"""Whether prompts are enough for the pairs that a score is to be learned from, known before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sacpo.data.splits import prompt_of
from sacpo.errors import DataError
from sacpo.pipeline.stage import JsonStage
from sacpo.pipeline.stages.data import Data
from sacpo.pipeline.tools import Tools
from sacpo.system.files import write_json
from sacpo.theory.learned_score import LEAST_PAIRS, LEAST_PROMPTS


@dataclass(frozen=True)
class EnoughPrompts(JsonStage):
    """How many pairs can be labelled for a score: too few are refused before a model is trained or a label paid for.

    Attributes:
        step, criterion: Whose score, and of what.
        prompts: Where the prompts are from.
        each: Pairs of a prompt, at most, in the first batch.
    """

    result: ClassVar[str] = "pairs.json"

    step: str
    criterion: str
    prompts: tuple[Data, ...]
    each: float

    @property
    def name(self) -> str:
        """`enough/STEP/CRITERION`."""
        return f"enough/{self.step}/{self.criterion}"

    def work(self, out: Path, tools: Tools) -> None:
        """Count.

        Raises:
            DataError: The prompts make too few pairs.
        """
        ids = {prompt_of(record).id for data in self.prompts for record in tools.read(data).train}
        asked, most = round(len(ids) * min(self.each, 1)), round(len(ids) * self.each)
        if most < LEAST_PAIRS or asked < LEAST_PROMPTS:
            first = f", {asked} of them in the first batch" if self.each < 1 else ""
            raise DataError(
                "too few pairs can be labelled to learn a score from",
                where=f"steps.{self.step}.resample.label.{self.criterion}",
                value=f"at most {most} pairs, of {len(ids)} prompts{first}",
                allowed=f"{LEAST_PAIRS} pairs or more, of {LEAST_PROMPTS} prompts or more",
                do="give more prompts, more 'pairs' of a prompt's samples, or fewer 'batches'",
            )
        write_json(out / self.result, {"prompts": len(ids), "pairs": most})
