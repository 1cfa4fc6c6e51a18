"""How far a judge can be believed: positional flips, repeats, ties, unread replies, length bias.

A judge that always names the answer shown first gives every model a win rate of .5 once both orders are averaged; the
figures here expose it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from sacpo.data.records import Outcome, Verdict
from sacpo.plain import JsonObject
from sacpo.stats.agreement import Label, agreement_rate, cohen_kappa
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import OUTCOME_VALUES, clustered_rate, win_rate

AB, BA = "ab", "ba"
MANY_UNPARSED = 0.05
MANY_TIES = 0.9
FOLLOWS_POSITION = 0.9
FEW_AGREEING_REPEATS = 0.8
ENOUGH_ITEMS = 8


@dataclass(frozen=True, slots=True)
class JudgeReliability:
    """One judge's reliability for one criterion, over all models; every interval is clustered by prompt.

    Attributes:
        verdicts: Distinct verdicts, unparsed ones included.
        unparsed_rate: Share of replies that could not be read.
        tie_rate: Share of ties among those read.
        first_share: Share of the answer shown first (ties half), where both orders were read: .5 without bias.
        flip_rate: Share of questions whose outcome changes with the order.
        order_kappa: Cohen's kappa of the outcomes in the two orders.
        repeat_agreement: Probability that two repeats of one question in one order agree.
        longer_share: Share of the longer answer (ties half); None when the lengths are not known.
        findings: What a reader must know, in sentences; empty when nothing stands out.
    """

    judge: str
    criterion: str
    verdicts: int
    unparsed_rate: Estimate
    tie_rate: Estimate
    first_share: Estimate
    flip_rate: Estimate
    order_kappa: Estimate
    repeat_agreement: Estimate
    longer_share: Estimate | None
    findings: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """Return the record as a JSON-ready dictionary."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: value.to_json() if isinstance(value, Estimate) else list(value) if name == "findings" else value
            for name, value in plain.items()
        }


@dataclass(frozen=True, slots=True)
class BothOrders:
    """A judge's accuracy against gold labels in both orders; an unread winner counts as wrong.

    Attributes:
        accuracy: Of each order.
        both_correct: Right in both orders.
        agreement: Same winner in both orders, among the items read in both.
        same_reply: The same over all items, an unread reply being a label of its own, as LLMBar publishes it.
    """

    accuracy: tuple[Estimate, Estimate]
    both_correct: Estimate
    agreement: Estimate
    same_reply: Estimate


def both_orders(
    straight: Sequence[Label],
    swapped: Sequence[Label],
    gold: Sequence[Hashable],
    clusters: Sequence[Hashable] | None = None,
) -> BothOrders:
    """Score a judge's winners in both orders against gold labels (winners named by answer, not by position).

    Raises:
        DataError: The sequences differ in length.
    """
    agreement = agreement_rate(straight, swapped, clusters)
    right = [[winner == label for winner, label in zip(winners, gold, strict=True)] for winners in (straight, swapped)]
    both = [a and b for a, b in zip(*right, strict=True)]
    unread = [sum(winner is None for winner in winners) for winners in (straight, swapped)]
    return BothOrders(
        (
            clustered_rate(right[0], clusters, unparsed=unread[0]),
            clustered_rate(right[1], clusters, unparsed=unread[1]),
        ),
        clustered_rate(both, clusters, unparsed=agreement.unparsed),
        agreement,
        clustered_rate([a == b for a, b in zip(straight, swapped, strict=True)], clusters),
    )


def judge_reliability(verdicts: Sequence[Verdict], lengths: Mapping[str, int] | None = None) -> JudgeReliability:
    """Measure one judge on one criterion.

    Args:
        verdicts: Distinct pairwise verdicts of one judge and criterion, at least one.
        lengths: Each answer's length by its hash, in any unit.
    """
    read = [verdict for verdict in verdicts if verdict.outcome in OUTCOME_VALUES]
    pairs = _ordered_pairs(read)
    names = [pair[0].cluster for pair in pairs]
    outcomes = [(ab.outcome, ba.outcome) for ab, ba in pairs]
    figures = {
        "unparsed_rate": clustered_rate([v.outcome is Outcome.UNPARSED for v in verdicts], _clusters(verdicts)),
        "tie_rate": clustered_rate([v.outcome is Outcome.TIE for v in read], _clusters(read)),
        "first_share": win_rate([(_value(ab) + 1 - _value(ba)) / 2 for ab, ba in pairs], names),
        "flip_rate": clustered_rate([ab is not ba for ab, ba in outcomes], names),
        "order_kappa": cohen_kappa([ab for ab, _ in outcomes], [ba for _, ba in outcomes], names),
        "repeat_agreement": _repeat_agreement(read),
    }
    longer = None if lengths is None else longer_share(read, lengths)
    findings = _findings(verdicts, figures, longer)
    return JudgeReliability(
        verdicts[0].judge, verdicts[0].criterion, len(verdicts), **figures, longer_share=longer, findings=findings
    )


def longer_share(verdicts: Sequence[Verdict], lengths: Mapping[str, int]) -> Estimate:
    """Estimate how often the longer of two answers is preferred (ties half); equally long ones are left out.

    Verdicts whose answers have no known length count as unparsed.
    """
    values, names, unknown = [], [], 0
    for verdict in verdicts:
        ours, theirs = lengths.get(verdict.answer_hash), lengths.get(verdict.baseline_hash)
        if ours is None or theirs is None:
            unknown += 1
        elif ours != theirs and verdict.outcome in OUTCOME_VALUES:
            values.append(_value(verdict) if ours > theirs else 1 - _value(verdict))
            names.append(verdict.cluster)
    return win_rate(values, names, unparsed=unknown)


def _value(verdict: Verdict) -> float:
    return OUTCOME_VALUES[verdict.outcome or Outcome.UNPARSED]


def _clusters(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.cluster for verdict in verdicts]


_ASKED = ("model", "baseline", "prompt_id", "sample", "answer_hash", "baseline_hash")
_asked_once = attrgetter(*_ASKED, "repeat")
_asked_in_order = attrgetter(*_ASKED, "order")


def _ordered_pairs(read: Sequence[Verdict]) -> list[tuple[Verdict, Verdict]]:
    """Return the verdicts on the same answers in both orders, repeat by repeat."""
    straight = {_asked_once(v): v for v in read if v.order == AB}
    swapped = {_asked_once(v): v for v in read if v.order == BA}
    return [(straight[key], swapped[key]) for key in sorted(straight.keys() & swapped.keys())]


def _repeat_agreement(read: Sequence[Verdict]) -> Estimate:
    questions: dict[tuple[str | int, ...], list[Verdict]] = defaultdict(list)
    for verdict in read:
        questions[_asked_in_order(verdict)].append(verdict)
    repeated = [members for members in questions.values() if len(members) > 1]
    agreeing = []
    for members in repeated:
        counts = [sum(v.outcome is outcome for v in members) for outcome in OUTCOME_VALUES]
        agreeing.append(sum(math.comb(count, 2) for count in counts) / math.comb(len(members), 2))
    return win_rate(agreeing, [members[0].cluster for members in repeated])


def _findings(verdicts: Sequence[Verdict], figures: Mapping[str, Estimate], longer: Estimate | None) -> tuple[str, ...]:
    name = f"judge {verdicts[0].judge} on {verdicts[0].criterion}"
    found = [_position_finding(verdicts, figures), _chance_finding(figures["order_kappa"])]
    unparsed, ties, repeats = figures["unparsed_rate"], figures["tie_rate"], figures["repeat_agreement"]
    if (unparsed.value or 0) > MANY_UNPARSED:
        found.append(f"{unparsed.value:.1%} of its replies could not be read; see the worst-case bounds")
    if _enough(ties) and (ties.low or 0) > MANY_TIES:
        found.append(f"calls {ties.value:.1%} ties: it distinguishes nothing")
    if _enough(repeats) and (repeats.high or 1) < FEW_AGREEING_REPEATS:
        found.append(f"agrees with itself on only {repeats.value:.1%} of repeats")
    if longer is not None and _enough(longer) and not _holds(longer, 0.5):
        which = "longer" if (longer.value or 0) > 0.5 else "shorter"
        found.append(f"prefers the {which} answer ({longer.value:.2f} for the longer one)")
    return tuple(f"{name}: {text}" for text in found if text)


def _position_finding(verdicts: Sequence[Verdict], figures: Mapping[str, Estimate]) -> str:
    first, orders = figures["first_share"], {verdict.order for verdict in verdicts}
    if first.value is None:
        if orders == {""}:
            return ""
        return "no question was read in both orders: a preference for a position would not show"
    if not _enough(first) or _holds(first, 0.5):
        return ""
    place = "first" if first.value > 0.5 else "second"
    if max(first.value, 1 - first.value) >= FOLLOWS_POSITION:
        return f"names the answer shown {place} whatever it is ({first.value:.2f} first): its win rates mean nothing"
    low, high = first.low or 0.0, first.high or 1.0
    return f"favours the answer shown {place}: {first.value:.2f} [{low:.2f}, {high:.2f}] go to the first"


def _chance_finding(kappa: Estimate) -> str:
    if not _enough(kappa) or kappa.value is None or kappa.low is None or kappa.low > 0:
        return ""
    return f"the agreement of its two orders is not shown to be above chance (kappa {kappa.value:.2f})"


def _enough(estimate: Estimate) -> bool:
    return estimate.value is not None and estimate.clusters >= ENOUGH_ITEMS


def _holds(estimate: Estimate, value: float) -> bool:
    return (estimate.low or 0.0) <= value <= (1.0 if estimate.high is None else estimate.high)
