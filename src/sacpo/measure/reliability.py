"""How far the judges of one prompt set can be believed, over all models: what stands beside the win rates."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sacpo.data.records import Outcome, Verdict
from sacpo.plain import JsonMapping, JsonObject
from sacpo.stats.intervals import clustered_rate, win_rate
from sacpo.stats.reliability import MANY_UNPARSED
from sacpo.stats.unread import reasons_text, unread_rows
from sacpo.stats.verdicts import judges, unique


def reliability_of(verdicts: Iterable[Verdict], lengths: Mapping[str, int]) -> list[JsonObject]:
    """Return each judge's reliability by criterion, JSON-ready, as `Reliability` of the results schema.

    Judges that compare answers: see `sacpo.stats.reliability`. Of judges that label single answers there are the share
    of unparsed replies and the agreement of repeats.

    Args:
        verdicts: On one prompt set, of any models.
        lengths: Each answer's length by its hash, for the length bias.
    """
    distinct = unique(verdicts)
    compared = [{"kind": "comparison", **judge.to_json()} for judge in judges(distinct, lengths)]
    return _explained([*compared, *label_rows(distinct)], distinct)


def label_rows(distinct: Sequence[Verdict]) -> list[JsonObject]:
    """Return the reliability of judges that label single answers; see `reliability_of`."""
    labelled: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for v in distinct:
        if not v.baseline and (v.label or v.outcome is Outcome.UNPARSED):
            labelled[v.judge, v.criterion].append(v)
    return [_labels(members) for _, members in sorted(labelled.items())]


def _explained(rows: Sequence[JsonObject], verdicts: Sequence[Verdict]) -> list[JsonObject]:
    """Return judges' rows with the reasons where many of their replies could not be read."""
    known = [row for row in unread_rows(verdicts) if any(row["reasons"])]
    why = {(row["judge"], row["criterion"]): reasons_text(row["reasons"]) for row in known}

    def findings(row: JsonMapping) -> list[str]:
        text = why.get((row["judge"], row["criterion"]), "")
        many = text and (row["unparsed_rate"]["value"] or 0.0) > MANY_UNPARSED
        return [f"judge {row['judge']} on {row['criterion']}: not read are {text}"] if many else []

    return [{**row, "findings": [*row["findings"], *findings(row)]} for row in rows]


def _labels(verdicts: Sequence[Verdict]) -> JsonObject:
    judge, criterion = verdicts[0].judge, verdicts[0].criterion
    unread = clustered_rate([not v.label for v in verdicts], [v.cluster for v in verdicts])
    many = (unread.value or 0.0) > MANY_UNPARSED
    words = f"judge {judge} on {criterion}: {unread.value:.1%} of its replies could not be read"
    return {
        "kind": "label",
        "judge": judge,
        "criterion": criterion,
        "verdicts": len(verdicts),
        "unparsed_rate": unread.to_json(),
        "repeat_agreement": _repeat_agreement(verdicts),
        "findings": [words] if many else [],
    }


def _repeat_agreement(verdicts: Sequence[Verdict]) -> JsonObject:
    """Return the probability that two repeats of one question give the same label."""
    asked: dict[tuple[str, str, int, str], list[Verdict]] = defaultdict(list)
    for v in verdicts:
        if v.label:
            asked[v.model, v.prompt_id, v.sample, v.answer_hash].append(v)
    repeated = [members for members in asked.values() if len(members) > 1]
    agreeing = [
        sum(math.comb(n, 2) for n in Counter(v.label for v in members).values()) / math.comb(len(members), 2)
        for members in repeated
    ]
    return win_rate(agreeing, [members[0].cluster for members in repeated]).to_json()
