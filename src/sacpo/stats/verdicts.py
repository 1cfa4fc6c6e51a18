"""From verdict records to win rates: duplicates dropped, orders balanced, repeats averaged, unparsed replies apart.

A prompt's value is the mean over the orders of the mean over the repeats that were read; it counts only when every
order that the judge was asked in was read. Prompts, not verdicts, are the items of a win rate.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, cast

from sacpo.data.records import Outcome, Verdict
from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import OUTCOME_VALUES, mean_interval, win_rate
from sacpo.stats.reliability import JudgeReliability, judge_reliability


class Group(NamedTuple):
    """What one win rate is about."""

    model: str
    criterion: str
    judge: str
    baseline: str


@dataclass(frozen=True, slots=True)
class PromptValue:
    """One prompt's share of wins for a model.

    Attributes:
        value: Mean outcome in [0, 1]; None when an order was not read.
        lowest, highest: The same with every unparsed or missing verdict lost, or won.
    """

    prompt_id: str
    cluster: str
    value: float | None
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class WinRow:
    """A model's win rate against the baseline under one judge and criterion.

    Attributes:
        win_rate: Over prompts that count; its `unparsed` counts the prompts that do not.
        worst, best: The win rate over all prompts with every unparsed verdict lost, or won.
        by_order: The win rate of each order's verdicts alone: far apart, the judge follows the position.
        won_tied_lost: Prompts that count by their value: above 1/2, at it, below.
        verdicts, unparsed_verdicts: Distinct verdicts, and those that could not be read.
    """

    group: Group
    win_rate: Estimate
    worst: float
    best: float
    by_order: Mapping[str, Estimate]
    won_tied_lost: tuple[int, int, int]
    verdicts: int
    unparsed_verdicts: int

    def to_json(self) -> JsonObject:
        """Return the row as a JSON-ready dictionary."""
        return {
            **self.group._asdict(),
            "win_rate": self.win_rate.to_json(),
            "worst_case": [self.worst, self.best],
            "by_order": {order: estimate.to_json() for order, estimate in self.by_order.items()},
            "won_tied_lost": list(self.won_tied_lost),
            "verdicts": self.verdicts,
            "unparsed_verdicts": self.unparsed_verdicts,
        }


def summarise(verdicts: Iterable[Verdict], lengths: Mapping[str, int] | None = None) -> JsonObject:
    """Return win rates, mean scores and judge reliability of any verdicts, JSON-ready.

    Args:
        verdicts: In any order; duplicates count once.
        lengths: Each answer's length by its hash, for the length bias.

    Returns:
        `win_rates`, one a (model, criterion, judge, baseline); `scores`, one a (model, criterion, judge);
        `reliability`, one a (judge, criterion), and all their `findings`.

    Raises:
        DataError: One question has two different answers.
    """
    distinct = unique(verdicts)
    reliability = judges(distinct, lengths)
    return {
        "win_rates": [row.to_json() for row in win_rows(distinct)],
        "scores": score_rows(distinct),
        "reliability": [judge.to_json() for judge in reliability],
        "findings": [finding for judge in reliability for finding in judge.findings],
    }


class Distinct(list[Verdict]):
    """Verdicts once each, in the order of their questions; what several tables need of them is worked out once."""

    @functools.cached_property
    def groups(self) -> dict[Group, list[Verdict]]:
        """The pairwise verdicts of every group, unparsed ones included."""
        return _pairwise(self)

    @functools.cached_property
    def prompts(self) -> dict[Group, list[PromptValue]]:
        """Every group's prompts with their values, sorted by prompt."""
        return {group: _values(members) for group, members in self.groups.items()}


def unique(verdicts: Iterable[Verdict]) -> Distinct:
    """Return the verdicts once each, in an order of their own; a read verdict replaces its unparsed attempt.

    Raises:
        DataError: The same question (judge, criterion, answers, order, repeat, sample) has two different answers.
    """
    if isinstance(verdicts, Distinct):
        return verdicts
    kept: dict[tuple[str | int, ...], Verdict] = {}
    for verdict in verdicts:
        key = _QUESTION(verdict)
        known = kept.get(key)
        if known is None or (known.outcome is Outcome.UNPARSED and verdict.outcome is not Outcome.UNPARSED):
            kept[key] = verdict
        elif verdict.outcome is not Outcome.UNPARSED and _answer(known) != _answer(verdict):
            raise DataError(
                "one question has two different verdicts",
                where=f"judge {verdict.judge}, model {verdict.model}, prompt {verdict.prompt_id}",
                value=(_answer(known), _answer(verdict)),
                do="number repeated judgements of the same answers: repeat 0, 1, ...",
            )
    return Distinct(kept[key] for key in sorted(kept))


_QUESTION = attrgetter(
    *("judge", "criterion", "model", "baseline", "prompt_id"),
    *("sample", "answer_hash", "baseline_hash", "order", "repeat"),
)
_ASKED = attrgetter("prompt_id", "sample", "answer_hash", "baseline_hash")


def question(verdict: Verdict) -> tuple[str | int, ...]:
    """Return what was asked of the judge: equal for duplicates, different for orders, repeats and samples."""
    return cast(tuple[str | int, ...], _QUESTION(verdict))


def _answer(verdict: Verdict) -> tuple[Outcome | None, float | None, str, float | None]:
    return verdict.outcome, verdict.score, verdict.label, verdict.probability


def win_rows(verdicts: Sequence[Verdict]) -> list[WinRow]:
    """Return the win rate of every (model, criterion, judge, baseline) with pairwise verdicts; see the module."""
    distinct = unique(verdicts)
    return [_win_row(group, members, distinct.prompts[group]) for group, members in distinct.groups.items()]


def prompt_values(verdicts: Sequence[Verdict]) -> dict[Group, list[PromptValue]]:
    """Return every group's prompts with their values, sorted by prompt."""
    return unique(verdicts).prompts


def pairwise_groups(verdicts: Iterable[Verdict]) -> dict[Group, list[Verdict]]:
    """Return the distinct pairwise verdicts of every group, unparsed ones included."""
    return unique(verdicts).groups


def score_rows(verdicts: Sequence[Verdict]) -> list[JsonObject]:
    """Return the mean score of every (model, criterion, judge) that has scores; a prompt's scores are averaged."""
    groups: dict[tuple[str, str, str], list[Verdict]] = defaultdict(list)
    for verdict in unique(verdicts):
        groups[verdict.model, verdict.criterion, verdict.judge].append(verdict)
    rows = []
    for (model, criterion, judge), members in sorted(groups.items()):
        scores: dict[tuple[str, str], list[float]] = defaultdict(list)
        for verdict in members:
            if verdict.score is not None:
                scores[verdict.prompt_id, verdict.cluster].append(verdict.score)
        if not scores:
            continue
        unread = len({verdict.prompt_id for verdict in members} - {prompt for prompt, _ in scores})
        means = [math.fsum(values) / len(values) for values in scores.values()]
        estimate = mean_interval(means, [cluster for _, cluster in scores], unparsed=unread)
        rows.append({"model": model, "criterion": criterion, "judge": judge, "mean_score": estimate.to_json()})
    return rows


def judges(verdicts: Iterable[Verdict], lengths: Mapping[str, int] | None = None) -> list[JudgeReliability]:
    """Return the reliability of every (judge, criterion) that gave pairwise verdicts.

    Two equal answers are a tie by definition and say nothing of a judge: they are left out.
    """
    groups: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for members in unique(verdicts).groups.values():
        for verdict in members:
            if verdict.answer_hash == verdict.baseline_hash:
                continue
            groups[verdict.judge, verdict.criterion].append(verdict)
    return [judge_reliability(members, lengths) for _, members in sorted(groups.items())]


def _pairwise(verdicts: Iterable[Verdict]) -> dict[Group, list[Verdict]]:
    groups: dict[Group, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.outcome is not None:
            groups[Group(verdict.model, verdict.criterion, verdict.judge, verdict.baseline)].append(verdict)
    return {group: groups[group] for group in sorted(groups) if _is_pairwise(groups[group])}


def _is_pairwise(members: list[Verdict]) -> bool:
    """Tell pairwise verdicts from a pointwise judge's unparsed replies, which compare with no baseline."""
    return any(verdict.baseline or verdict.outcome is not Outcome.UNPARSED for verdict in members)


def _win_row(group: Group, members: list[Verdict], values: list[PromptValue]) -> WinRow:
    counted = [(prompt.value, prompt.cluster) for prompt in values if prompt.value is not None]
    estimate = win_rate(
        [value for value, _ in counted], [cluster for _, cluster in counted], unparsed=len(values) - len(counted)
    )
    orders = sorted({verdict.order for verdict in members})
    by_order = {order: _order_rate([v for v in members if v.order == order]) for order in orders}
    return WinRow(
        group,
        estimate,
        math.fsum(prompt.lowest for prompt in values) / len(values),
        math.fsum(prompt.highest for prompt in values) / len(values),
        by_order,
        _won_tied_lost([value for value, _ in counted]),
        len(members),
        sum(verdict.outcome is Outcome.UNPARSED for verdict in members),
    )


def _won_tied_lost(values: Sequence[float]) -> tuple[int, int, int]:
    even = OUTCOME_VALUES[Outcome.TIE]
    won, lost = sum(value > even for value in values), sum(value < even for value in values)
    return won, len(values) - won - lost, lost


def _order_rate(members: list[Verdict]) -> Estimate:
    outcomes = [verdict.outcome for verdict in members if verdict.outcome is not None]
    return win_rate(outcomes, [verdict.cluster for verdict in members])


def _values(members: list[Verdict]) -> list[PromptValue]:
    """Return the prompts' values; the members stand in the order of `unique`, so a prompt's stand together."""
    orders = tuple(sorted({verdict.order for verdict in members}))
    prompts: dict[str, list[Verdict]] = {}
    for verdict in members:
        prompts.setdefault(verdict.prompt_id, []).append(verdict)
    return [_prompt_value(of, orders) for of in prompts.values()]


def _prompt_value(members: list[Verdict], orders: tuple[str, ...]) -> PromptValue:
    """Average a prompt's samples; a sample's value needs every order read, and without any sample there is none."""
    samples = groupby(members, _ASKED)
    values = [_sample_values(tuple((v.order, v.outcome) for v in sample), orders) for _, sample in samples]
    if len(values) == 1:
        value, lowest, highest = values[0]
    else:
        read = [value for value, _, _ in values if value is not None]
        value = _mean(read) if read else None
        lowest, highest = _mean([low for _, low, _ in values]), _mean([high for _, _, high in values])
    return PromptValue(members[0].prompt_id, members[0].cluster, value, lowest, highest)


@functools.lru_cache(maxsize=4096)
def _sample_values(
    said: tuple[tuple[str, Outcome | None], ...], orders: tuple[str, ...]
) -> tuple[float | None, float, float]:
    """Return a sample's value from what was said in each order, and the least and the most that it could be.

    Few patterns occur, over and over.
    """
    read: list[float] = []
    lowest, highest = [], []
    for order in orders:
        outcomes = [outcome for in_order, outcome in said if in_order == order]
        known = [OUTCOME_VALUES[o] for o in outcomes if o is not None and o is not Outcome.UNPARSED]
        if known:
            read.append(_mean(known))
        unread = max(len(outcomes), 1) - len(known)
        lowest.append(_mean([*known, *[0.0] * unread]))
        highest.append(_mean([*known, *[1.0] * unread]))
    value = _mean(read) if len(read) == len(orders) else None
    return value, _mean(lowest), _mean(highest)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
