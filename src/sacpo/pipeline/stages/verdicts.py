"""Verdicts on one model's answers, and what they and the answers measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from sacpo.data.records import Answer, Verdict, read_jsonl, write_jsonl
from sacpo.judging.llm.budget import CostEstimate
from sacpo.judging.llm.files import keep_answers, keep_judged, questions_of
from sacpo.judging.llm.panel import Panel
from sacpo.judging.llm.store import Store
from sacpo.judging.question import Question
from sacpo.judging.verdicts import MEASURES, VERDICTS, judge_answers
from sacpo.measure.measures import measure
from sacpo.pipeline.judges import CriterionJudge
from sacpo.pipeline.stage import JsonStage, Stage
from sacpo.pipeline.tools import Readable, Tools
from sacpo.system.files import write_json

if TYPE_CHECKING:
    from sacpo.pipeline.stages.answers import Answers, KlSamples

    AnswerSource = Answers | Readable[list[Answer]]
    """Where answers come from: a stage, or a file of a single verb."""


@dataclass(frozen=True)
class Verdicts(Stage[list[Verdict]]):
    """Verdicts of every criterion's judge on one model's answers to one prompt set, beside the baseline's.

    Attributes:
        title: The model's name and the prompt set's, as `MODEL/PROMPTS`.
        answers: The model's answers.
        baseline: The baseline's; None: every answer is judged alone.
        judges: One a criterion.
    """

    title: str
    answers: AnswerSource
    baseline: AnswerSource | None
    judges: tuple[CriterionJudge, ...]

    @property
    def name(self) -> str:
        """`judge/MODEL/PROMPTS`."""
        return f"judge/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Judge by one criterion after the other."""
        write_jsonl(out / VERDICTS, self.verdicts(tools)[1])

    def verdicts(self, tools: Tools) -> tuple[list[Answer], list[Verdict]]:
        """Return the answers and the verdicts on them."""
        answers, baseline = self.sides(tools)
        return answers, [v for judge in self.judges for v in judge_answers(judge.make(tools), answers, baseline)]

    def sides(self, tools: Tools) -> tuple[list[Answer], list[Answer] | None]:
        """Return the answers and the baseline's."""
        return tools.read(self.answers), None if self.baseline is None else tools.read(self.baseline)

    def read(self, folder: Path) -> list[Verdict]:
        """Return the verdicts."""
        return read_jsonl(folder / VERDICTS, Verdict)


@dataclass(frozen=True)
class JudgedAlone(Verdicts):
    """The single verb's verdicts, with what they measure beside them."""

    def work(self, out: Path, tools: Tools) -> None:
        """Judge and measure."""
        answers, verdicts = self.verdicts(tools)
        write_jsonl(out / VERDICTS, verdicts)
        write_json(out / MEASURES, {answers[0].model: measure(answers, verdicts)})


@dataclass(frozen=True)
class JudgedByPanel(Verdicts):
    """The single verb's verdicts of language models, asked by every rubric at once.

    What is there is kept in sight while verdicts are missing; the stage is then not finished.
    """

    def work(self, out: Path, tools: Tools) -> None:
        """Ask, keep what was said, and measure once no verdict is missing."""
        questions, panel = self.questions(tools), self.panel(tools)
        keep_answers(out, questions)
        with Store(panel.store, panel.again) as store:
            run = panel.ask(questions, store)
            keep_judged(out, questions, run, panel.asking.orders, store)
        panel.check(run)

    def questions(self, tools: Tools) -> list[Question]:
        """Return what is asked; errors as of `questions_of`."""
        return questions_of(*self.sides(tools))

    def panel(self, tools: Tools) -> Panel:
        """Return the judges of all rubrics as one panel."""
        return Panel.joined([cast(Panel, judge.make(tools)) for judge in self.judges])

    def estimates(self, tools: Tools) -> list[CostEstimate]:
        """Return what it would cost to do it now; nothing is asked or written."""
        return self.panel(tools).estimates(self.questions(tools))


@dataclass(frozen=True)
class Measures(JsonStage):
    """One model measured on every prompt set.

    Attributes:
        title: The model's name.
        answers: By prompt set.
        verdicts: By prompt set.
        kl: By prompt set, where KL is sampled.
    """

    result: ClassVar[str] = MEASURES

    title: str
    answers: Mapping[str, Answers]
    verdicts: Mapping[str, Verdicts]
    kl: Mapping[str, KlSamples]

    @property
    def name(self) -> str:
        """`measure/MODEL`."""
        return f"measure/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Write the measures by prompt set."""
        found = {}
        for prompts, answers in self.answers.items():
            terms = None
            if prompts in self.kl:
                terms = [(row["answer"].prompt.cluster, row["sft"]) for row in tools.read(self.kl[prompts])]
            found[prompts] = measure(tools.read(answers), tools.read(self.verdicts[prompts]), terms)
        write_json(out / MEASURES, found)
