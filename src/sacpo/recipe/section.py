"""What every part of a recipe is: a pydantic model that refuses unknown keys, and the types that parts share."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Section(BaseModel):
    """A part of the recipe: unknown keys are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and not _allows(bool, field.annotation):
            raise ValueError("true and false are allowed only where a key is a switch")
        return value


def _allows(kind: type, annotation: Any) -> bool:
    """Tell whether a value of this very type is one of those that an annotation names."""
    return annotation in (kind, Any) or any(_allows(kind, part) for part in get_args(annotation))
