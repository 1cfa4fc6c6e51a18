"""Which of two answers is preferred, as a probability: from scores of both, or from verdicts that compare them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from sacpo.data.records import Answer, Outcome, Verdict
from sacpo.stats.intervals import OUTCOME_VALUES


def bradley_terry(first: float | None, second: float | None, scale: float) -> float | None:
    """Return sigmoid(scale (s1 - s2)), the Bradley-Terry model of section 3 of the paper; None without both scores."""
    if first is None or second is None or not math.isfinite(first - second):
        return None
    return 1 / (1 + math.exp(-max(min(scale * (first - second), 60.0), -60.0)))


def preferences(pairs: Sequence[tuple[Answer, Answer]], verdicts: Sequence[Verdict]) -> list[float | None]:
    """Return for each pair the probability that the first answer is preferred.

    It is the mean over judges of the mean over orders of the mean over repeats; None where a judge was not read in an
    order in which it was asked, or where nobody said anything.
    """
    said: dict[tuple[str, str, str], dict[str, dict[str, list[float | None]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for verdict in verdicts:
        key = verdict.prompt_id, verdict.answer_hash, verdict.baseline_hash
        said[key][verdict.judge][verdict.order].append(_value(verdict))
    found = []
    for first, second in pairs:
        judges = said.get((first.prompt.id, first.hash, second.hash), {})
        found.append(_mean([_mean([_of_read(values) for values in orders.values()]) for orders in judges.values()]))
    return found


def _value(verdict: Verdict) -> float | None:
    if verdict.probability is not None:
        return verdict.probability
    outcome = verdict.outcome
    return None if outcome is None or outcome is Outcome.UNPARSED else OUTCOME_VALUES[outcome]


def _of_read(values: Sequence[float | None]) -> float | None:
    """Return the mean of the repeats that were read."""
    return _mean([value for value in values if value is not None])


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None where one is missing."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None
