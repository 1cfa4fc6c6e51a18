"""An estimate with its 95 % interval: what every rate, mean and difference in this package is reported as."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sacpo.plain import JsonObject

ITSELF = "the baseline itself"
"""The method of a model's win rate against itself, which is 1/2 whatever the prompts."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval.

    Attributes:
        value: The point estimate; rates are fractions in [0, 1]. None when nothing could be counted.
        low, high: The interval's ends; None when there is none.
        n: Items that counted.
        clusters: Independent clusters among them.
        unparsed: Items left out because no verdict could be read.
        method: How the interval was computed, such as "Clopper-Pearson" or "cluster t".
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    unparsed: int = 0
    method: str = ""

    def to_json(self) -> JsonObject:
        """Return the estimate as a JSON-ready dictionary, with `ci95` as a list."""
        data = asdict(self)
        data["ci95"] = [data.pop("low"), data.pop("high")]
        return data

    @classmethod
    def from_json(cls, data: JsonObject) -> Estimate:
        """Build the estimate from what `to_json` returned."""
        rest = {key: value for key, value in data.items() if key != "ci95"}
        return cls(low=data["ci95"][0], high=data["ci95"][1], **rest)
