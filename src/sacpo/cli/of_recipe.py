"""What the verbs that take a recipe share: their options, the plan, the run and what they say of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sacpo.cli.next_steps import after

RecipeArgument = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change a recipe's value.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of all runs.")]


def run_recipe(
    recipe: Path,
    overrides: Sequence[str] | None,
    runs: Path,
    command: str,
    showing: Any,
    as_json: bool,
    **options: Any,
) -> None:
    """Do a recipe and say what came of it; `options` are those of `sacpo.run`."""
    from sacpo.recipe import load_recipe
    from sacpo.recipe.notices import notices

    loaded = load_recipe(recipe, overrides or [])
    from sacpo.pipeline.run import run

    with showing as progress:
        done = run(loaded, runs=runs, command=command, progress=progress, **options)
        for text in notices(loaded):  # beside the results: an error stands alone
            progress.notice(text)
    _show_run(done, loaded, as_json)


def show_plan(
    path: Path, overrides: Sequence[str] | None, runs: Path, start: str | None, command: str, as_json: bool
) -> None:
    """Print what a run would do."""
    from sacpo.judging.preflight import check_merges
    from sacpo.pipeline.prompt_sets import prompt_sets
    from sacpo.pipeline.run import plan
    from sacpo.pipeline.show import plan_tables
    from sacpo.pipeline.sizes import as_json as plan_json
    from sacpo.pipeline.sizes import judgings, trainings
    from sacpo.recipe import load_recipe
    from sacpo.recipe.notices import unchecked

    recipe = load_recipe(path, overrides or [])
    check_merges(recipe)
    planned = plan(recipe, runs=runs, start=start, command=command)
    sets = prompt_sets(planned)  # first: it says where there are fewer prompts than the recipe asks for
    found, judged = trainings(recipe, planned), judgings(recipe, planned)
    if as_json:
        print(json.dumps({**plan_json(recipe, planned, found, judged, sets), "not_checked": unchecked(recipe)}))
        return
    plan_tables(recipe, planned, found, judged, sets)
    say_unchecked(unchecked(recipe))


def say_unchecked(found: Sequence[str]) -> None:
    """Print what only a run checks."""
    for text in found:
        print(f"not checked here, but before the first stage of a run: {text}")


def diagnosed(results: Any) -> str:
    """Return the diagnoses that were found, with the models that they were found in."""
    found = [one for one in results.diagnosis if one.verdict == "found"]
    return "; ".join(f"{one.name}: {', '.join(one.models)}" if one.models else one.name for one in found)


def _show_run(done: Any, recipe: Any, as_json: bool) -> None:
    from sacpo.system.leftovers import disk_use

    model, used = done.chosen_model, disk_use(done.folder)
    if as_json:
        said = {"folder": str(done.folder), "chosen": done.chosen, "report": str(done.page), "disk": used}
        print(json.dumps({"event": "done", **said, "model": model and str(model)}))
        return
    if done.results:
        from sacpo.report.headline import headline
        from sacpo.report.results import parse_results

        results = parse_results(done.results)
        found = headline(results)
        print("\n".join([found.answer, *(f"  {text}" for text in (*found.figures, *found.notes))]))
        if there := diagnosed(results):
            print(f"found:   {there} (see the report)")
        print(f"report:  {done.page}")
    if model is not None:
        print(f"model:   {model}")
    print(f"run:     {done.folder} ({used / 1e6:,.1f} MB of disk)")
    print(after(done, recipe), end="")
