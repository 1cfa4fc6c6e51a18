"""Progress of long work: bars with rates and time left on a terminal, nothing elsewhere, JSON lines for scripts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sacpo.system import processes
from sacpo.system.visible import json_text

T = TypeVar("T")


class Progress:
    """Where stages report what they do.

    Args:
        mode: "auto" draws bars if standard error is a terminal, "quiet" shows nothing, "json" writes events to
            standard output, one JSON object a line. Of several processes only the first says anything.
    """

    def __init__(self, mode: str = "quiet") -> None:
        if not processes.is_first():
            mode = "silent"
        elif mode == "auto":
            mode = "bars" if sys.stderr.isatty() else "quiet"
        self.mode = mode
        self._bars: Any = None

    def __enter__(self) -> Progress:
        if self.mode == "bars":
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            self._bars = Bars(
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
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

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
    """One bar."""

    def __init__(self, progress: Progress, description: str, total: int, unit: str) -> None:
        self.unit, self.done, self.started = unit, 0, time.monotonic()
        self._bars = progress._bars
        self._id = self._bars.add_task(description, total=total, rate="") if self._bars is not None else None

    def advance(self, n: int = 1) -> None:
        """Count `n` more units as done."""
        self.done += n
        if self._bars is not None:
            rate = self.done / max(time.monotonic() - self.started, 1e-9)
            self._bars.update(self._id, advance=n, rate=f"{rate:.1f} {self.unit}/s")

    def close(self) -> None:
        """Remove the bar."""
        if self._bars is not None:
            self._bars.remove_task(self._id)


QUIET = Progress("quiet")
