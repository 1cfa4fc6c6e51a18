"""The Pareto front: points that no other point beats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sacpo.errors import DataError


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """Return which points no other point dominates, in ascending order; every coordinate is to be large.

    A point dominates another if it is at least as large in every coordinate and larger in one, so equal points stand
    on the front together.

    Shape:
        points: (n, d), finite.

    Raises:
        DataError: A coordinate is not finite, or the points differ in their number of coordinates.
    """
    if len({len(point) for point in points}) > 1:
        raise DataError("points of a front need equally many coordinates", value=sorted({len(p) for p in points}))
    if not points:
        return []
    values = np.array(points, dtype=np.float64).reshape(len(points), -1)
    if not np.isfinite(values).all():
        raise DataError(
            "a point of the front is not finite", value=values[~np.isfinite(values).all(axis=1)][0].tolist()
        )
    front = []
    for i, point in enumerate(values):  # a row at a time: n x d memory instead of n x n x d
        dominated = (values >= point).all(axis=1) & (values > point).any(axis=1)
        if not dominated.any():
            front.append(i)
    return front
