"""`sacpo stats` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sacpo.system.visible import json_text, visible

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="FILE_OR_STORE...", help="Verdict files, SQLite stores or run folders.", show_default=False),
]


def stats(
    paths: Paths,
    baseline: Annotated[str | None, typer.Option("--baseline", help="The model to test and anchor at.")] = None,
    against: Annotated[str | None, typer.Option("--against", help="Compare every model with this one.")] = None,
    ratings: Annotated[bool, typer.Option("--ratings", help="Also fit Bradley-Terry ratings.")] = False,
    prompts: Annotated[str | None, typer.Option("--prompts", help="Only this prompt set of a run.")] = None,
    answers: Annotated[
        list[Path] | None, typer.Option("--answers", help="Answer files, for the length bias; a run's are found.")
    ] = None,
    tie_model: Annotated[
        str, typer.Option("--tie-model", help="Ties in ratings: davidson, rao-kupper or half.")
    ] = "davidson",
    draws: Annotated[int, typer.Option("--draws", min=0, help="Bootstrap resamples of the ratings.")] = 500,
    seed: Annotated[int, typer.Option("--seed", help="Root of bootstraps and permutations.")] = 0,
    form: Annotated[
        str, typer.Option("--format", help="Of the files: verdicts, alpaca-eval, llmbar, pandalm or xstest.")
    ] = "verdicts",
    gold: Annotated[
        str | None, typer.Option("--gold", metavar="JUDGE", help="Score judges by this one's labels, taken as true.")
    ] = None,
    majority: Annotated[
        bool, typer.Option("--majority", help="Also the majority of all judges, as a judge of its own.")
    ] = False,
    difficulty: Annotated[
        Path | None, typer.Option("--difficulty", help="AlpacaEval's instruction difficulties, for the length control.")
    ] = None,
    length_weights: Annotated[
        Path | None, typer.Option("--length-weights", help="AlpacaEval's length-control coefficients, to compare with.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print win rates, tests, safety, over-refusal and the judges' reliability of any verdicts."""
    from sacpo.cli.stats import StatsOptions, render_stats, stats_command

    options = StatsOptions(
        baseline,
        against,
        ratings,
        prompts,
        tuple(answers or ()),
        tie_model,
        draws,
        seed,
        form,
        gold,
        majority,
        difficulty,
        length_weights,
    )
    result = stats_command(paths, options)
    print(json_text(result) if as_json else visible(render_stats(result)), end="")
    if as_json:
        print()
