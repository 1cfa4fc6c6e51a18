"""Merged models: of two models along a path, or of several on the simplex."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from sacpo.recipe.section import Fraction, Name, Names, Positive, Section

SUM_ERROR = 1e-6
FIDELITY_SAMPLES = 16
"""Samples a prompt of each merged model's parts from which the mixture's normaliser is estimated."""
Weights = tuple[Fraction, ...]
"""One weight for each of the models that are merged."""


class PathSpec(Section):
    """How the q of a merge with `q: auto` is found; see docs/path.md."""

    evaluations: int = Field(6, ge=1, le=10, description="at most so many q between the ends are measured")
    tolerance: float = Field(0.02, ge=0.001, le=0.5, description="stop when q is known to this precision")
    unit: Literal["cluster", "prompt"] = Field(
        "cluster", description="what was drawn independently: clusters of prompts, or every prompt by itself"
    )


class MergeSpec(Section):
    """Merged models of two models, one for each q; q is always the weight of the later model.

    linear: (1 - q) A + q B. task-vectors: A + q * scale * (B - base), the unnormalised control. token-level: logits
    (1 - q) l_A + q l_B at decoding time (DeRa), no merged weights. `q: auto` lets the run find the smallest q whose
    model meets, on tuning prompts, every constraint that gets better with q.

    More than two models have `weights`, one number for each model, which add up to 1, or a `grid` of them. linear and
    token-level are then sums with these weights; task-vectors adds `weight * scale * (model - base)` of every model but
    the first to the first. Their models are named `NAME@W1-W2-W3`.
    """

    name: Name
    method: Literal["linear", "task-vectors", "token-level"] = "linear"
    models: Names
    q: Fraction | Annotated[tuple[Fraction, ...], Field(min_length=1)] | Literal["auto"] | None = None
    weights: Annotated[tuple[Weights, ...], Field(min_length=1)] | None = Field(
        None, description="instead of q: one list for each merged model, one weight for each model in it"
    )
    grid: int | None = Field(
        None, ge=2, le=20, description="instead of q: all weights that are multiples of 1/grid, but for single models"
    )
    scale: Positive = Field(1.0, description="task-vectors only")
    search: PathSpec | None = Field(None, description="q: auto only: how q is found")
    fidelity: bool = Field(
        False,
        description=f"measure on report prompts how far each merged model is from the sequence-level mixture; takes "
        f"{FIDELITY_SAMPLES} samples a prompt of each of its models, on evaluate.kl_prompts prompts",
    )

    @field_validator("models", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        if isinstance(value, list | tuple) and (len(value) < 2 or len({*map(str, value)}) < len(value)):
            raise ValueError("a merge is between two models, the earlier and the later: models: [EARLIER, LATER]")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> MergeSpec:
        if [self.q, self.weights, self.grid].count(None) != 2:
            raise ValueError("give exactly one of 'q', 'weights' and 'grid'")
        if self.q is not None and len(self.models) > 2:
            raise ValueError("'q' is the weight of the later of two models; of more give 'weights' or 'grid'")
        for row in self.weights or ():
            if len(row) != len(self.models):
                raise ValueError(
                    f"'weights' has {len(row)} numbers in a row for {len(self.models)} models: {list(row)}"
                )
            if abs(sum(row) - 1) > SUM_ERROR:
                raise ValueError(f"the weights of a merged model must add up to 1: {list(row)}")
        return self

    @model_validator(mode="after")
    def _used(self) -> MergeSpec:
        if self.method != "task-vectors" and self.scale != 1:
            raise ValueError(f"'scale' is for method 'task-vectors': '{self.method}' would ignore it")
        if self.method == "task-vectors":
            self.unused(("fidelity",), "task vectors stand for no mixture of their models")
        if self.q != "auto":
            self.unused(("search",), "'q' is given, so nothing is searched for (q: auto does)")
        elif self.method == "task-vectors":
            raise ValueError("'q: auto' searches between two models; 'task-vectors' at q = 1 is not the later model")
        return self

    @property
    def rows(self) -> tuple[Weights, ...]:
        """The models' weights in every merged model, in the recipe's order; none where the run finds them."""
        if self.weights is not None:
            return self.weights
        if self.grid is not None:
            return tuple(_simplex(len(self.models), self.grid))
        if self.q is None or isinstance(self.q, str):
            return ()
        return tuple((1.0 - q, q) for q in (self.q if isinstance(self.q, tuple) else (self.q,)))

    def model_name(self, row: Weights) -> str:
        """Return a merged model's name: `NAME`, `NAME@qVALUE` with several q, or `NAME@W1-W2` with weights."""
        if self.q is None:
            return f"{self.name}@" + "-".join(f"{weight:g}" for weight in row)
        return f"{self.name}@q{row[-1]:g}" if isinstance(self.q, tuple) else self.name


def _simplex(models: int, steps: int) -> Iterator[Weights]:
    """Give all weights that are multiples of 1/steps and add up to 1, without those of a single model."""
    for counts in itertools.product(range(steps + 1), repeat=models):
        if sum(counts) == steps and max(counts) < steps:
            yield tuple(count / steps for count in counts)
