"""Placing labels beside marks so that they hide neither marks nor each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation
from numpy.typing import NDArray

# (dx, dy) in points from the mark, with the alignment that makes the text grow away from it
PLACES = (
    (6, 5, "left", "bottom"),
    (-6, 5, "right", "bottom"),
    (6, -5, "left", "top"),
    (-6, -5, "right", "top"),
    (9, 0, "left", "center"),
    (-9, 0, "right", "center"),
    (0, 9, "center", "bottom"),
    (0, -9, "center", "top"),
    (13, 13, "left", "bottom"),
    (-13, 13, "right", "bottom"),
    (13, -13, "left", "top"),
    (-13, -13, "right", "top"),
)
NEAR = 12
LEADER = {"arrowstyle": "-", "linewidth": 0.6, "alpha": 0.7, "shrinkA": 0, "shrinkB": 2}
"""A thin line from a label to its mark, where they are farther apart than `NEAR` points across and along together."""
HIDES = 4.0  # how much worse it is to hide a mark or a label, or to leave the axes, than to cross a line
MARK, PIECE = 8.0, 3.0  # pixels: half of what a mark and its surroundings take, and a piece of a line
SAME = 1e-6
"""Square pixels by which a place must be better than an earlier one."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mark:
    """A point with its label.

    Attributes:
        x, y: Data coordinates.
        text: The label.
        colour: Of the text.
        bold: Whether the label is set in bold; bold labels are placed first.
    """

    x: float
    y: float
    text: str
    colour: str
    bold: bool = False


def place_labels(
    axis: Axes, marks: Sequence[Mark], size: float = 7.5, strokes: Sequence[Sequence[tuple[float, float]]] = ()
) -> None:
    """Write each mark's label at the first place around it that covers least; the axes' limits must be final.

    `strokes` are lines in data coordinates that labels should keep off.
    """
    points = [tuple(axis.transData.transform((mark.x, mark.y))) for mark in marks]
    taken = np.array([(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in points]).reshape(-1, 4)
    crossed = np.array([box for stroke in strokes for box in _along(axis, stroke)]).reshape(-1, 4)
    frame = axis.get_window_extent()
    inside = np.array([[frame.x0, frame.y0, frame.x1, frame.y1]])
    for mark in sorted(marks, key=lambda mark: not mark.bold):
        best: tuple[float, Annotation, Box] | None = None
        for dx, dy, across, along in PLACES:
            note = axis.annotate(
                mark.text,
                (mark.x, mark.y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=across,
                va=along,
                fontsize=size + mark.bold,
                fontweight="bold" if mark.bold else "normal",
                color=mark.colour,
                arrowprops=LEADER | {"color": mark.colour} if abs(dx) + abs(dy) > NEAR else None,
            )
            box = _box(axis, note)
            cost = _covered(box, crossed) + HIDES * (_covered(box, taken) + _area(box) - _covered(box, inside))
            if best is None or cost < best[0] - SAME:
                if best is not None:
                    best[1].remove()
                best = (cost, note, box)
            else:
                note.remove()
            if best[0] <= SAME:  # it covers nothing: no place is better
                break
        assert best is not None
        taken = np.vstack([taken, best[2]])


def _along(axis: Axes, stroke: Sequence[tuple[float, float]]) -> Iterator[Box]:
    """Cut a line into small boxes, so that covering it costs by length."""
    places = [tuple(axis.transData.transform(point)) for point in stroke]
    for (x0, y0), (x1, y1) in pairwise(places):
        pieces = max(1, round(max(abs(x1 - x0), abs(y1 - y0)) / PIECE))
        for i in range(pieces):
            x, y = x0 + (x1 - x0) * (i + 0.5) / pieces, y0 + (y1 - y0) * (i + 0.5) / pieces
            yield x - PIECE / 2, y - PIECE / 2, x + PIECE / 2, y + PIECE / 2


def _box(axis: Axes, note: Annotation) -> Box:
    canvas = axis.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    found = note.get_window_extent(canvas.get_renderer())  # type: ignore[no-untyped-call]
    return found.x0, found.y0, found.x1, found.y1


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _covered(box: Box, others: NDArray[np.float64]) -> float:
    """Return how much area a box shares with the others, counted once for each."""
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    return float((width.clip(0) * height.clip(0)).sum())
