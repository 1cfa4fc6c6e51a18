"""`sacpo stats`: every table of verdict files, run folders and stores, as data, as text and as a command."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sacpo.stats_cli.tables import StatsOptions, stats_command
    from sacpo.stats_cli.text import render_stats

__all__ = ["StatsOptions", "render_stats", "stats_command"]

_WHERE = {"StatsOptions": "tables", "render_stats": "text", "stats_command": "tables"}


def __getattr__(name: str) -> Any:  # the command line imports this package for its options alone
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
