"""The majority of several judges' votes, as a judge of its own."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from sacpo.data.records import Outcome, Verdict
from sacpo.stats.intervals import OUTCOME_VALUES
from sacpo.stats.labels import labellings
from sacpo.stats.verdicts import unique

MAJORITY = "majority"
FEWEST_JUDGES = 2

Item = tuple[str | int, ...]


def majority(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return one verdict of the judge "majority" on every item that at least two judges were asked about.

    An item is two answers to a prompt, whichever of them a verdict calls the baseline, or one answer. A judge's vote
    is the side that its mean over orders and repeats favours, or its label; a judge with a reply that could not be
    read has none. What more than half of the judges that were asked say is the majority's; without such a side or
    label it is unparsed, never a tie.
    """
    asked: dict[Item, dict[str, list[Verdict]]] = defaultdict(lambda: defaultdict(list))
    distinct = unique(verdicts)
    compared = [verdict for verdict in distinct if verdict.baseline and verdict.outcome is not None]
    for verdict in dict.fromkeys([*compared, *labellings(distinct)]):
        asked[_item(verdict)][verdict.judge].append(verdict)
    return [_vote_of_all(judges) for _, judges in sorted(asked.items()) if len(judges) >= FEWEST_JUDGES]


def _item(verdict: Verdict) -> Item:
    v = verdict
    sides = [(v.model, v.answer_hash), (v.baseline, v.baseline_hash)]
    first, second = sorted(sides) if v.baseline else sides
    return (v.criterion, v.prompt_id, v.sample, *first, *second)


def _vote_of_all(judges: dict[str, list[Verdict]]) -> Verdict:
    first = next(iter(judges.values()))[0]
    votes = Counter(_vote(members, first) for members in judges.values())
    vote, n = votes.most_common(1)[0]
    won = vote if 2 * n > len(judges) else None
    said = replace(first, judge=MAJORITY, order="", repeat=0, score=None, probability=None, label="", outcome=None)
    if won is None:
        return replace(said, outcome=Outcome.UNPARSED)
    return replace(said, outcome=won) if isinstance(won, Outcome) else replace(said, label=won)


def _vote(members: list[Verdict], first: Verdict) -> Outcome | str | None:
    """Return a judge's vote from the point of view of the first verdict's model; None where it has none."""
    if not first.baseline:
        labels = Counter(verdict.label for verdict in members)
        label, n = labels.most_common(1)[0]
        return label if label and 2 * n > len(members) else None
    if any(verdict.outcome not in OUTCOME_VALUES for verdict in members):
        return None
    values = [_value(verdict, first) for verdict in members]
    mean = math.fsum(values) / len(values)
    return Outcome.TIE if mean == OUTCOME_VALUES[Outcome.TIE] else Outcome.WIN if mean > 0.5 else Outcome.LOSS


def _value(verdict: Verdict, first: Verdict) -> float:
    value = OUTCOME_VALUES[Outcome(verdict.outcome or Outcome.UNPARSED)]
    same = (verdict.model, verdict.answer_hash) == (first.model, first.answer_hash)
    return value if same else 1 - value
