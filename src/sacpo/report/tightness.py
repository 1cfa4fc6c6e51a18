"""The figure of the theory check: what happened against what Theorems 2 and 3 allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from sacpo.errors import RecipeError
from sacpo.report.style import INK, MUTED, PARAMETERS, Drawing, colours, file_bytes, new_figure
from sacpo.system.files import write_atomic, write_json
from sacpo.theory.check import Check

PANELS = (
    ("Theorem 2", "regret", "regret_bound", "regret R(pi*) - R(pi_hat)"),
    ("Theorem 3 as printed", "violation", "printed", "violation b - G(pi_hat)"),
    ("Theorem 3, what its proof reaches", "violation", "repaired", "violation b - G(pi_hat)"),
)
LEAST, MOST = 1e-6, 1e4


def folder_for(out: Path) -> Path:
    """Return the folder, made if it was not there.

    Raises:
        RecipeError: It is a file.
    """
    if out.exists() and not out.is_dir():
        raise RecipeError("not a folder", where="--out", value=str(out), do="name a folder, new or not")
    out.mkdir(parents=True, exist_ok=True)
    return out


def write_check(found: Check, out: Path) -> list[Path]:
    """Write `check.json` and `tightness.png` into a folder and return their paths."""
    paths = [out / "check.json", out / "tightness.png"]
    write_json(paths[0], found.to_json())
    write_atomic(paths[1], file_bytes(tightness(found), "png"))
    return paths


def tightness(found: Check) -> Drawing:
    """Draw each theorem's left side over its right side; what lies above the line contradicts the theorem.

    Left sides below 1e-6, so most violations, and right sides above 10,000 have no place on the axes.
    """
    with mpl.rc_context(PARAMETERS):
        figure, axes = new_figure(11.4, 4.6, columns=len(PANELS))
        for axis, panel in zip(axes, PANELS, strict=True):
            _draw(axis, found.points, *panel)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
    said = "; ".join(f"{c.name}: {c.broken} of {c.instances} worlds broken" for c in found.claims if "," in c.name)
    return Drawing(figure, f"Left sides of Theorems 2 and 3 against their bounds. {said}.")


def _draw(axis: Axes, groups: dict[str, dict[str, list[float]]], title: str, left: str, right: str, label: str) -> None:
    looks = colours(list(groups))
    for name, points in groups.items():
        x, y = np.array(points[right]), np.array(points[left])
        seen = (x >= LEAST) & (x <= MOST) & (y >= LEAST)
        colour, marker = looks[name]
        style: dict[str, Any] = {"s": 8, "alpha": 0.55, "edgecolors": "none"}
        if name.endswith("by hand"):
            style = {"s": 60, "edgecolors": INK, "linewidths": 0.8, "zorder": 3}
        axis.scatter(x[seen], y[seen], c=colour, marker=marker, label=name, **style)
    axis.plot([LEAST, MOST], [LEAST, MOST], color=MUTED, linewidth=0.9)
    axis.set(xscale="log", yscale="log", xlim=(1e-3, MOST), ylim=(LEAST, 10), title=title)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set(xlabel="its bound", ylabel=label)
