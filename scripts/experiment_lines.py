"""What tables of experiments share: their places on the page, figures seed by seed, what a line of models gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from write_experiments import ROOT, Figure, Run, finished, lacking, made, metric

FIGURES = ROOT / "docs"
"""Where figures are written."""


def with_tables(
    page: str,
    folder: Path,
    machine: str,
    blocks: re.Pattern[str],
    table: Callable[[list[Run], dict[str, str]], str | None],
) -> str:
    """Return a page with the tables whose runs are there, from all seeds that are done.

    Args:
        page: The page.
        folder: The runs, one folder a seed.
        machine: What they ran on.
        blocks: Three groups: the comment with its end of line, what it says (`KIND: RECIPE | NAME: VALUE | ...`), and
            the closing comment.
        table: Makes a table of the runs, and of what the comment says, its kind first; None where it needs others.
    """

    def block(found: re.Match[str]) -> str:
        asked = {name.strip(): value.strip() for name, value in (part.split(":", 1) for part in found[2].split(" | "))}
        recipe = next(iter(asked.values()))
        runs = [finished(folder, seed, recipe) for seed in sorted(folder.glob("seed-*"))]
        done = [run for run in runs if run is not None]
        if not done:
            print(f"{found[2]}: no finished run in {folder}/seed-*; its table stays as it is")
            return found[0]
        with lacking(f"{folder}/seed-*/{recipe}"):
            shown = table(done, asked)
        if shown is None:
            print(f"{found[2]}: no seed in {folder}/seed-* has all of its recipes; its table stays as it is")
            return found[0]
        return f"{found[1]}{made(done, machine)}\n\n{shown}\n{found[3]}"

    return blocks.sub(block, page)


def save(figure: Any, file: str) -> None:
    """Write a figure of the page."""
    figure.tight_layout()
    figure.savefig(FIGURES / file, dpi=120, metadata={"Software": None})


def names(text: str) -> list[str]:
    """Return the names in a list."""
    return [name.strip() for name in text.split(",")]


def figures(runs: Sequence[Run], model: str, name: str) -> list[Figure]:
    """Return a metric of a model on report prompts, of each seed."""
    return [metric(name)(run, model) for run in runs]


def minus(ours: Sequence[Figure], theirs: Sequence[Figure]) -> list[Figure]:
    """Return the differences, seed by seed."""
    return [None if a is None or b is None else a - b for a, b in zip(ours, theirs, strict=True)]


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Return the area that points dominate above a reference point; both coordinates are to be large."""
    area, top = 0.0, reference[1]
    for x, y in sorted(points, reverse=True):
        if x > reference[0] and y > top:
            area += (x - reference[0]) * (y - top)
            top = y
    return area


def crossing(points: Sequence[tuple[float, float]], bound: float) -> Figure:
    """Return y where x, falling along a line of points, first comes down to a bound, between two points linearly."""
    for (x, y), (next_x, next_y) in pairwise(points):
        if x > bound >= next_x:
            return y + (next_y - y) * (x - bound) / (x - next_x)
    return None
