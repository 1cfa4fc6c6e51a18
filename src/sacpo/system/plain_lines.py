"""Progress as plain lines, where nobody sees a bar: logs of nohup, of SLURM jobs, of continuous integration.

A line has the clock's time, the stage, and how far its work is. Lines come when a stage begins and ends, and at least
every 30 seconds between, from the first stage on. Those of the first 10 seconds are held back until then: a command
that is refused or done sooner says its error or its result, alone.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

HELD = 10.0
"""Seconds in which lines are held back."""
EVERY = 30.0
"""Seconds after which something is said again."""
STATES = {"start": "begins", "resume": "goes on where it was"}


@dataclass
class Work:
    """A piece of work under way.

    Attributes:
        description: What it is.
        total: Its units.
        unit: One of them.
        done: Units that are done.
        before: Of these, units that an earlier command did.
        started: When it began, on a monotonic clock.
        figures: What else is known, such as "loss 0.652".
    """

    description: str
    total: int
    unit: str
    done: int = 0
    before: int = 0
    started: float = field(default_factory=time.monotonic)
    figures: str = ""

    def rate(self, now: float) -> float:
        """Return the units of this command a second."""
        return (self.done - self.before) / max(now - self.started, 1e-9)

    def text(self, now: float) -> str:
        """Return how far it is: `step 120 of 900, loss 0.652, 4.0 step/s, 3 min 15 s left`."""
        parts = [f"{self.unit} {self.done:,} of {self.total:,}", *filter(None, [self.figures])]
        if rate := self.rate(now):
            parts += [speed(rate, self.unit), f"{duration((self.total - self.done) / rate)} left"]
        return ", ".join(parts)


class Lines:
    """Writes the lines to standard error; a thread of its own speaks where the work is silent for long."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.planned, self.whole = 0, True
        self._began = self._said = clock()
        self._held: list[str] = []
        self._seen: dict[str, float] = {}
        self._stage = ""
        self._works: list[Work] = []
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._speak, daemon=True)

    def start(self) -> None:
        """Begin to look after the work."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; lines that are still held back are dropped."""
        self._ended.set()
        self._thread.join()

    def stage(self, name: str, state: str) -> None:
        """Tell what became of a stage; one that is kept is counted and not told."""
        begun = self._seen.setdefault(name, self.clock())
        if state in STATES:
            self._seen[name], self._stage = self.clock(), name
            self._say(f"{self._place(name)} {STATES[state]}")
        elif state == "done":
            self._stage = ""
            self._say(f"{self._place(name)} done in {duration(self.clock() - begun)}")

    def open(self, work: Work) -> None:
        """Note a piece of work that begins."""
        self._works.append(work)

    def close(self, work: Work) -> None:
        """Note its end."""
        self._works.remove(work)

    def due(self) -> float:
        """Return the seconds until something may have to be said."""
        if not self._seen:
            return HELD
        first = self._began + HELD if self._held else float("inf")
        return min(first, self._said + EVERY) - self.clock()

    def beat(self) -> None:
        """Say how far the work is, if nothing was said for long; say what was held back, if its time has come."""
        if self._seen and self.clock() - self._said >= EVERY:
            self._say(self._under_way())
        with self._lock:
            self._flush()

    def _under_way(self) -> str:
        place = [self._place(self._stage)] if self._stage else []
        if not self._works:
            return ": ".join([*place, "at work"])
        work = self._works[-1]
        named = [] if work.description == self._stage.rpartition("/")[2] else [work.description]
        return ": ".join([*place, *named, work.text(self.clock())])

    def _place(self, name: str) -> str:
        if not self.planned:
            return name
        n = max(self.planned, len(self._seen))
        return f"stage {[*self._seen].index(name) + 1} of {'' if self.whole else 'at least '}{n}, {name}"

    def _say(self, text: str) -> None:
        with self._lock:
            self._said = self.clock()
            self._held.append(f"{time.strftime('%H:%M:%S')} {text}\n")
            self._flush()

    def _flush(self) -> None:
        if self.clock() - self._began < HELD:
            return
        held, self._held = "".join(self._held), []
        with suppress(OSError):  # a log that cannot be written does not end the work
            sys.stderr.write(held)
            sys.stderr.flush()

    def _speak(self) -> None:
        while not self._ended.wait(max(self.due(), 0.1)):
            self.beat()


def speed(rate: float, unit: str) -> str:
    """Return units a second, or seconds a unit where these are more than one."""
    return f"{rate:,.1f} {unit}/s" if rate >= 1 else f"{1 / rate:,.1f} s/{unit.removesuffix('s')}"


def duration(seconds: float) -> str:
    """Return a time in its two largest units: `3 min 15 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
