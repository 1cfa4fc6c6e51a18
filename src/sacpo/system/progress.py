"""Progress of long work: bars with rates and time left on a terminal, plain lines elsewhere, JSON lines for scripts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from sacpo.system import processes
from sacpo.system.plain_lines import Lines, Work
from sacpo.system.visible import json_text

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

T = TypeVar("T")


class Progress:
    """Where stages report what they do.

    Args:
        mode: "auto" draws bars if standard error is a terminal and writes plain lines to it elsewhere, "quiet" shows
            nothing, "json" writes events to standard output, one JSON object a line. Of several processes only the
            first says anything.
    """

    def __init__(self, mode: str = "quiet") -> None:
        if not processes.is_first():
            mode = "silent"
        elif mode == "auto":
            mode = "bars" if sys.stderr.isatty() else "lines"
        self.mode = mode
        self._bars: Bars | None = None
        self._lines: Lines | None = None

    def __enter__(self) -> Progress:
        if self.mode == "bars":
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Rich

            self._bars = Rich(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bars.start()
        elif self.mode == "lines":
            self._lines = Lines()
            self._lines.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        if self._lines is not None:
            self._lines.stop()
            self._lines = None

    def expect(self, stages: int, whole: bool) -> None:
        """Tell how many stages there will be, or at least be where the plan is not known whole."""
        if self._lines is not None:
            self._lines.planned, self._lines.whole = stages, whole

    def stage(self, name: str, state: str) -> None:
        """Tell what became of a stage: "start", "resume", "done" or "kept"."""
        if self._lines is not None:
            self._lines.stage(name, state)
        else:
            self.event("stage", stage=name, state=state)

    def event(self, name: str, **fields: object) -> None:
        """Tell that something happened: a JSON line, or a line above the bars."""
        if self.mode == "json":
            print(json_text({"event": name, **fields}, allow_nan=True), flush=True)
        elif self._bars is not None:
            self._bars.console.print(" ".join([name, *(str(value) for value in fields.values())]), highlight=False)

    def notice(self, text: str) -> None:
        """Say something that the user must see in every mode."""
        if self.mode == "json":
            self.event("notice", text=text)
        elif self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False)
        elif self.mode != "silent":
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, description: str, total: int, unit: str = "it") -> Iterator[Task]:
        """Show one piece of work of `total` units."""
        task = Task(self, description, total, unit)
        try:
            yield task
        finally:
            task.close()

    def track(self, items: Iterable[T], description: str, total: int, unit: str = "it") -> Iterator[T]:
        """Yield the items, showing how many are done."""
        with self.task(description, total, unit) as task:
            for item in items:
                yield item
                task.advance()


class Task:
    """One bar, or the work that a plain line tells of."""

    def __init__(self, progress: Progress, description: str, total: int, unit: str) -> None:
        self.work = Work(description, total, unit)
        self._lines, bars = progress._lines, progress._bars
        self._bar = None if bars is None else (bars, bars.add_task(description, total=total, rate=""))
        if self._lines is not None:
            self._lines.open(self.work)

    def skip(self, n: int) -> None:
        """Count `n` units that were done before: they say nothing about the rate."""
        self.work.before += n
        self.advance(n)

    def advance(self, n: int = 1) -> None:
        """Count `n` more units as done."""
        self.work.done += n
        if self._bar is not None:
            bars, own = self._bar
            rate = self.work.rate(time.monotonic())
            bars.update(own, advance=n, rate=f"{rate:.1f} {self.work.unit}/s")

    def figures(self, text: str) -> None:
        """Say what else is known of the work, such as its loss."""
        self.work.figures = text

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            bars, own = self._bar
            bars.remove_task(own)
        if self._lines is not None:
            self._lines.close(self.work)


QUIET = Progress("quiet")
