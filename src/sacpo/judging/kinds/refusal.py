"""`kind: refusal`: the refusal detector."""

from __future__ import annotations

from sacpo.judging.kinds import Parts
from sacpo.judging.question import Judge
from sacpo.judging.refusal import RefusalJudge


def make(parts: Parts) -> Judge:
    """Return the detector; its verdicts are filed under the recipe's criterion."""
    return RefusalJudge(criterion=parts.criterion)
