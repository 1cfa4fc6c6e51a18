"""The data report: what a source holds, in numbers that show its faults."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sacpo.data.prepare import DUPLICATE
from sacpo.data.records import Demonstration, Labelled, Pair, Record, text_hash
from sacpo.data.splits import prompt_of
from sacpo.plain import JsonObject

QUANTILES = {"min": 0.0, "q10": 0.1, "median": 0.5, "q90": 0.9, "q99": 0.99, "max": 1.0}


def data_report(
    name: str,
    records: Sequence[Record],
    *,
    heldout: Sequence[Record] = (),
    dropped: Mapping[str, int] | None = None,
) -> JsonObject:
    """Return a source's counts, lengths and label statistics, ready for JSON.

    Args:
        name: The source's name.
        records: The training records.
        heldout: The records held out; the statistics are of both together.
        dropped: How many records were left out, by reason, while reading and preparing.

    Tokens, and what is cut or too long, are a training's to tell: they depend on its tokenizer and maximum length.
    Lengths are quantiles by nearest rank: the q quantile of n values is the ceil(q n)-th smallest. In
    `contradictory_labels`, a unit is two answers of one prompt preferred both ways round, or an answer labelled both
    desirable and undesirable.
    """
    everything = [*records, *heldout]
    prompts = [prompt_of(record) for record in everything]
    dropped = dict(sorted((dropped or {}).items()))
    return {
        "name": name,
        "records": len(everything),
        "train": len(records),
        "heldout": len(heldout),
        "prompts": len({prompt.id for prompt in prompts}),
        "clusters": len({prompt.cluster for prompt in prompts}),
        "kinds": _counts(prompt.kind.value or "unknown" for prompt in prompts),
        "turns": _counts(str(sum(m.role == "user" for m in prompt.messages)) for prompt in prompts),
        "words": {part: _quantiles(values) for part, values in _words(everything).items()},
        "dropped": dropped,
        "duplicates": dropped.get(DUPLICATE, 0),
        "empty_completions": sum(not text.strip() for record in everything for text in _completions(record).values()),
        "contradictory_labels": _contradictions(everything),
        "labels": _labels(everything),
    }


def _completions(record: Record) -> dict[str, str]:
    if isinstance(record, Pair):
        return {"chosen": record.chosen, "rejected": record.rejected}
    if isinstance(record, Labelled | Demonstration):
        return {"completion": record.completion}
    return {}


def _words(records: Sequence[Record]) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = defaultdict(list)
    for record in records:
        parts["prompt"].append(sum(len(message.content.split()) for message in prompt_of(record).messages))
        for part, text in _completions(record).items():
            parts[part].append(len(text.split()))
    return dict(parts)


def _quantiles(values: Sequence[int]) -> dict[str, float]:
    if not values:
        return {}
    ranked = sorted(values)
    ranks = {label: max(1, math.ceil(q * len(ranked))) for label, q in QUANTILES.items()}
    return {label: ranked[rank - 1] for label, rank in ranks.items()} | {"mean": sum(ranked) / len(ranked)}


def _contradictions(records: Sequence[Record]) -> int:
    opinions: dict[str, set[bool]] = defaultdict(set)
    for record in records:
        if isinstance(record, Pair) and record.p != 0.5 and record.chosen != record.rejected:
            texts = sorted((record.chosen, record.rejected))
            key = text_hash(record.prompt.id, record.criterion, *texts)
            opinions[key].add((record.p > 0.5) == (record.chosen == texts[0]))
        elif isinstance(record, Labelled):
            opinions[text_hash(record.prompt.id, record.criterion, record.completion)].add(record.label)
    return sum(len(opinion) == 2 for opinion in opinions.values())


def _labels(records: Sequence[Record]) -> JsonObject:
    """Return the label balance: of unpaired records how many are desirable, of pairs how sure and how long."""
    result: JsonObject = {}
    labelled = [record for record in records if isinstance(record, Labelled)]
    if labelled:
        desirable = sum(record.label for record in labelled)
        result["desirable"], result["undesirable"] = desirable, len(labelled) - desirable
        result["desirable_share"] = desirable / len(labelled)
    pairs = [record for record in records if isinstance(record, Pair)]
    if pairs:
        result["hard"] = sum(pair.p in (0.0, 1.0) for pair in pairs)
        result["ties"] = sum(pair.p == 0.5 for pair in pairs)
        result["soft"] = len(pairs) - result["hard"] - result["ties"]
        result["first_preferred_share"] = math.fsum(pair.p for pair in pairs) / len(pairs)
        result["preferred_longer_share"] = _preferred_longer(pairs)
    return result


def _preferred_longer(pairs: Sequence[Pair]) -> float | None:
    """Return how often the preferred answer has more words, among pairs without a tie in either; None without any."""
    counted = [
        (len(pair.chosen.split()) > len(pair.rejected.split())) == (pair.p > 0.5)
        for pair in pairs
        if pair.p != 0.5 and len(pair.chosen.split()) != len(pair.rejected.split())
    ]
    return sum(counted) / len(counted) if counted else None


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
