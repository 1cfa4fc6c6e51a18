"""How far judges and people agree on the same items, beyond chance."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Protocol

from sacpo.data.records import Outcome, Verdict
from sacpo.plain import JsonObject
from sacpo.stats.agreement import agreement_rate, cohen_kappa, fleiss_kappa
from sacpo.stats.intervals import OUTCOME_VALUES
from sacpo.stats.labels import labellings
from sacpo.stats.verdicts import unique

HUMAN = "human:"
FEWEST_RATERS = 2
SAME_LABEL = {"full_compliance": "compliance"}
FLIPPED = {Outcome.WIN: Outcome.LOSS, Outcome.LOSS: Outcome.WIN}

Item = tuple[str | int, ...]
Labels = dict[str, dict[Item, str | None]]


class VerdictSource(Protocol):
    """Whatever holds verdicts, such as a store."""

    def verdicts(self) -> Iterable[Verdict]:
        """Return the verdicts."""
        ...


def agreement(verdicts: VerdictSource | Iterable[Verdict]) -> list[JsonObject]:
    """Compare all judges and annotators that gave labels by the same criterion to the same items.

    A pairwise item is two answers to a prompt, whichever of them a verdict calls the baseline; its label is "win",
    "tie" or "loss" by the judge's mean over orders and repeats, and there is none unless every order that was asked
    was read. Two equal answers are no item: nobody had to judge them. A pointwise item is one answer; its label is
    the one given most often.

    Returns:
        One table a criterion and kind ("pairwise" or "pointwise") with at least two raters who share an item, sorted:
        `criterion`, `kind`, `raters`, `pairs` (each `first`, `second`, `agreement`, `cohen_kappa`), `fleiss_kappa` of
        all raters and `fleiss_kappa_people` of the people alone (None when there are fewer than two). Intervals are
        clustered by prompt cluster.

    Raises:
        DataError: One question has two different verdicts.
    """
    records = unique(verdicts.verdicts() if hasattr(verdicts, "verdicts") else verdicts)
    clusters = {verdict.prompt_id: verdict.cluster for verdict in records}
    tables = []
    for (criterion, kind), labels in sorted(item_labels(records).items()):
        pairs = [_pair(first, second, labels, clusters) for first, second in combinations(sorted(labels), 2)]
        shared = [pair for pair in pairs if pair is not None]
        if shared:
            people = {rater: items for rater, items in labels.items() if rater.startswith(HUMAN)}
            tables.append(
                {
                    "criterion": criterion,
                    "kind": kind,
                    "raters": sorted(labels),
                    "pairs": shared,
                    "fleiss_kappa": _group(labels, clusters),
                    "fleiss_kappa_people": _group(people, clusters),
                }
            )
    return tables


def item_labels(records: Iterable[Verdict]) -> dict[tuple[str, str], Labels]:
    """Return each rater's label of each item by criterion and kind; see `agreement` for items and labels."""
    games: dict[tuple[str, str, Item], list[Verdict]] = defaultdict(list)
    words: dict[tuple[str, str, Item], list[str]] = defaultdict(list)
    records = [*records]
    for verdict in records:
        if verdict.baseline and verdict.outcome is not None and verdict.answer_hash != verdict.baseline_hash:
            games[verdict.criterion, verdict.judge, _sides(verdict)].append(verdict)
    for verdict in labellings(records):
        item: Item = (verdict.prompt_id, verdict.model, verdict.sample, verdict.answer_hash)
        words[verdict.criterion, verdict.judge, item].append(SAME_LABEL.get(verdict.label, verdict.label))
    tables: dict[tuple[str, str], Labels] = defaultdict(lambda: defaultdict(dict))
    for (criterion, judge, pair), members in games.items():
        tables[criterion, "pairwise"][judge][pair] = _preferred(members)
    for (criterion, judge, item), given in words.items():
        tables[criterion, "pointwise"][judge][item] = _commonest(given)
    return tables


def _sides(verdict: Verdict) -> Item:
    first, second = sorted([(verdict.model, verdict.answer_hash), (verdict.baseline, verdict.baseline_hash)])
    return (verdict.prompt_id, verdict.sample, *first, *second)


def _preferred(members: list[Verdict]) -> str | None:
    """Return the outcome for the item's first side."""
    values: dict[tuple[bool, str], list[float]] = defaultdict(list)
    for verdict in members:
        straight = (verdict.model, verdict.answer_hash) < (verdict.baseline, verdict.baseline_hash)
        outcome = verdict.outcome or Outcome.UNPARSED
        said = outcome if straight else FLIPPED.get(outcome, outcome)
        asked = values[straight, verdict.order]
        if said in OUTCOME_VALUES:
            asked.append(OUTCOME_VALUES[said])
    if not all(values.values()):
        return None
    mean = sum(sum(read) / len(read) for read in values.values()) / len(values)
    return "tie" if abs(mean - 0.5) < 1e-9 else "win" if mean > 0.5 else "loss"


def _commonest(given: list[str]) -> str | None:
    counts = Counter(label for label in given if label).most_common(2)
    if not counts or (len(counts) > 1 and counts[0][1] == counts[1][1]):
        return None
    return counts[0][0]


def _pair(first: str, second: str, labels: Labels, clusters: Mapping[str, str]) -> JsonObject | None:
    shared = sorted(labels[first].keys() & labels[second].keys())
    ours, theirs = ([labels[rater][item] for item in shared] for rater in (first, second))
    names = [clusters[str(item[0])] for item in shared]
    if not any(a is not None and b is not None for a, b in zip(ours, theirs, strict=True)):
        return None
    return {
        "first": first,
        "second": second,
        "agreement": agreement_rate(ours, theirs, names).to_json(),
        "cohen_kappa": cohen_kappa(ours, theirs, names).to_json(),
    }


def _group(labels: Mapping[str, Mapping[Item, str | None]], clusters: Mapping[str, str]) -> JsonObject | None:
    """Return Fleiss' kappa over the items that at least two of the raters were asked about."""
    if len(labels) < FEWEST_RATERS:
        return None
    asked = Counter(item for items in labels.values() for item in items)
    shared = sorted(item for item, raters in asked.items() if raters >= FEWEST_RATERS)
    ratings = [[items[item] for _, items in sorted(labels.items()) if item in items] for item in shared]
    return fleiss_kappa(ratings, [clusters[str(item[0])] for item in shared]).to_json()
