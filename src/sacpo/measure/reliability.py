"""How far the judges of one prompt set can be believed, over all models: what stands beside the win rates."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sacpo.data.records import Verdict
from sacpo.plain import JsonMapping, JsonObject
from sacpo.stats.intervals import clustered_rate, win_rate
from sacpo.stats.labels import labellings, ratings
from sacpo.stats.reliability import MANY_UNPARSED
from sacpo.stats.unread import reasons_text, unread_rows
from sacpo.stats.verdicts import judges, unique


def reliability_of(verdicts: Iterable[Verdict], lengths: Mapping[str, int]) -> list[JsonObject]:
    """Return each judge's reliability by criterion, JSON-ready, as `Reliability` of the results schema.

    Judges that compare answers: see `sacpo.stats.reliability`. Of judges that label or rate single answers there are
    the share of unparsed replies and the agreement of repeats.

    Args:
        verdicts: On one prompt set, of any models.
        lengths: Each answer's length by its hash, for the length bias.
    """
    distinct = unique(verdicts)
    compared = [{"kind": "comparison", **judge.to_json()} for judge in judges(distinct, lengths)]
    return _explained([*compared, *label_rows(distinct)], distinct)


def label_rows(distinct: Sequence[Verdict]) -> list[JsonObject]:
    """Return the reliability of judges that label or rate single answers; see `reliability_of`."""
    found: list[JsonObject] = []
    for kind, said in (("label", labellings(distinct)), ("rating", ratings(distinct))):
        judges: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
        for v in said:
            if not v.baseline:
                judges[v.judge, v.criterion].append(v)
        found += [_single(kind, members) for _, members in sorted(judges.items())]
    return found


def _explained(rows: Sequence[JsonObject], verdicts: Sequence[Verdict]) -> list[JsonObject]:
    """Return judges' rows with the reasons where many of their replies could not be read."""
    known = [row for row in unread_rows(verdicts) if any(row["reasons"])]
    why = {(row["judge"], row["criterion"]): reasons_text(row["reasons"]) for row in known}

    def findings(row: JsonMapping) -> list[str]:
        text = why.get((row["judge"], row["criterion"]), "")
        many = text and (row["unparsed_rate"]["value"] or 0.0) > MANY_UNPARSED
        return [f"judge {row['judge']} on {row['criterion']}: not read are {text}"] if many else []

    return [{**row, "findings": [*row["findings"], *findings(row)]} for row in rows]


def _single(kind: str, verdicts: Sequence[Verdict]) -> JsonObject:
    judge, criterion = verdicts[0].judge, verdicts[0].criterion
    unread = clustered_rate([_said(v) is None for v in verdicts], [v.cluster for v in verdicts])
    many = (unread.value or 0.0) > MANY_UNPARSED
    words = f"judge {judge} on {criterion}: {unread.value:.1%} of its replies could not be read"
    return {
        "kind": kind,
        "judge": judge,
        "criterion": criterion,
        "verdicts": len(verdicts),
        "unparsed_rate": unread.to_json(),
        "repeat_agreement": _repeat_agreement(verdicts),
        "findings": [words] if many else [],
    }


def _repeat_agreement(verdicts: Sequence[Verdict]) -> JsonObject:
    """Return the probability that two repeats of one question give the same label, or the same score."""
    asked: dict[tuple[str, str, int, str], list[Verdict]] = defaultdict(list)
    for v in verdicts:
        if _said(v) is not None:
            asked[v.model, v.prompt_id, v.sample, v.answer_hash].append(v)
    repeated = [members for members in asked.values() if len(members) > 1]
    agreeing = [
        sum(math.comb(n, 2) for n in Counter(map(_said, members)).values()) / math.comb(len(members), 2)
        for members in repeated
    ]
    return win_rate(agreeing, [members[0].cluster for members in repeated]).to_json()


def _said(verdict: Verdict) -> str | float | None:
    return verdict.label or verdict.score
