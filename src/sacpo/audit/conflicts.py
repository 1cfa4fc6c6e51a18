"""Preferences that contradict each other: one pair both ways round, and circles of several answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sacpo.audit.units import Unit, two
from sacpo.data.records import text_hash
from sacpo.plain import JsonObject


def conflicts(units: Sequence[Unit]) -> list[JsonObject]:
    """Return for each criterion how far its preferences contradict each other.

    `repeated` counts pairs of answers that are labelled more than once, `both_ways` those of them that are preferred
    both ways round, `circles` the prompts in which A is preferred to B, B to C, ... and the last to A, `pairs both
    ways` aside. A single answer that is labelled both desirable and undesirable counts as both ways.
    """
    criteria = sorted({criterion for unit in units for criterion in unit.first})
    found = [_of_pairs(criterion, two(units)) for criterion in criteria]
    single = [unit for unit in units if unit.desirable is not None]
    if single:
        votes: dict[str, list[bool]] = defaultdict(list)
        for unit in single:
            votes[text_hash(unit.prompt.id, unit.answers[0])].append(bool(unit.desirable))
        found.append({"criterion": "label", **_counted(votes), "circles": 0})
    return found


def _of_pairs(criterion: str, units: Sequence[Unit]) -> JsonObject:
    votes: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for unit in units:
        p = unit.first.get(criterion, 0.5)
        if p != 0.5 and unit.answers[0] != unit.answers[1]:
            low, high = sorted(unit.answers)
            votes[unit.prompt.id, text_hash(low), text_hash(high)].append((p > 0.5) == (unit.answers[0] == low))
    beaten: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for (prompt, low, high), said in votes.items():
        if len(set(said)) == 1:
            winner, loser = (low, high) if said[0] else (high, low)
            beaten[prompt][winner].add(loser)
    return {"criterion": criterion, **_counted(votes), "circles": sum(_circular(graph) for graph in beaten.values())}


def _counted(votes: Mapping[Any, Sequence[bool]]) -> dict[str, int]:
    return {
        "repeated": sum(len(said) > 1 for said in votes.values()),
        "both_ways": sum(len(set(said)) > 1 for said in votes.values()),
    }


def _circular(beaten: Mapping[str, set[str]]) -> bool:
    """Return whether what beats what has a circle: answers that nothing beats are taken away until none is left."""
    above = Counter(loser for losers in beaten.values() for loser in losers)
    free = [answer for answer in beaten if not above[answer]]
    left = len(set(beaten) | set(above))
    while free:
        left -= 1
        for loser in beaten.get(free.pop(), ()):
            above[loser] -= 1
            if not above[loser]:
                free.append(loser)
    return left > 0
