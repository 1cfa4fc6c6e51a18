"""`sacpo stats`: every table of verdict files, run folders and stores, as data and as text."""

from sacpo.cli.stats.options import StatsOptions
from sacpo.cli.stats.tables import stats_command
from sacpo.cli.stats.text import render_stats

__all__ = ["StatsOptions", "render_stats", "stats_command"]
