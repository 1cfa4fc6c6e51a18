"""The legend of the figures with models as points: what stands for no line of models, too."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

from matplotlib.lines import Line2D

from sacpo.report.lookup import shown_model
from sacpo.report.results import Results
from sacpo.report.style import INK


def breaking_a_bound(results: Results) -> set[str]:
    """Return the models that do not meet every constraint on tuning prompts."""
    candidates = results.selection.models if results.selection else {}
    return {name for name, candidate in candidates.items() if not candidate.feasible}


def filled(handle: Any) -> Any:
    """Return a line's entry in the legend, filled whether or not its first model meets the bounds."""
    shown = copy.copy(handle)
    shown.set_markerfacecolor(handle.get_color())
    return shown


def signs(results: Results, points: Collection[str]) -> list[Line2D]:
    """Return the legend's entries for what stands for no line of models."""
    found: list[Line2D] = []
    options: dict[str, Any] = {"color": INK, "linestyle": "none", "markerfacecolor": "none"}
    if shown_model(results) in points:
        found.append(Line2D([], [], marker="o", markersize=11, markeredgewidth=1.6, label="chosen", **options))
    if breaking_a_bound(results) & {*points}:
        found.append(
            Line2D([], [], marker="o", markersize=6, markeredgewidth=1.1, label="hollow: breaks a bound", **options)
        )
    if any(info.kind == "merge" for info in results.models.values()):
        found.append(Line2D([], [], color=INK, linewidth=1, linestyle=":", label="to what is merged"))
    return found
