"""Tables as plain text: a title, a header and columns."""

from __future__ import annotations

from collections.abc import Sequence

from sacpo.plain import JsonMapping


def section(title: str, header: str, rows: Sequence[Sequence[str]]) -> str:
    """Return a titled table, "" without any row; the header's names are separated by semicolons."""
    if not rows:
        return ""
    lines = [header.split(";"), *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    cells = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join([title, *cells])


def estimate_cells(estimate: JsonMapping, digits: int = 3) -> list[str]:
    """Return an estimate's value, interval, items and unparsed ones; "-" where there is none."""
    low, high = estimate["ci95"]
    value = "-" if estimate["value"] is None else f"{estimate['value']:.{digits}f}"
    ends = "-" if low is None or high is None else f"[{low:.{digits}f}, {high:.{digits}f}]"
    return [value, ends, str(estimate["n"]), str(estimate["unparsed"])]


def value_cell(estimate: JsonMapping) -> str:
    """Return an estimate's value and interval in one cell; "-" where there is no value."""
    value, ends, _, _ = estimate_cells(estimate)
    return value if estimate["value"] is None else f"{value} {ends}"


def number_cell(value: float | None, digits: int = 3) -> str:
    """Return a number's text, "-" where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
