"""A panel as a judge like any other: it gives every verdict or none, and what it was told stays in a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from sacpo.data.records import Verdict
from sacpo.errors import Unfinished
from sacpo.judging.llm.budget import CostEstimate, Usage
from sacpo.judging.llm.client import Manner
from sacpo.judging.llm.judge import LlmJudgeConfig
from sacpo.judging.llm.plan import Asking, estimates, plan
from sacpo.judging.llm.run import JudgeRun, Missing, judge_llm
from sacpo.judging.llm.store import Store
from sacpo.judging.llm.work import BUDGET
from sacpo.judging.question import Question
from sacpo.system.progress import QUIET, Progress

REASONS_SHOWN = 3


class Panel:
    """Several language models that judge by one criterion, or by several at once.

    Args:
        judges: The panel: models, each with its rubric.
        store: The SQLite file of verdicts.
        asking: How; its budget is what the whole command may use.
        spent: What it has used so far; what this panel uses is added.
        progress: Where to report.
        again: The unparsed verdicts that are asked again; see `Store`.
    """

    def __init__(
        self,
        judges: Sequence[LlmJudgeConfig],
        store: Path,
        *,
        asking: Asking,
        spent: list[Usage],
        progress: Progress = QUIET,
        again: dict[str, int] | None = None,
    ) -> None:
        self.judges, self.store, self.again = list(judges), store, again
        self.asking, self.spent, self.progress = asking, spent, progress
        self._manners: dict[str, Manner] = {}

    @classmethod
    def joined(cls, panels: Sequence[Panel]) -> Self:
        """Return panels of one command as one, that is asked by all criteria at once: judge by judge."""
        first = panels[0]
        judges = [judge for same in zip(*(panel.judges for panel in panels), strict=True) for judge in same]
        return cls(
            judges,
            first.store,
            asking=first.asking,
            spent=first.spent,
            progress=first.progress,
            again=first.again,
        )

    @property
    def name(self) -> str:
        """All judges' names."""
        return ", ".join(judge.name for judge in self.judges)

    @property
    def criterion(self) -> str:
        """What it judges by."""
        return self.judges[0].criterion

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        """Return every judge's verdicts on the questions, in every order and repeat.

        Raises:
            Unfinished: A verdict is missing, because the budget is spent or an endpoint failed; what is there is kept.
        """
        with Store(self.store, self.again) as store:
            run = self.ask(questions, store)
        self.check(run)
        return run.verdicts

    def ask(self, questions: Sequence[Question], store: Store) -> JudgeRun:
        """Return what the panel says, and what is missing; errors as of `judge_llm`."""
        run = judge_llm(
            self.judges,
            questions,
            store,
            asking=replace(self.asking, budget=self.asking.budget.after(self.spent)),
            progress=self.progress,
            manners=self._manners,
        )
        self.spent += run.usage.values()
        return run

    def check(self, run: JudgeRun) -> None:
        """Check that no verdict is missing; errors as of `judge`."""
        if run.missing:
            raise incomplete(run.missing, len(run.verdicts), self.store)

    def estimates(self, questions: Sequence[Question]) -> list[CostEstimate]:
        """Return what it would cost to ask the panel now; nothing is asked or written."""
        asks = plan(self.judges, questions, self.asking.orders, self.asking.repeats)
        known: set[str] = set()
        if self.store.is_file():
            with Store(self.store, self.again) as store:
                known = store.keys()
        return estimates(asks, known, self.asking.budget)


def incomplete(missing: Sequence[Missing], verdicts: int, where: Path) -> Unfinished:
    """Return the error that says which verdicts are missing, why, and how to go on."""
    reasons = Counter(f"{one.judge} on {one.criterion}: {one.reason}" for one in missing)
    shown = [f"{n} x {reason}" for reason, n in reasons.most_common(REASONS_SHOWN)]
    shown += ["..."] if len(reasons) > REASONS_SHOWN else []
    spent = any(one.reason == BUDGET for one in missing)
    return Unfinished(
        f"{len(missing)} of {len(missing) + verdicts} verdicts are missing"
        + (": the budget is spent" if spent else ""),
        where=where,
        value="; ".join(shown),
        do="the same command goes on from here; what was answered is kept and not paid again"
        + ("" if spent else ", once the endpoint answers"),
    )
