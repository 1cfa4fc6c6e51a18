"""What every part of a recipe is: a pydantic model that refuses unknown keys, and the types that parts share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LONGEST_NAME, LONGEST_MODEL = 100, 120
"""Letters of a name: those of a model and a prompt set stand together in a folder's name, which ends at 255 bytes."""
MANY, MOST = 10**6, 10**8
"""More of anything than a machine can do, and more steps or records than it can do in years."""
SURROGATE = re.compile("[\ud800-\udfff]")
Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$", max_length=LONGEST_NAME)]
Count = Annotated[int, Field(ge=1, le=MANY)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Section(BaseModel):
    """A part of the recipe: unknown keys are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        given = [*value.values()] if isinstance(value, dict) and _numbers_by_name(field.annotation) else [value]
        if any(isinstance(one, bool) for one in _flat(given)) and not _allows(bool, field.annotation):
            raise ValueError("true and false are allowed only where a key is a switch")
        if _broken(value):
            raise ValueError("half of a surrogate pair, or a null character: this text can be written nowhere")
        return value

    def unused(self, keys: Iterable[str], who: str) -> None:
        """Refuse keys that have no effect here: whoever wrote one meant something by it.

        A key that says what it says by default passes, so that a recipe with all its defaults can be read back.

        Raises:
            ValueError: One of these keys has another value than its default.
        """
        fields = type(self).model_fields
        for name in keys:
            default = fields[name].get_default(call_default_factory=True)
            if getattr(self, name) != default:
                raise ValueError(f"'{fields[name].alias or name}' has no effect here: {who}; leave it out")


def _allows(kind: type, annotation: object) -> bool:
    """Tell whether a value of this very type is one of those that an annotation names."""
    return annotation in (kind, Any) or any(_allows(kind, part) for part in get_args(annotation))


def _flat(values: Iterable[object]) -> Iterator[object]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def _numbers_by_name(annotation: object) -> bool:
    """Tell whether an annotation names a mapping to numbers."""
    if get_origin(annotation) is dict:
        return _allows(float, get_args(annotation)[1])
    return any(_numbers_by_name(part) for part in get_args(annotation))


def _broken(value: object) -> bool:
    """Tell whether a text somewhere in a value is not valid Unicode, or ends for the system before its end."""
    if isinstance(value, dict):
        return any(_broken(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return any(map(_broken, value))
    return isinstance(value, str) and ("\0" in value or SURROGATE.search(value) is not None)
