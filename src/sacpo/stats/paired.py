"""Two models on the same prompts, as a row of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sacpo.plain import JsonMapping, JsonObject
from sacpo.stats.significance import (
    FEWEST_CLUSTERS,
    Bounds,
    detectable_difference,
    holm,
    sign_flip_test,
    sign_test,
)

Values = Mapping[str, tuple[float, str]]
"""Each prompt's value and cluster."""


def compared(ours: Values, theirs: Values, bounds: Bounds, seed: int) -> JsonObject | None:
    """Return the paired tests of two models on the prompts that count for both; None with fewer than two of them.

    Args:
        ours: The first model's values by prompt.
        theirs: The second's.
        bounds: The least and the most that a difference can be; None: not known.
        seed: Of the permutations.
    """
    shared = sorted(ours.keys() & theirs.keys())
    if len(shared) < FEWEST_CLUSTERS:
        return None
    first, second = [ours[prompt][0] for prompt in shared], [theirs[prompt][0] for prompt in shared]
    clusters = [ours[prompt][1] for prompt in shared]
    flip = sign_flip_test(first, second, clusters, bounds=bounds, seed=seed)
    return {
        "difference": flip.difference.to_json(),
        "p_sign_flip": flip.p_value,
        "p_sign": sign_test(first, second, clusters, bounds=bounds).p_value,
        "better_worse_equal": [flip.better, flip.worse, flip.equal],
        "method": flip.method,
        "minimum_detectable_difference": detectable_difference(first, second, clusters, bounds=bounds),
    }


def adjusted(rows: Sequence[JsonMapping]) -> list[JsonObject]:
    """Return the rows with Holm's p over all of them, `p_holm`."""
    return [{**row, "p_holm": p} for row, p in zip(rows, holm([row["p_sign_flip"] for row in rows]), strict=True)]
