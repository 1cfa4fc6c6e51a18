"""A search in small: train at a strength, measure, halve what is left, at most three trainings."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from sacpo.pipeline.run import run_program
from sacpo.pipeline.runner import Do
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.system.files import write_atomic
from sacpo.system.runs import RunFolder

STEPS = 8
BOUND = 0.3


@dataclass(frozen=True)
class Train(Stage[float]):
    """Counts to `STEPS`, one file a step, so that a killed one goes on; its model is the strength squared."""

    strength: float

    @property
    def name(self) -> str:
        return f"train/{self.strength:g}"

    def work(self, out: Path, tools: Tools) -> None:
        for step in range(STEPS):
            path = out / f"step-{step}"
            if not path.is_file():
                time.sleep(0.002)
                before = float((out / f"step-{step - 1}").read_text()) if step else 0.0
                write_atomic(path, repr(before + self.strength**2 / STEPS))

    def read(self, folder: Path) -> float:
        return float((folder / f"step-{STEPS - 1}").read_text())


@dataclass(frozen=True)
class Measure(Stage[float]):
    """The unsafe rate of a model: here the model itself."""

    model: Train

    @property
    def name(self) -> str:
        return f"measure/{self.model.strength:g}"

    def work(self, out: Path, tools: Tools) -> None:
        write_atomic(out / "rate", repr(tools.read(self.model)))

    def read(self, folder: Path) -> float:
        return float((folder / "rate").read_text())


@dataclass(frozen=True)
class Found(Stage[float]):
    """What the search ended with."""

    strength: float
    tried: tuple[Measure, ...]

    name = "found"

    def work(self, out: Path, tools: Tools) -> None:
        write_atomic(out / "found.json", json.dumps([self.strength, [tools.read(one) for one in self.tried]]))

    def read(self, folder: Path) -> float:
        return float(json.loads((folder / "found.json").read_text())[0])


def search(do: Do) -> None:
    """Find the largest strength whose rate meets the bound."""
    low, high, tried = 0.0, 1.0, []
    for left in (2, 1, 0):
        strength = (low + high) / 2
        measured = Measure(do(Train(strength)))
        with do.following(f"up to {left} more trainings"):
            rate = do.read(measured)
        tried.append(measured)
        low, high = (strength, high) if rate <= BOUND else (low, strength)
    do(Found(low, tuple(tried)))


def run_search(path: Path) -> None:
    folder = RunFolder(path)
    run_program(search, folder, Tools(folder, cache=path / "cache"))
