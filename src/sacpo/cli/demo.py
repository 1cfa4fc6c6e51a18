"""`sacpo demo` on the command line."""

from __future__ import annotations

from pathlib import Path

from sacpo.cli.of_recipe import DryRun, Overrides, Runs, run_recipe, show_plan
from sacpo.cli.options import Json, Quiet, shown


def demo(
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run the demo that the package carries: a small world whose reward and safety are known, in minutes."""
    from sacpo.recipe.load import DEMO

    command = " ".join(["sacpo demo", *(f"--set {override}" for override in overrides or [])])
    if dry_run:
        show_plan(DEMO, overrides, runs, None, command, as_json)
        return
    run_recipe(DEMO, overrides, runs, command, shown(as_json, quiet), as_json)
