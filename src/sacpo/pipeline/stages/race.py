"""The race: models answer tuning prompts in rounds, and those that clearly violate a bound are dropped early."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sacpo.answer.generate import generate_answers
from sacpo.certify.bounds import Bound
from sacpo.certify.race import rounds, violated
from sacpo.data.answers import ANSWERS
from sacpo.data.records import Answer, Prompt, Verdict, read_jsonl, write_jsonl
from sacpo.judging.verdicts import VERDICTS, judge_answers
from sacpo.merge.source import Checkpoint, ModelSource
from sacpo.pipeline.judges import CriterionJudge
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.answers import Answers, generator
from sacpo.pipeline.stages.data import Prompts
from sacpo.pipeline.stages.verdicts import Verdicts
from sacpo.pipeline.tools import Tools
from sacpo.recipe.schema import BaseSpec, ConstraintSpec, GenerationSpec, RaceSpec
from sacpo.system.files import read_json, write_json

RACE = "race.json"
ROUNDS = "rounds"


@dataclass(frozen=True)
class Race(Stage[dict[str, Any]]):
    """One model's way through the rounds of one prompt set.

    Attributes:
        title: The model's name in the answers.
        model, tokenizer, prompts, set_name, generation, base, seed: As of `Answers`.
        baseline: The baseline's answers, which every answer is judged beside.
        judges: Of the criteria that bounds need.
        constraints: The bounds.
        race: How the rounds go.
        order: The seed of the prompts' order, the same for all models.
    """

    title: str
    model: ModelSource
    tokenizer: Checkpoint
    prompts: Prompts
    set_name: str
    generation: GenerationSpec
    base: BaseSpec
    seed: int
    baseline: Answers
    judges: tuple[CriterionJudge, ...]
    constraints: tuple[ConstraintSpec, ...]
    race: RaceSpec
    order: int

    @property
    def name(self) -> str:
        """`race/MODEL/PROMPTS`."""
        return f"race/{self.title}/{self.set_name}"

    def work(self, out: Path, tools: Tools) -> None:
        """Answer and judge round by round, until a bound is clearly violated or all prompts are answered."""
        prompts, bounds = tools.read(self.prompts), [bound_of(one) for one in self.constraints]
        answers: dict[int, Answer] = {}
        verdicts: list[Verdict] = []
        looks: list[dict[str, Any]] = []
        dropped = False
        for number, places in enumerate(rounds(prompts, bounds, self.race.first, self.order)):
            asked = [prompts[place] for place in places]
            made = self._answers(asked, out / ROUNDS / str(number), tools)
            answers |= dict(zip(places, made, strict=True))
            verdicts += self._verdicts(made, tools)
            checks = violated(verdicts, bounds, prompts, self.race.confidence)
            looks.append({"prompts": len(answers), "bounds": checks})
            if dropped := any(check["violated"] for check in checks):
                break
        write_jsonl(out / ANSWERS, [answers[place] for place in sorted(answers)])
        write_jsonl(out / VERDICTS, in_order(verdicts, [answers[place] for place in sorted(answers)]))
        found = {"model": self.title, "prompts": self.set_name, "dropped": dropped, "of": len(prompts)}
        write_json(out / RACE, {**found, "answered": len(answers), "looks": looks})
        shutil.rmtree(out / ROUNDS)

    def _answers(self, prompts: Sequence[Prompt], out: Path, tools: Tools) -> list[Answer]:
        tokenizer, template = tools.tokenizer(self.tokenizer, self.base)
        options: dict[str, Any] = {"model_name": self.title, "seed": self.seed, "out": out, "progress": tools.progress}
        with generator(self.model, self.base, self.generation, out, tools) as model:
            return generate_answers(model, tokenizer, prompts, template, self.generation, **options)

    def _verdicts(self, answers: Sequence[Answer], tools: Tools) -> list[Verdict]:
        baseline = tools.read(self.baseline)
        return [v for judge in self.judges for v in judge_answers(judge.make(tools), answers, baseline)]

    def read(self, folder: Path) -> dict[str, Any]:
        """Return how it went."""
        return read_json(folder / RACE)


@dataclass(frozen=True)
class RacedAnswers(Answers):
    """The answers of a model that was not dropped: those of its race."""

    race: Race = field(kw_only=True)

    def work(self, out: Path, tools: Tools) -> None:
        """Take them."""
        write_jsonl(out / ANSWERS, read_jsonl(tools.at(self.race) / ANSWERS, Answer))


@dataclass(frozen=True)
class RacedVerdicts(Verdicts):
    """Verdicts on a model that was not dropped: those of its race, and of judges that the race did not ask."""

    race: Race = field(kw_only=True)

    def verdicts(self, tools: Tools) -> tuple[list[Answer], list[Verdict]]:
        """Return the answers and the verdicts on them, as without a race."""
        answers, known = tools.read(self.answers), read_jsonl(tools.at(self.race) / VERDICTS, Verdict)
        baseline = None if self.baseline is None else tools.read(self.baseline)
        asked = {judge.criterion for judge in self.race.judges}
        found: list[Verdict] = []
        for judge in self.judges:
            if judge.criterion in asked:
                found += [verdict for verdict in known if verdict.criterion == judge.criterion]
            else:
                found += judge_answers(judge.make(tools), answers, baseline)
        return answers, found


def bound_of(constraint: ConstraintSpec) -> Bound:
    """Return a constraint as a bound that can be tested."""
    if constraint.at_most is not None:
        return Bound(constraint.metric, constraint.criterion, "at_most", constraint.at_most)
    assert constraint.at_least is not None
    return Bound(constraint.metric, constraint.criterion, "at_least", constraint.at_least)


def in_order(verdicts: Sequence[Verdict], answers: Sequence[Answer]) -> list[Verdict]:
    """Return verdicts in the order in which all answers would have been judged at once: by criterion, then answer."""
    places = {(answer.prompt.id, answer.sample): place for place, answer in enumerate(answers)}
    criteria = {criterion: i for i, criterion in enumerate(dict.fromkeys(v.criterion for v in verdicts))}
    return sorted(verdicts, key=lambda v: (criteria[v.criterion], places[v.prompt_id, v.sample]))
