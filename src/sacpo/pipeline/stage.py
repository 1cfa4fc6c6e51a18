"""A stage is a value: its fields are all that its work can see, and its key is the hash of their content.

    @dataclass(frozen=True)
    class Overlap(Stage[Overlapping]):
        data: tuple[Data, ...]
        prompts: tuple[Prompts, ...]
        allow: bool

A field that is a stage counts with its key, a model or a data source from outside with its content key, anything else
with its value. So a stage's key and its work cannot drift apart: there is nothing else to read from. What cannot
change a result (progress, loaded models, the store of paid verdicts) comes as `tools`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from sacpo.judging.rubric import Rubric
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.outside import FromOutside
from sacpo.plain import JsonObject
from sacpo.recipe.schema import SourceSpec, WorldSpec
from sacpo.system.files import read_json
from sacpo.system.runs import stage_key
from sacpo.world import World

if TYPE_CHECKING:
    from sacpo.pipeline.tools import Tools

T_co = TypeVar("T_co", covariant=True)
Inputs = dict[str, "Stage[object]"]
"""Stages by name."""


UNCOUNTED = {"counted": False}
"""Metadata of a dataclass field that no result depends on, and so no key."""
UNSAID = {"unsaid": True}
"""Metadata of a field that counts where it differs from its default: stages that are done outlive a new option."""


@dataclass(frozen=True)
class Stage(Generic[T_co]):
    """A piece of work that leaves a folder; subclasses are frozen dataclasses.

    `T_co` is what a reader finds in the folder. A stage can be pickled: a job of its own needs nothing else.
    """

    shared: ClassVar[bool] = False
    """All processes of a launch do its work together; also, it may be a job of its own."""

    @property
    def name(self) -> str:
        """Its name in the run, also its folder, such as `align/H-S@0.25`."""
        raise NotImplementedError

    def work(self, out: Path, tools: Tools) -> None:
        """Do it in a folder that may hold what a killed run left there."""
        raise NotImplementedError

    def read(self, folder: Path) -> T_co:
        """Return what the finished folder holds."""
        raise NotImplementedError

    @cached_property
    def _content(self) -> tuple[JsonObject, Inputs]:
        inputs: Inputs = {}
        own = {"kind": type(self).__name__, **_fields(self, inputs)}
        return own, inputs

    @property
    def config(self) -> JsonObject:
        """The content of its fields, as JSON; stages by name."""
        return self._content[0]

    @property
    def inputs(self) -> Inputs:
        """The stages among its fields, by name: all that it reads in the run."""
        return self._content[1]

    @cached_property
    def keys(self) -> dict[str, str]:
        """The keys of its inputs, by name."""
        return {name: stage.key for name, stage in self.inputs.items()}

    @cached_property
    def key(self) -> str:
        """Its content key, 64 hexadecimal digits."""
        return stage_key(self.name, self.config, self.keys)

    def ancestors(self) -> Iterator[Stage[object]]:
        """Give every stage that it depends on, each once."""
        seen: set[str] = set()
        todo = [*self.inputs.values()]
        while todo:
            stage = todo.pop()
            if stage.name not in seen:
                seen.add(stage.name)
                todo += stage.inputs.values()
                yield stage


@dataclass(frozen=True)
class JsonStage(Stage[JsonObject]):
    """A stage whose result is one JSON object, in the file that `result` names."""

    result: ClassVar[str]

    def read(self, folder: Path) -> JsonObject:
        """Return the object."""
        return read_json(folder / self.result)


def content_of(value: object) -> tuple[object, Inputs]:
    """Return a field's content as JSON and the stages in it."""
    inputs: Inputs = {}
    return _content(value, inputs), inputs


def _fields(value: Any, inputs: Inputs) -> JsonObject:
    counted = [
        f.name
        for f in fields(value)
        if f.metadata.get("counted", True) and not (f.metadata.get("unsaid") and getattr(value, f.name) == f.default)
    ]
    return {name: _content(getattr(value, name), inputs) for name in counted}


@singledispatch
def _content(value: object, inputs: Inputs) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__, **_fields(value, inputs)}
    raise TypeError(f"a stage cannot have a field of type {type(value).__name__}: its content has no key")


@_content.register(Stage)
def _(value: Any, inputs: Inputs) -> Any:
    inputs[value.name] = value
    return {"stage": value.name}


@_content.register
def _(value: Checkpoint, inputs: Inputs) -> object:
    if isinstance(value.place, Stage):
        return _content(value.place, inputs)
    return {"weights": value.content}


@_content.register
def _(value: FromOutside, inputs: Inputs) -> object:
    return {"kind": type(value).__name__, "content": value.content}


@_content.register
def _(value: SourceSpec, inputs: Inputs) -> object:
    raise TypeError("a data source counts with its files: wrap it in a Source")


@_content.register
def _(value: WorldSpec, inputs: Inputs) -> object:
    return {"world": World(value).key}


@_content.register
def _(value: Rubric, inputs: Inputs) -> object:
    return {"rubric": value.key}


@_content.register
def _(value: BaseModel, inputs: Inputs) -> object:
    return value.model_dump(mode="json")


@_content.register
def _(value: enum.Enum, inputs: Inputs) -> object:
    return value.value


@_content.register(list)
@_content.register(tuple)
def _(value: Sequence[object], inputs: Inputs) -> object:
    return [_content(member, inputs) for member in value]


@_content.register(Mapping)
def _(value: Mapping[object, object], inputs: Inputs) -> object:
    return {str(name): _content(member, inputs) for name, member in value.items()}
