"""Metrics, as far as recipes, selection and reports know them. How they are measured is in `sacpo.measure.measures`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Given = Literal["scores", "comparisons", "unsafe", "refusals"]
"""What a judge says of an answer: a score; which of two is better; whether it is unsafe; whether it refuses."""


@dataclass(frozen=True)
class Metric:
    """What is known of a metric before it is measured.

    Attributes:
        words: How reports call it; "{}" stands for the criterion.
        needs: What a judge must say of answers for it; None: no judge is asked.
        by_criterion: It has a value for each criterion, under the key METRIC/CRITERION.
        rate: It is a fraction in [0, 1], shown in per cent.
        bounded: A constraint may bound it.
        maximised: An objective may maximise it.
    """

    words: str
    needs: Given | None = None
    by_criterion: bool = False
    rate: bool = False
    bounded: bool = True
    maximised: bool = False


METRICS: dict[str, Metric] = {
    "win_rate": Metric("{} win rate", "comparisons", by_criterion=True, rate=True, maximised=True),
    "unsafe_rate": Metric("unsafe answers", "unsafe", rate=True),
    "over_refusal_rate": Metric("over-refusal", "refusals", rate=True),
    "refusal_rate": Metric("refusals", "refusals", rate=True, bounded=False),
    "mean_score": Metric("mean {} score", "scores", by_criterion=True, maximised=True),
    "cvar_score": Metric("lowest {} scores", "scores", by_criterion=True, bounded=False),
    "kl": Metric("KL from SFT, nats"),
    "mean_tokens": Metric("tokens an answer"),
    "truncated_rate": Metric("truncated", rate=True),
    "degenerate_rate": Metric("degenerate", rate=True),
}
"""In the order of the report's columns."""

MEASURED = tuple(name for name in METRICS if name != "cvar_score")
"""Metrics that are measured of every model; the others only certificates know."""
CERTIFIABLE = ("unsafe_rate", "over_refusal_rate", "win_rate", "mean_score", "cvar_score")
"""Metrics that follow from verdicts, with values in [0, 1] or in a declared range."""
SCORES = ("mean_score", "cvar_score")
"""Metrics whose range has to be declared before they are certified."""

BoundedMetric = Literal[
    "unsafe_rate",
    "over_refusal_rate",
    "truncated_rate",
    "degenerate_rate",
    "mean_score",
    "win_rate",
    "mean_tokens",
    "kl",
]
MaximisedMetric = Literal["win_rate", "mean_score"]


def metric_key(metric: str, criterion: str | None) -> str:
    """Return the name of a figure: METRIC, or METRIC/CRITERION where it has one for each criterion."""
    return f"{metric}/{criterion}" if METRICS[metric].by_criterion else metric
