"""Stages: pieces of work with a content key, done in order, each in its own folder.

A stage's key follows from its name, its configuration and the keys of what it reads, so all keys are known before any
work is done: that is how a plan can say what is done already, and why a changed recipe redoes only what depends on
the change. A loop that revisits stages adds further stages under names of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sacpo.errors import RecipeError
from sacpo.recipe.explain import did_you_mean
from sacpo.system.runs import Artefact, RunFolder, machine_errors

At = Callable[[str], Path]
"""Folder of a finished stage, by name."""

Work = Callable[[Path, At], None]
"""Does a stage's work in a folder that may hold what a killed run left there."""


@dataclass(frozen=True)
class Stage:
    """One piece of work.

    Attributes:
        name: Also its folder, such as `align/H-S@0.25`.
        work: What to do.
        config: Everything that the result depends on beside what it reads.
        inputs: Names of the stages that it reads.
        sources: Name and content key of what it reads from outside the run.
        shared: All processes of a launch do its work together; also, it may be a job of its own.
    """

    name: str
    work: Work
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False


@dataclass(frozen=True)
class Status:
    """A stage in a plan: its key, and whether it is "done", "resumed" (begun and killed) or still "open"."""

    stage: Stage
    key: str
    state: str


class Runner:
    """Does stages one by one and remembers where they are.

    Args:
        folder: The run's folder; its lock must be held to do work.
        ahead: Called with the names of shared stages that wait for nothing, two or more, before the first is done: it
            may do them all at once, each with `fill`.
    """

    def __init__(self, folder: RunFolder, ahead: Callable[[Sequence[str]], None] | None = None) -> None:
        self.folder, self.ahead = folder, ahead
        self.done: dict[str, Artefact] = {}
        self._keys: dict[str, str] = {}

    def do(self, stages: Iterable[Stage]) -> None:
        """Do the stages that are not done yet, in order; each comes after those that it reads."""
        stages = list(stages)
        tried: set[str] = set()
        for place, stage in enumerate(stages):
            if self.ahead is not None and stage.shared and stage.name not in tried:
                ready = [other.name for other in stages[place:] if self._is_ready(other)]
                tried |= {*ready}
                if len(ready) > 1:
                    self.ahead(ready)
            inputs = self._inputs(stage)
            self._keys[stage.name] = self.folder.key(stage.name, stage.config, inputs)
            self.done[stage.name] = self.folder.do(
                stage.name,
                stage.config,
                inputs,
                lambda out, stage=stage: stage.work(out, partial(self.at, stage)),  # type: ignore[misc]
                shared=stage.shared,
            )

    def fill(self, stages: Iterable[Stage], name: str) -> None:
        """Do one stage's work up to its manifest, without publishing it; all that it reads must be finished."""
        for stage in stages:
            inputs = self._inputs(stage)
            key = self._keys[stage.name] = self.folder.key(stage.name, stage.config, inputs)
            self.done[stage.name] = Artefact(stage.name, key, self.folder.final(stage.name))
            if stage.name == name:
                with machine_errors(self.folder.partial(name, key)):
                    self.folder.fill(name, stage.config, inputs, lambda out: stage.work(out, partial(self.at, stage)))  # noqa: B023
                return

    def _is_ready(self, stage: Stage) -> bool:
        """Tell whether a stage may be a job now: not done, and all that it reads is."""
        if not stage.shared or not {*stage.inputs} <= self.done.keys():
            return False
        key = self.folder.key(stage.name, stage.config, self._inputs(stage))
        return self.folder.redo(stage.name) or not self.folder.is_done(stage.name, key)

    def plan(self, stages: Iterable[Stage]) -> list[Status]:
        """Return what doing the stages would do, without doing it."""
        found = []
        for stage in stages:
            key = self._keys[stage.name] = self.folder.key(stage.name, stage.config, self._inputs(stage))
            done = self.folder.is_done(stage.name, key) and not self.folder.redo(stage.name)
            begun = self.folder.partial(stage.name, key).exists()
            found.append(Status(stage, key, "done" if done else "resumed" if begun else "open"))
        return found

    def at(self, reader: Stage, name: str) -> Path:
        """Return the folder of a stage that is done, to a stage that says that it reads it; or where its own will be.

        Raises:
            LookupError: It does not say so, and would not be done again when what it reads changes.
        """
        if name == reader.name:
            return self.folder.final(name)
        if name not in reader.inputs:
            raise LookupError(f"stage {reader.name} reads {name}, which is not among its inputs")
        return self.done[name].path

    def _inputs(self, stage: Stage) -> dict[str, str]:
        return {**stage.sources, **{name: self._keys[name] for name in stage.inputs}}


def depending_on(stages: Iterable[Stage], start: str) -> set[str]:
    """Return the names of a stage and of all that depend on it; `start` may name a folder of stages.

    Raises:
        RecipeError: No stage has this name.
    """
    found: set[str] = set()
    names = []
    for stage in stages:
        names.append(stage.name)
        if stage.name == start or (start and stage.name.startswith(start.rstrip("/") + "/")) or found & {*stage.inputs}:
            found.add(stage.name)
    if not found:
        raise RecipeError(
            "no such stage",
            where="--from",
            value=start,
            allowed=names,
            do=did_you_mean(start, names, "'sacpo run --dry-run --json' lists the stages"),
        )
    return found
