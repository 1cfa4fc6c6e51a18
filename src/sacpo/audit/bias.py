"""What the preferred side has in common beside being better: length, refusal, place, safety."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sacpo.audit.units import Unit, two
from sacpo.plain import JsonObject
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import clustered_rate, mean_interval


def biases(units: Sequence[Unit], refuses: Callable[[str], bool]) -> list[JsonObject]:
    """Return the biases of each criterion's preferences, and of the labels of single answers.

    Every share is over pairs in which the two answers differ in what it is about, without ties: of pairs of one refusal
    and one other answer, how often the refusal is preferred. Without a bias it is one half, unless the criterion
    itself asks for it. Intervals are over prompts.

    Args:
        units: The rows.
        refuses: Whether an answer's text is a refusal.
    """
    criteria = sorted({criterion for unit in units for criterion in unit.first})
    found = [_of_pairs(criterion, [u for u in two(units) if criterion in u.first], refuses) for criterion in criteria]
    single = [unit for unit in units if unit.desirable is not None]
    return found + ([_of_labels(single, refuses)] if single else [])


def _of_pairs(criterion: str, units: Sequence[Unit], refuses: Callable[[str], bool]) -> JsonObject:
    decided = [unit for unit in units if unit.first[criterion] != 0.5]
    prefers = [unit.first[criterion] > 0.5 for unit in decided]  # the first answer
    words = [tuple(len(text.split()) for text in unit.answers) for unit in decided]
    refused = [tuple(refuses(text) for text in unit.answers) for unit in decided]
    clusters = [unit.prompt.id for unit in decided]

    def share(first: Sequence[bool | None]) -> JsonObject:
        """Return how often the preferred answer is the one that has the property; None: both or neither have it."""
        kept = [i for i, has in enumerate(first) if has is not None]
        return clustered_rate([prefers[i] == first[i] for i in kept], [clusters[i] for i in kept]).to_json()

    gains = [(a - b) * (1 if prefer else -1) for (a, b), prefer in zip(words, prefers, strict=True)]
    placed = [True if unit.placed else None for unit in decided]
    return {
        "criterion": criterion,
        "pairs": len(units),
        "ties": len(units) - len(decided),
        "longer": share([_differs(a, b) for a, b in words]),
        "words_more": mean_interval(gains, clusters).to_json(),
        "refusal": share([_differs(*both) for both in refused]),
        "first": share(placed),
        "safe": share([_differs(*unit.safe) for unit in decided]),
    }


def _differs(first: int | bool | None, second: int | bool | None) -> bool | None:
    """Return whether the first has more of it; None where both have the same, or one is not known."""
    return None if first is None or second is None or first == second else first > second


def _of_labels(units: Sequence[Unit], refuses: Callable[[str], bool]) -> JsonObject:
    """Return how desirable and undesirable answers differ."""
    good, bad = ([unit for unit in units if unit.desirable is wanted] for wanted in (True, False))

    def refusals(side: Sequence[Unit]) -> Estimate:
        return clustered_rate([refuses(unit.answers[0]) for unit in side], [unit.prompt.id for unit in side])

    def words(side: Sequence[Unit]) -> Estimate:
        return mean_interval([len(unit.answers[0].split()) for unit in side], [unit.prompt.id for unit in side])

    return {
        "criterion": "label",
        "desirable": len(good),
        "undesirable": len(bad),
        "refusals": {"desirable": refusals(good).to_json(), "undesirable": refusals(bad).to_json()},
        "words": {"desirable": words(good).to_json(), "undesirable": words(bad).to_json()},
    }
