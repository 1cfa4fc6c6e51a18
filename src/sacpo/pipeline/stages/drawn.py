"""Samples that a forecast is made from, the verdicts on them, and what one model says of another one's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sacpo.answer.scoring import kl_terms, score_answers
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.answers import Answers
from sacpo.pipeline.stages.verdicts import Verdicts
from sacpo.pipeline.tools import Tools
from sacpo.system.files import read_json, write_json
from sacpo.theory.judged import Place

RATIOS = "ratios.json"


@dataclass(frozen=True)
class Drawn(Answers):
    """Several answers of a model to each prompt, at temperature 1, for a forecast."""

    @property
    def name(self) -> str:
        """`plan/samples/MODEL/PROMPTS`."""
        return f"plan/samples/{self.title}/{self.set_name}"


@dataclass(frozen=True)
class JudgedDrawn(Verdicts):
    """Verdicts on them, each answer judged alone."""

    @property
    def name(self) -> str:
        """`plan/judged/MODEL/PROMPTS`."""
        return f"plan/judged/{self.title}"


@dataclass(frozen=True)
class LogRatios(Stage[dict[str, dict[Place, float]]]):
    """log pi_before - log pi of samples of a model and of the one before it, in nats.

    Attributes:
        title: The model.
        own, before: Samples of both models.
    """

    title: str
    own: Drawn
    before: Drawn

    @property
    def name(self) -> str:
        """`plan/ratios/MODEL`."""
        return f"plan/ratios/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Score both samples under both models, one model after the other."""
        sets = {"own": tools.read(self.own), "before": tools.read(self.before)}
        answers = [answer for each in sets.values() for answer in each]
        tokenizer, template = tools.tokenizer(self.own.tokenizer, self.own.base)
        own, before = (
            score_answers(tools.load(stage.model, stage.base), tokenizer, answers, template)
            for stage in (self.own, self.before)
        )
        ratios = iter(kl_terms(before, own))
        rows = {name: [[a.prompt.id, a.sample, next(ratios)] for a in each] for name, each in sets.items()}
        write_json(out / RATIOS, rows)

    def read(self, folder: Path) -> dict[str, dict[Place, float]]:
        """Return the log-ratios of the samples of `own` and of `before`, by prompt and number."""
        found = read_json(folder / RATIOS)
        return {name: {(prompt, sample): ratio for prompt, sample, ratio in rows} for name, rows in found.items()}
