"""Merged models: of two models along a path, or of several on the simplex."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from sacpo.recipe.section import Fraction, Name, Names, Positive, Section


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
    """

    name: Name
    method: Literal["linear", "task-vectors", "token-level"] = "linear"
    models: Names
    q: Fraction | Annotated[tuple[Fraction, ...], Field(min_length=1)] | Literal["auto"]
    scale: Positive = Field(1.0, description="task-vectors only")
    search: PathSpec | None = Field(None, description="q: auto only: how q is found")

    @field_validator("models", mode="before")
    @classmethod
    def _two(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and (len(value) != 2 or value[0] == value[1]):
            raise ValueError("a merge is between two models, the earlier and the later: models: [EARLIER, LATER]")
        return value

    @model_validator(mode="after")
    def _used(self) -> MergeSpec:
        if self.method != "task-vectors" and self.scale != 1:
            raise ValueError(f"'scale' is for method 'task-vectors': '{self.method}' would ignore it")
        if self.q != "auto":
            self.unused(("search",), "'q' is given, so nothing is searched for (q: auto does)")
        elif self.method == "task-vectors":
            raise ValueError("'q: auto' searches between two models; 'task-vectors' at q = 1 is not the later model")
        return self

    @property
    def qs(self) -> tuple[float, ...]:
        """Every merge weight, in the recipe's order; none where the run finds it."""
        if isinstance(self.q, str):
            return ()
        return self.q if isinstance(self.q, tuple) else (self.q,)
