"""How often judges are right, where one judge's or annotator's labels are taken as the truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sacpo.data.records import Verdict
from sacpo.errors import DataError
from sacpo.judging.people.raters import Item, Labels, item_labels
from sacpo.plain import JsonObject
from sacpo.stats.intervals import clustered_rate
from sacpo.stats.reliability import AB, BA, both_orders
from sacpo.stats.verdicts import unique


def gold_rows(verdicts: Iterable[Verdict], gold: str, *, required: bool = True) -> list[JsonObject]:
    """Score every judge against the labels of one of them, by criterion and kind.

    Items and labels are those of `sacpo.judging.people.agreement`. Items without a gold label are left out and counted;
    a reply of the judge that could not be read counts as wrong, as in LLMBar, and is counted beside.

    Args:
        verdicts: Of the judges and of the gold.
        gold: The judge or annotator whose labels are the truth.
        required: Refuse a gold that shares no item with another judge; else there are no rows.

    Returns:
        Sorted rows: `judge`, `criterion`, `kind`, `gold`, `accuracy` by order ("ab", "ba", or "" where a judge does not
        say), over the items asked in both orders (None without any) `both_correct`, `positional_agreement` (of those
        read in both) and `same_reply` (of all, an unread reply being a label of its own), and `without_gold`, the
        items that the judge labelled and the gold did not.

    Raises:
        DataError: No judge is called so, or it labelled no item that another judge labelled.
    """
    records = unique(verdicts)
    judges = sorted({verdict.judge for verdict in records})
    if gold not in judges:
        raise DataError("no judge or annotator of this name", where="--gold", value=gold, allowed=judges)
    clusters = {verdict.prompt_id: verdict.cluster for verdict in records}
    truths = item_labels(verdict for verdict in records if verdict.judge == gold)
    orders = sorted({verdict.order for verdict in records})
    asked = {order: item_labels(v for v in records if v.order == order and v.judge != gold) for order in orders}
    found: dict[tuple[str, str, str], dict[str, Mapping[Item, str | None]]] = defaultdict(dict)
    for order, tables in asked.items():
        for (criterion, kind), labels in tables.items():
            for judge, items in labels.items():
                found[judge, criterion, kind][order] = items
    rows = [
        _row((judge, criterion, kind, gold), said, truths.get((criterion, kind), {}), clusters)
        for (judge, criterion, kind), said in sorted(found.items())
    ]
    if required and not any(row is not None for row in rows):
        raise DataError("this judge labelled no item that another one labelled", where="--gold", value=gold)
    return [row for row in rows if row is not None]


def _row(
    names: tuple[str, str, str, str],
    said: Mapping[str, Mapping[Item, str | None]],
    truths: Labels,
    clusters: Mapping[str, str],
) -> JsonObject | None:
    truth = {item: label for item, label in truths.get(names[3], {}).items() if label is not None}
    every = {item for items in said.values() for item in items}
    if not every & truth.keys():
        return None
    both = sorted(said.get(AB, {}).keys() & said.get(BA, {}).keys() & truth.keys())
    scored = None
    if both:
        straight, swapped = ([said[order][item] for item in both] for order in (AB, BA))
        scored = both_orders(straight, swapped, [truth[item] for item in both], _names(both, clusters))
    return {
        **dict(zip(("judge", "criterion", "kind", "gold"), names, strict=True)),
        "items": len(every & truth.keys()),
        "accuracy": {order: _accuracy(items, truth, clusters) for order, items in sorted(said.items())},
        "both_correct": None if scored is None else scored.both_correct.to_json(),
        "positional_agreement": None if scored is None else scored.agreement.to_json(),
        "same_reply": None if scored is None else scored.same_reply.to_json(),
        "without_gold": len(every - truth.keys()),
    }


def _accuracy(items: Mapping[Item, str | None], truth: Mapping[Item, str], clusters: Mapping[str, str]) -> JsonObject:
    shared = sorted(items.keys() & truth.keys())
    right = [items[item] == truth[item] for item in shared]
    unread = sum(items[item] is None for item in shared)
    return clustered_rate(right, _names(shared, clusters), unparsed=unread).to_json()


def _names(items: Sequence[Item], clusters: Mapping[str, str]) -> list[str]:
    return [clusters[str(item[0])] for item in items]
