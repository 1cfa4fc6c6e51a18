"""What weights on few samples reach before anything is learnt, as results.json has it."""

from __future__ import annotations

from pydantic import Field

from sacpo.report.part import Part


class SupportPoint(Part):
    """What the weights that a model was learnt from reach by themselves."""

    samples: int = Field(description="of each prompt")
    E_r: float
    E_g: float
    unsafe_rate: float | None = None
    over_refusal_rate: float | None = None
    distance: float = Field(description="KL(an answer drawn by the weights || common target), nats")
