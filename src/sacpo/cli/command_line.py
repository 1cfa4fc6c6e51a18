"""The command line. torch is imported by the commands that need it only, so that help and checks answer at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from sacpo._version import __version__
from sacpo.cli import verbs
from sacpo.cli.next_steps import after
from sacpo.cli.options import Json, Quiet, parse_options, shown
from sacpo.errors import RecipeError, SacpoError
from sacpo.system import processes
from sacpo.system.machine import UNFORESEEN, unforeseen, unreadable

app = typer.Typer(
    name="sacpo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Make a language model as helpful as possible under a safety constraint, and show that it is.",
)

RecipeArgument = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change a recipe's value.")
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of all runs.")]


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a training diverged, 2 bad input or a machine that refuses, 70 unforeseen, 130 interrupted,
    141 nobody reads standard output any more, 143 terminated.
    """
    told = threading.Event()
    try:
        with _terminated(told), processes.relayed(), _first_speaks():
            _check_arguments(sys.argv[1:])
            try:
                app(standalone_mode=True)
            finally:
                sys.stdout.flush()  # here, where its failure can still be told
    except SacpoError as error:
        _end(f"error: {error}", error.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:  # typer turns the former into the latter without a word
        if isinstance(end, SystemExit) and end.code not in (1, processes.INTERRUPTED):
            raise
        if isinstance(end, SystemExit) and end.code == 1:  # typer's word for a pipe that was closed
            sys.exit(processes.BROKEN_PIPE)
        code = processes.TERMINATED if told.is_set() else processes.INTERRUPTED
        _end("interrupted: the same command goes on from here", code)
    except BrokenPipeError:
        if sys.stdout is sys.__stdout__ and sys.stdout is not None:  # nothing is left to say at the interpreter's end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(processes.BROKEN_PIPE)
    except Exception as error:  # noqa: BLE001 - the last resort: exit code 1 means "diverged" and nothing else
        refused = unreadable(error)
        _end(*((f"error: {refused}", refused.exit_code) if refused is not None else (unforeseen(error), UNFORESEEN)))


def _end(said: str, code: int) -> NoReturn:
    print(said, file=sys.stderr)
    sys.exit(code)


@contextlib.contextmanager
def _terminated(told: threading.Event) -> Iterator[None]:
    """Let SIGTERM say its word like Ctrl-C, and note it; processes of a launcher end each other in their own way."""
    if processes.launched() > 1 or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*signal_and_frame: object) -> NoReturn:
        told.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_arguments(arguments: Sequence[str]) -> None:
    """Refuse arguments that are not text: they would have to be written into results and reports."""
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RecipeError(
                "an argument is not valid UTF-8", where="command line", value=argument, do="rename the file or the name"
            ) from error


def _version(asked: bool) -> None:
    if asked:
        print(f"sacpo {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options in front of a command."""


@app.command()
def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Do this stage and all after it again.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
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
        _show_plan(recipe, overrides, runs, start, command, as_json)
        return
    from sacpo.pipeline.jobs import Jobs

    how = Jobs(jobs, parse_options(job, "--job"), at_once) if jobs is not None else None
    options = {"start": start, "jobs": how, "preflight": preflight, "clean": clean}
    _run(recipe, overrides, runs, command, shown(as_json, quiet), as_json, **options)


@app.command()
def demo(
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run the demo that the package carries: a small world whose reward and safety are known, in minutes."""
    from sacpo.recipe.load import DEMO

    command = " ".join(["sacpo demo", *(f"--set {override}" for override in overrides or [])])
    if dry_run:
        _show_plan(DEMO, overrides, runs, None, command, as_json)
        return
    _run(DEMO, overrides, runs, command, shown(as_json, quiet), as_json)


def _run(
    recipe: Path,
    overrides: Sequence[str] | None,
    runs: Path,
    command: str,
    showing: Any,
    as_json: bool,
    **options: Any,
) -> None:
    from sacpo.recipe import load_recipe
    from sacpo.recipe.notices import notices

    loaded = load_recipe(recipe, overrides or [])
    from sacpo.pipeline.run import run as run_recipe

    with showing as progress:
        done = run_recipe(loaded, runs=runs, command=command, progress=progress, **options)
        for text in notices(loaded):  # beside the results: an error stands alone
            progress.notice(text)
    _show_run(done, loaded, as_json)


@app.command()
def validate(recipe: RecipeArgument, overrides: Overrides = None, as_json: Json = False) -> None:
    """Check a recipe without doing anything."""
    from sacpo.judging.llm.specs import check_judges
    from sacpo.judging.preflight import check_merges
    from sacpo.recipe import load_recipe, model_graph
    from sacpo.recipe.notices import notices, unchecked

    loaded = load_recipe(recipe, overrides or [])
    check_judges(loaded)
    check_merges(loaded)
    models = list(model_graph(loaded))
    said = {"notices": notices(loaded), "not_checked": unchecked(loaded)}
    if as_json:
        print(json.dumps({"name": loaded.name, "models": models, "valid": True, **said}))
        return
    print("\n".join([f"{recipe}: valid; {len(models)} models: {', '.join(models)}", *said["notices"]]))
    _say_unchecked(said["not_checked"])


@app.command()
def schema(
    what: Annotated[str, typer.Argument(help="recipe or results", metavar="[recipe|results]")] = "recipe",
) -> None:
    """Print the JSON schema of recipes, for editors, or of results.json."""
    from sacpo.recipe import recipe_schema

    if what not in ("recipe", "results"):
        raise RecipeError(
            "no such schema", where="schema", value=what, allowed=["recipe", "results"], do="name one of these"
        )
    if what == "results":
        from sacpo.report.results import results_schema

        print(json.dumps(results_schema(), indent=2))
    else:
        print(json.dumps(recipe_schema(), indent=2))


@contextlib.contextmanager
def _first_speaks() -> Iterator[None]:
    """Let one process of several write results to standard output."""
    if processes.is_first():
        yield
        return
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _show_plan(
    path: Path, overrides: Sequence[str] | None, runs: Path, start: str | None, command: str, as_json: bool
) -> None:
    from sacpo.judging.preflight import check_merges
    from sacpo.pipeline.run import plan
    from sacpo.pipeline.show import plan_tables
    from sacpo.pipeline.sizes import as_json as plan_json
    from sacpo.pipeline.sizes import judgings, trainings
    from sacpo.recipe import load_recipe
    from sacpo.recipe.notices import unchecked

    recipe = load_recipe(path, overrides or [])
    check_merges(recipe)
    planned = plan(recipe, runs=runs, start=start, command=command)
    found, judged = trainings(recipe, planned), judgings(recipe, planned)
    if as_json:
        print(json.dumps({**plan_json(recipe, planned, found, judged), "not_checked": unchecked(recipe)}))
        return
    plan_tables(recipe, planned, found, judged)
    _say_unchecked(unchecked(recipe))


def _say_unchecked(found: Sequence[str]) -> None:
    for text in found:
        print(f"not checked here, but before the first stage of a run: {text}")


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

        print(headline(parse_results(done.results)).text)
        print(f"report:  {done.page}")
    if model is not None:
        print(f"model:   {model}")
    print(f"run:     {done.folder} ({used / 1e6:,.1f} MB of disk)")
    print(after(done, recipe), end="")


verbs.add_to(app)
