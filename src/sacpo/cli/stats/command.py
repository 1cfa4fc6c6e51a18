"""`sacpo stats` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sacpo.cli.from_api import Call, command
from sacpo.cli.stats.options import StatsOptions
from sacpo.system.visible import json_text, visible


@command(StatsOptions, {"form": "--format"})
def stats(
    call: Call,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE_OR_STORE...", help="Verdict files, SQLite stores or run folders.", show_default=False
        ),
    ],
) -> None:
    """Print win rates, tests, safety, over-refusal and the judges' reliability of any verdicts."""
    from sacpo.cli.stats import render_stats, stats_command

    result = stats_command(paths, call())
    print(json_text(result) if call.as_json else visible(render_stats(result)), end="\n" * call.as_json)
