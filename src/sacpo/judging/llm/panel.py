"""A panel as a judge like any other: it gives every verdict or none, and what it was told stays in a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sacpo.data.records import Verdict
from sacpo.errors import RunError
from sacpo.judging.llm.budget import Usage
from sacpo.judging.llm.client import Manner
from sacpo.judging.llm.judge import LlmJudgeConfig
from sacpo.judging.llm.plan import Asking
from sacpo.judging.llm.run import BUDGET, Missing, judge_llm
from sacpo.judging.llm.store import Store
from sacpo.judging.question import Question
from sacpo.system.progress import QUIET, Progress

REASONS_SHOWN = 3


class Panel:
    """Several language models that judge by one criterion.

    Args:
        judges: The panel, all with the same criterion.
        store: The SQLite file of verdicts.
        asking: How; its budget is what the whole command may use.
        spent: What it has used so far; what this panel uses is added.
        progress: Where to report.
    """

    def __init__(
        self,
        judges: Sequence[LlmJudgeConfig],
        store: Path,
        *,
        asking: Asking,
        spent: list[Usage],
        progress: Progress = QUIET,
    ) -> None:
        self.judges, self.store = list(judges), store
        self.asking, self.spent, self.progress = asking, spent, progress
        self._manners: dict[str, Manner] = {}

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
            RunError: A verdict is missing, because the budget is spent or an endpoint failed; what is there is kept.
        """
        with Store(self.store) as store:
            run = judge_llm(
                self.judges,
                questions,
                store,
                asking=replace(self.asking, budget=self.asking.budget.after(self.spent)),
                progress=self.progress,
                manners=self._manners,
            )
        self.spent += run.usage.values()
        if run.missing:
            raise incomplete(run.missing, len(run.verdicts), self.store)
        return run.verdicts


def incomplete(missing: Sequence[Missing], verdicts: int, where: Path) -> RunError:
    """Return the error that says which verdicts are missing, why, and how to go on."""
    reasons = Counter(f"{one.judge} on {one.criterion}: {one.reason}" for one in missing)
    shown = [f"{n} x {reason}" for reason, n in reasons.most_common(REASONS_SHOWN)]
    shown += ["..."] if len(reasons) > REASONS_SHOWN else []
    spent = any(one.reason == BUDGET for one in missing)
    return RunError(
        f"{len(missing)} of {len(missing) + verdicts} verdicts are missing"
        + (": the budget is spent" if spent else ""),
        where=where,
        value="; ".join(shown),
        do="the same command goes on from here; what was answered is kept and not paid again"
        + ("" if spent else ", once the endpoint answers"),
    )
