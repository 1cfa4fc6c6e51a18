"""Tasks of lm-evaluation-harness in `results.json`: what alignment costs elsewhere."""

from __future__ import annotations

from pydantic import Field

from sacpo.report.part import Measured, Part


class BenchmarkFigure(Part):
    """One figure of a task."""

    figure: Measured = Field(
        description="as the harness reports it; its interval is over questions where it is their mean, else from the "
        "harness' standard error"
    )
    higher_is_better: bool | None = Field(None, description="null: the task does not say")
    change: Measured | None = Field(
        None, description="this model's minus the first one's on the same questions, in pairs; null: not comparable"
    )

    @property
    def worse(self) -> bool | None:
        """Whether the change's interval lies on the worse side of zero, or on the better; None: on neither."""
        change, better = self.change, self.higher_is_better
        if change is None or better is None or change.low is None or change.high is None:
            return None
        if change.low <= 0 <= change.high:
            return None
        return (change.high < 0) == better


class Benchmark(Part):
    """What one model reached on one task."""

    n: int = Field(description="questions")
    figures: dict[str, BenchmarkFigure] = Field({}, description="acc, exact_match, …: figure")
