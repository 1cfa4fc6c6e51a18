"""What all parts of `results.json` are, and the figure that most of them hold."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A part of the results: unknown fields and numbers that are not finite are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measured(Part):
    """A figure with its 95 % interval, as `sacpo.stats.estimate.Estimate` writes it."""

    value: float | None = Field(description="point estimate; null when nothing could be counted")
    ci95: tuple[float | None, float | None] = Field((None, None), description="the interval's ends; null: none")
    n: int = Field(0, description="items that counted")
    clusters: int = Field(0, description="independent clusters among them")
    unparsed: int = Field(0, description="items left out because no verdict could be read")
    method: str = Field("", description="how the interval was computed")

    @property
    def low(self) -> float | None:
        """The interval's lower end."""
        return self.ci95[0]

    @property
    def high(self) -> float | None:
        """The interval's upper end."""
        return self.ci95[1]
