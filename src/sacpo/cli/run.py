"""`sacpo run` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sacpo.cli.of_recipe import DryRun, Overrides, RecipeArgument, Runs, run_recipe, show_plan
from sacpo.cli.options import Json, Quiet, parse_options, shown


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Do this stage and all after it again.")
    ] = None,
    dry_run: DryRun = False,
    jobs: Annotated[
        str | None, typer.Option("--jobs", help="Independent trainings at the same time: slurm or local (submitit).")
    ] = None,
    job: Annotated[
        list[str] | None,
        typer.Option("--job", metavar="NAME=VALUE", help="A job's gpus_per_node, slurm_partition, ..."),
    ] = None,
    at_once: Annotated[int | None, typer.Option("--at-once", min=1, help="Most local jobs at a time.")] = None,
    preflight: Annotated[
        bool,
        typer.Option(
            "--preflight/--no-preflight", help="Look at judges, endpoints, models and files before the first stage."
        ),
    ] = True,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove unfinished stages that this recipe cannot go on from.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Do everything that a recipe says, resuming what was begun."""
    command = " ".join(["sacpo run", str(recipe), *(f"--set {override}" for override in overrides or [])])
    if dry_run:
        show_plan(recipe, overrides, runs, start, command, as_json)
        return
    from sacpo.pipeline.jobs import Jobs

    how = Jobs(jobs, parse_options(job, "--job"), at_once) if jobs is not None else None
    options = {"start": start, "jobs": how, "preflight": preflight, "clean": clean}
    run_recipe(recipe, overrides, runs, command, shown(as_json, quiet), as_json, **options)
