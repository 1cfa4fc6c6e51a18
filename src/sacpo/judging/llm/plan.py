"""What is to be asked: every judge, question, order and repeat, each under its content key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sacpo.data.records import Outcome, Verdict
from sacpo.errors import DataError
from sacpo.judging.llm.budget import Budget, CostEstimate, estimated_tokens
from sacpo.judging.llm.judge import LlmJudgeConfig
from sacpo.judging.llm.render import messages
from sacpo.judging.parse import Reading, Unparsed
from sacpo.judging.question import Question, verdict_on
from sacpo.system.files import content_key

AB, BA = "ab", "ba"
KEY_VERSION = 1


@dataclass(frozen=True)
class Asking:
    """How a panel is asked.

    Attributes:
        orders: "ab", "ba" or both, for pairwise rubrics.
        repeats: How often each question is asked.
        concurrency: Requests under way at once, for each judge and rubric.
        budget: Limits on one call.
    """

    orders: Sequence[str] = (AB, BA)
    repeats: int = 1
    concurrency: int = 16
    budget: Budget = field(default_factory=Budget)


BY_DEFAULT = Asking()


@dataclass(frozen=True)
class Ask:
    """One thing to ask; those with the same key are asked once."""

    judge: LlmJudgeConfig
    question: Question
    order: str
    repeat: int
    key: str

    @property
    def settled(self) -> bool:
        """Whether both answers are the same text: a tie, and nobody is asked."""
        baseline = self.question.baseline if self.judge.rubric.pairwise else None
        return baseline is not None and baseline.text == self.question.answer.text

    def verdict(self, said: Reading | Unparsed) -> Verdict:
        """Return the verdict on this question that a reply amounts to."""
        if isinstance(said, Unparsed):
            return self._verdict(outcome=Outcome.UNPARSED, reason=said.reason)
        if not self.judge.rubric.pairwise:
            return self._verdict(label=said.label, score=said.rating)
        own = "A" if self.order == AB else "B"
        outcome = Outcome.TIE if said.winner == "tie" else Outcome.WIN if said.winner == own else Outcome.LOSS
        return self._verdict(outcome=outcome, score=None if said.scores is None else said.scores[self.order == BA])

    def _verdict(self, **said: object) -> Verdict:
        asked = {"order": self.order, "repeat": self.repeat}
        return verdict_on(self.question, self.judge, compared=self.judge.rubric.pairwise, **asked, **said)


def plan(
    judges: Sequence[LlmJudgeConfig], questions: Sequence[Question], orders: Sequence[str], repeats: int
) -> list[Ask]:
    """Return everything to ask, both orders of a question next to each other.

    Args:
        judges: A panel; each (name, criterion) once.
        questions: What to judge; a pairwise rubric needs their baselines.
        orders: "ab", "ba" or both, for pairwise rubrics.
        repeats: How often each question is asked.

    Raises:
        DataError: The arguments do not fit together.
    """
    _check(judges, questions, orders, repeats)
    asks = []
    for judge in judges:
        settings = {"version": KEY_VERSION, "rubric": judge.rubric.key, "judge": judge.settings()}
        for question in questions:
            for repeat in range(repeats):
                for order in orders if judge.rubric.pairwise else ("",):
                    asks.append(Ask(judge, question, order, repeat, _key(settings, judge, question, order, repeat)))
    return asks


def by_key(asks: Sequence[Ask]) -> dict[str, list[Ask]]:
    """Return the asks of each content key, in order of first appearance, without those that are settled."""
    groups: dict[str, list[Ask]] = defaultdict(list)
    for ask in asks:
        if not ask.settled:
            groups[ask.key].append(ask)
    return dict(groups)


def estimates(asks: Sequence[Ask], known: frozenset[str] | set[str], budget: Budget) -> list[CostEstimate]:
    """Return what each judge's open requests will cost, judges in order of first appearance."""
    groups: dict[tuple[str, str], dict[str, Ask]] = defaultdict(dict)
    for ask in asks:
        if not ask.settled:
            groups[ask.judge.name, ask.judge.criterion].setdefault(ask.key, ask)
    found = []
    for (name, criterion), members in groups.items():
        judge = next(iter(members.values())).judge
        todo = [ask for key, ask in members.items() if key not in known]
        prompt = sum(
            estimated_tokens(messages(judge.rubric, ask.question, ask.order, structured=judge.spec.structured))
            for ask in todo
        )
        completion = len(todo) * judge.spec.max_tokens
        price = budget.prices.get(judge.spec.model)
        cost = price.of(prompt, completion) if price else None
        found.append(CostEstimate(name, criterion, len(members) - len(todo), len(todo), prompt, completion, cost))
    return found


def _key(settings: dict[str, object], judge: LlmJudgeConfig, question: Question, order: str, repeat: int) -> str:
    baseline = question.baseline if judge.rubric.pairwise else None
    return content_key(
        {
            **settings,
            "prompt": [[message.role, message.content] for message in question.prompt.messages],
            "answer": question.answer.text,
            "baseline": None if baseline is None else baseline.text,
            "order": order,
            "repeat": repeat,
        }
    )


def _check(
    judges: Sequence[LlmJudgeConfig], questions: Sequence[Question], orders: Sequence[str], repeats: int
) -> None:
    names = [(judge.name, judge.criterion) for judge in judges]
    if not judges or len(set(names)) < len(names):
        raise DataError(
            "a panel needs judges with names of their own for each criterion",
            value=names,
            do="give judges of the same model different names",
        )
    if not orders or len(set(orders)) < len(orders) or not set(orders) <= {AB, BA}:
        raise DataError("no such orders", value=list(orders), allowed=[AB, BA])
    if repeats < 1:
        raise DataError("a question is asked at least once", where="repeats", value=repeats)
    if any(judge.rubric.pairwise for judge in judges):
        lone = [question.prompt.id for question in questions if question.baseline is None]
        if lone:
            raise DataError(
                "a pairwise rubric compares with a baseline's answers, and questions have none",
                where=f"prompts {', '.join(lone[:5])}",
                do="give the baseline's answers, or use a rubric of kind label or rating",
            )
