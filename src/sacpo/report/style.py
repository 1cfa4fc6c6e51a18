"""How figures look and how they become bytes: the same results give the same bytes, on light and on dark pages."""

from __future__ import annotations

import html
import io
import re
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sacpo.system.visible import visible

INK, MUTED, GRID, PAPER = "#1c1f24", "#5c636e", "#dfe2e6", "#fefefe"
SERIES = ("#1f6fb8", "#c4560c", "#1a7f57", "#8250b4", "#b5304e", "#0d7d8c", "#866a00", "#5d6775")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
# On the page a colour becomes a CSS variable, so that the reader's light or dark scheme decides.
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    **{colour: f"--s{index}" for index, colour in enumerate(SERIES)},
}
PARAMETERS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "text.parse_math": False,  # names are shown as they are
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "pdf.fonttype": 42,
    "svg.hashsalt": "sacpo",
}
METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


@dataclass
class Drawing:
    """A figure with what a pointer over its marks says.

    Attributes:
        figure: The matplotlib figure.
        alt: The figure in words.
        notes: A mark's gid: its text.
    """

    figure: Figure
    alt: str
    notes: dict[str, str] = field(default_factory=dict)


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of this size in inches, and its axes row by row."""
    with mpl.rc_context(PARAMETERS):
        figure = Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor=PAPER)
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, squeeze=False)
    axes = [axis for row in grid for axis in row]
    for axis in axes:
        axis.set_facecolor("none")
        axis.tick_params(length=0)
    return figure, axes


def file_bytes(drawing: Drawing, kind: str) -> bytes:
    """Return the figure as a PNG, SVG or PDF file's bytes; no date, path or version is in them."""
    with mpl.rc_context({**PARAMETERS, "svg.fonttype": "path"}):
        out = io.BytesIO()
        drawing.figure.savefig(out, format=kind, dpi=200, facecolor=PAPER, metadata=METADATA[kind])
    return out.getvalue()


def inline_svg(drawing: Drawing, prefix: str) -> str:
    """Return the figure as an `<svg>` element for the page: colours from the page, marks with titles, ids of its own.

    Args:
        drawing: What to draw.
        prefix: Put before every id, so that several figures can stand on one page.
    """
    with mpl.rc_context({**PARAMETERS, "svg.fonttype": "none"}):
        out = io.StringIO()
        drawing.figure.savefig(out, format="svg", transparent=True, metadata=METADATA["svg"])
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    # matplotlib writes either the shorthand or its parts, by version
    text = re.sub(r"(font: (?:[a-z0-9]+ )*[\d.]+px|font-family:) [^;\"]+", r"\1 var(--sans)", text)
    text = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{prefix}-", text).replace("xlink:href", "href")
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    for gid, note in drawing.notes.items():
        mark = f'<g id="{prefix}-{gid}">'
        text = text.replace(mark, f"{mark}<title>{html.escape(visible(note))}</title>")
    label = html.escape(visible(drawing.alt), quote=True)
    return re.sub(
        r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", r'<svg \1 role="img" aria-label="{}">', text, count=1
    ).replace('aria-label="{}"', f'aria-label="{label}"', 1)


def colours(names: list[str]) -> dict[str, tuple[str, str]]:
    """Return each series' colour and marker; the ninth has the first's colour with another marker."""
    n, shift = len(SERIES), len(MARKERS)
    return {name: (SERIES[i % n], MARKERS[(i + i // n) % shift]) for i, name in enumerate(names)}
