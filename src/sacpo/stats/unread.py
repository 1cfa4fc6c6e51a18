"""Replies that no verdict could be read from: how many of each judge, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from sacpo.data.records import Outcome, Verdict
from sacpo.plain import JsonObject

CURES = {
    "truncated": "raise max_tokens",
    "empty": "raise max_tokens, if the judge thinks before it replies",
    "too_long": "the model's context is too short for them",
    "filtered": "the endpoint will not judge them",
}
"""What can be done about a reason, or what it means."""


def unread_rows(verdicts: Iterable[Verdict]) -> list[JsonObject]:
    """Return every judge by criterion, JSON-ready: how many verdicts were asked for and read, and why others were not.

    Two equal answers are left out: they are a tie by definition, and nobody was asked.

    Args:
        verdicts: Distinct ones.

    Returns:
        Sorted rows: `judge`, `criterion`, `asked`, `read`, and `reasons`, how often by reason ("" where none is known).
    """
    groups: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if not verdict.baseline or verdict.answer_hash != verdict.baseline_hash:
            groups[verdict.judge, verdict.criterion].append(verdict)
    rows = []
    for (judge, criterion), members in sorted(groups.items()):
        reasons = Counter(verdict.reason for verdict in members if verdict.outcome is Outcome.UNPARSED)
        read = len(members) - reasons.total()
        rows.append(
            {
                "judge": judge,
                "criterion": criterion,
                "asked": len(members),
                "read": read,
                "reasons": dict(sorted(reasons.items())),
            }
        )
    return rows


def reasons_text(reasons: Mapping[str, int]) -> str:
    """Return why replies could not be read, in words, the commonest reason first."""
    ordered = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    return "; ".join(
        f"{n} {reason or 'for no known reason'}" + (f" ({CURES[reason]})" if reason in CURES else "")
        for reason, n in ordered
    )
