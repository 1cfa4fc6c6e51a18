"""Two models on the same prompts, as a row of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sacpo.plain import JsonMapping, JsonObject
from sacpo.stats.significance import FEWEST_CLUSTERS, Bounds, Pairing, holm

Values = Mapping[str, tuple[float, str]]
"""Each prompt's value and cluster."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Several models' values on the same prompts, in the order of the prompts' ids.

    Attributes:
        values: By model; NaN where a prompt does not count for it.
        clusters: Each prompt's cluster as a number.
    """

    values: dict[str, NDArray[np.float64]]
    clusters: NDArray[np.int64]

    @classmethod
    def of(cls, models: Mapping[str, Values]) -> Sheet:
        """Return the sheet of models whose prompts may differ."""
        homes = {prompt: cluster for values in models.values() for prompt, (_, cluster) in values.items()}
        places = {prompt: place for place, prompt in enumerate(sorted(homes))}
        numbers: dict[str, int] = {}
        clusters = np.array([numbers.setdefault(homes[prompt], len(numbers)) for prompt in places], dtype=np.int64)
        sheet = {}
        for model, values in models.items():
            row = np.full(len(places), np.nan)
            row[[places[prompt] for prompt in values]] = [value for value, _ in values.values()]
            sheet[model] = row
        return cls(sheet, clusters)

    def compared(self, first: str, second: str, bounds: Bounds, seed: int) -> JsonObject | None:
        """Return the paired tests of two models; see `compared`."""
        ours, theirs = self.values[first], self.values[second]
        shared = ~(np.isnan(ours) | np.isnan(theirs))
        if shared.sum() < FEWEST_CLUSTERS:
            return None
        pairing = Pairing.of(ours[shared], theirs[shared], self.clusters[shared], bounds)
        flip = pairing.sign_flip_test(seed)
        return {
            "difference": flip.difference.to_json(),
            "p_sign_flip": flip.p_value,
            "p_sign": pairing.sign_test().p_value,
            "better_worse_equal": [flip.better, flip.worse, flip.equal],
            "method": flip.method,
            "minimum_detectable_difference": pairing.detectable(),
        }


def compared(ours: Values, theirs: Values, bounds: Bounds, seed: int) -> JsonObject | None:
    """Return the paired tests of two models on the prompts that count for both; None with fewer than two of them.

    Args:
        ours: The first model's values by prompt.
        theirs: The second's.
        bounds: The least and the most that a difference can be; None: not known.
        seed: Of the permutations.
    """
    return Sheet.of({"ours": ours, "theirs": theirs}).compared("ours", "theirs", bounds, seed)


def adjusted(rows: Sequence[JsonMapping]) -> list[JsonObject]:
    """Return the rows with Holm's p over all of them, `p_holm`."""
    return [{**row, "p_holm": p} for row, p in zip(rows, holm([row["p_sign_flip"] for row in rows]), strict=True)]
