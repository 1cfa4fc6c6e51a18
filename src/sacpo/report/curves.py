"""The figure of training curves."""

from __future__ import annotations

from collections.abc import Sequence

from sacpo.report.lookup import lines, shown_model
from sacpo.report.results import Results
from sacpo.report.style import Drawing, colours, new_figure
from sacpo.system.visible import visible

PANELS = (
    ("loss", "loss, nats"),
    ("rewards/margins", "reward margin"),
    ("rewards/accuracies", "reward accuracy"),
    ("rewards/chosen", "reward of the chosen answer"),
)
FEWEST_ROWS = 2
MOST = 24
"""More curves than this cannot be told apart, and their names leave the axes no room."""


def training(results: Results, narrow: bool = False) -> Drawing | None:
    """Draw loss, margins, accuracies and chosen rewards of every step over its optimiser steps."""
    every = [name for name, info in results.models.items() if info.kind == "step" and len(info.curve) >= FEWEST_ROWS]
    trained = _drawn(results, every)
    panels = [
        (key, title)
        for key, title in PANELS
        if any(key in row for name in trained for row in results.models[name].curve)
    ]
    if not panels:
        return None
    columns = 1 if narrow else 2
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(3.9 if narrow else 7.6, 2.3 * rows + 0.8, rows, columns)
    style = _line_styles(results, trained)
    notes: dict[str, str] = {}
    for axis, (key, title) in zip(axes, panels, strict=False):
        axis.set_title(title)
        for name in trained:
            rows_ = [
                (row.get("step", float(i)), row[key]) for i, row in enumerate(results.models[name].curve) if key in row
            ]
            colour, dashes, width = style[name]
            gid = f"curve-{len(notes)}"
            axis.plot(
                *zip(*rows_, strict=True), color=colour, linestyle=dashes, linewidth=width, label=visible(name), gid=gid
            ) if rows_ else None
            notes[gid] = f"{name}: {title}"
        axis.set_xlabel("optimiser step" if axis in axes[len(panels) - columns :] else "")
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3 if narrow else 5)
    of = str(len(every))
    if len(trained) < len(every):
        of = f"{len(trained)} of {of}"
        figure.suptitle(f"{of} models; the table has all", fontsize=8)
    return Drawing(figure, f"Training curves of {of} models: {', '.join(title for _, title in panels)}.", notes)


def _drawn(results: Results, names: Sequence[str]) -> list[str]:
    """Return the models whose curves are drawn: at most `MOST`, spread evenly over all, and the shown one."""
    if len(names) <= MOST:
        return [*names]
    chosen = shown_model(results)
    kept = {names[round(i * (len(names) - 1) / (MOST - 1))] for i in range(MOST)} | {chosen}
    return [name for name in names if name in kept]


def _line_styles(results: Results, names: Sequence[str]) -> dict[str, tuple[str, str, float]]:
    groups = {line: [name for name in members if name in names] for line, members in lines(results).items()}
    palette = colours([line for line, members in groups.items() if members])
    dashes = ("-", "--", "-.", ":")
    return {
        name: (palette[line][0], dashes[i % len(dashes)], 1.3)
        for line, members in groups.items()
        for i, name in enumerate(members)
    }
