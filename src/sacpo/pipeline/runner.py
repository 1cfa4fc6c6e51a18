"""Doing stages, and planning them: two executions of one program of stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sacpo.errors import RecipeError
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.recipe.explain import did_you_mean
from sacpo.system.machine import machine_errors
from sacpo.system.runs import RunFolder

S = TypeVar("S", bound=Stage[object])
T = TypeVar("T")


class Do(Protocol):
    """What a program of stages is written against."""

    def __call__(self, stage: S) -> S:
        """Do a stage if it is not done yet; return it, to be read by others."""
        ...

    def all(self, stages: Sequence[S]) -> None:
        """Do stages that do not wait for each other; they may be done at the same time."""
        ...

    def read(self, stage: Stage[T]) -> T:
        """Do a stage if it is not done yet, and return its result: what follows may depend on it."""
        ...

    def following(self, what: str) -> Any:
        """Say what is done inside a `with` block that depends on results, for a plan made before they are there."""
        ...


class Runner:
    """Does stages one by one.

    Args:
        folder: The run's folder; its lock must be held.
        tools: What stages work with.
        jobs: Called with two or more stages that wait for nothing: it may do them all at once, each by `fill`.
        redo: Tells which finished stages are done again.
        known: Called when a result is there on which the rest of the program depends.
    """

    def __init__(
        self,
        folder: RunFolder,
        tools: Tools,
        jobs: Callable[[Sequence[Stage[object]]], None] | None = None,
        redo: Callable[[Stage[object]], bool] = lambda stage: False,
        known: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.tools, self.jobs, self.redo, self.known = folder, tools, jobs, redo, known

    def __call__(self, stage: S) -> S:
        """Do a stage if it is not done yet."""
        work = _work(stage, self.tools)
        again = self.redo(stage)
        self.folder.do(stage.name, stage.config, stage.keys, work, shared=stage.shared, again=again)
        return stage

    def all(self, stages: Sequence[S]) -> None:
        """Do stages, as jobs where there are two or more to do."""
        if self.jobs is not None:
            todo = [stage for stage in stages if stage.shared and not is_kept(self.folder, stage, self.redo)]
            if len(todo) > 1:
                self.jobs(todo)
        for stage in stages:
            self(stage)

    def read(self, stage: Stage[T]) -> T:
        """Do a stage if it is not done yet, and return its result; then more of the program is known."""
        result = self.tools.read(self(stage))
        self.known()
        return result

    @contextmanager
    def following(self, what: str) -> Iterator[None]:
        """Do what is inside."""
        yield


@dataclass(frozen=True)
class Status:
    """A stage in a plan, and whether it is "done", "resumed" (begun and killed) or still "open"."""

    stage: Stage[object]
    state: str

    @property
    def key(self) -> str:
        """The stage's key."""
        return self.stage.key


class NotKnown(Exception):
    """A plan has come to a result that is not there yet."""


class Plan:
    """Notes what doing stages would do, without doing it.

    Attributes:
        statuses: The stages that are certain, in order.
        later: What follows by results that are not there yet; empty: the plan is whole.
    """

    def __init__(self, folder: RunFolder, redo: Callable[[Stage[object]], bool] = lambda stage: False) -> None:
        self.folder, self.redo = folder, redo
        self.statuses: list[Status] = []
        self.later: list[str] = []
        self._said: list[str] = []

    def __call__(self, stage: S) -> S:
        """Note a stage, once."""
        if any(status.stage.name == stage.name and status.key == stage.key for status in self.statuses):
            return stage
        partial = self.folder.partial(stage.name, stage.key)
        with machine_errors(self.folder.path):
            begun = partial.exists()
            state = "done" if is_kept(self.folder, stage, self.redo) else "resumed" if begun else "open"
        self.statuses.append(Status(stage, state))
        return stage

    def all(self, stages: Sequence[S]) -> None:
        """Note stages."""
        for stage in stages:
            self(stage)

    def read(self, stage: Stage[T]) -> T:
        """Return a finished stage's result.

        Raises:
            NotKnown: It is not finished.
        """
        self(stage)
        if not is_kept(self.folder, stage, self.redo):
            self.later = [f"then, by what {stage.name} finds: {self._said[-1] if self._said else 'what it asks for'}"]
            raise NotKnown
        return stage.read(self.folder.final(stage.name))

    @contextmanager
    def following(self, what: str) -> Iterator[None]:
        """Remember what is inside."""
        self._said.append(what)
        yield
        self._said.pop()

    def of(self, program: Callable[[Do], None]) -> Plan:
        """Execute a program as far as its results are there; return this plan."""
        with suppress(NotKnown):
            program(self)
        return self


def fill(folder: RunFolder, tools: Tools, stage: Stage[object]) -> None:
    """Do one stage's work up to its manifest, without publishing it; all that it reads must be finished."""
    folder.fill(stage.name, stage.config, stage.keys, _work(stage, tools))


def is_kept(folder: RunFolder, stage: Stage[object], redo: Callable[[Stage[object]], bool]) -> bool:
    """Tell whether a stage is finished and stays."""
    return folder.is_done(stage.name, stage.key) and not redo(stage)


def _work(stage: Stage[object], tools: Tools) -> Callable[[Path], None]:
    return lambda out: stage.work(out, tools)


def starts(start: str, name: str) -> bool:
    """Tell whether `start` names a stage, or a folder of stages in which it is."""
    return name == start or (bool(start) and name.startswith(start.rstrip("/") + "/"))


def depends(stage: Stage[object], start: str) -> bool:
    """Tell whether a stage is `start`, or reads it, or reads what reads it."""
    return starts(start, stage.name) or any(starts(start, other.name) for other in stage.ancestors())


def check_start(plan: Plan, start: str) -> None:
    """Check that a stage of this name is planned, or may follow by results.

    Raises:
        RecipeError: No stage has this name.
    """
    names = [status.stage.name for status in plan.statuses]
    if not plan.later and not any(starts(start, name) for name in names):
        raise RecipeError(
            "no such stage",
            where="--from",
            value=start,
            allowed=names,
            do=did_you_mean(start, names, "'sacpo run --dry-run --json' lists the stages"),
        )
