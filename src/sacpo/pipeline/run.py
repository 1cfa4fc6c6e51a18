"""Running a recipe: all of its stages, or a plan of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from sacpo.errors import RunError
from sacpo.judging.llm.specs import budget_of
from sacpo.judging.preflight import preflight as check_ahead
from sacpo.pipeline.jobs import Jobs
from sacpo.pipeline.order import experiment
from sacpo.pipeline.outside import Outside
from sacpo.pipeline.runner import Do, Plan, Runner, check_start, depends
from sacpo.pipeline.shown import MODEL, REPORT, show_results
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonObject
from sacpo.recipe.explain import did_you_mean
from sacpo.recipe.schema import Recipe
from sacpo.system import processes
from sacpo.system.files import clear_temporary, read_json, write_atomic, write_json
from sacpo.system.leftovers import disk_use, remove
from sacpo.system.machine import machine_errors
from sacpo.system.progress import QUIET, Progress
from sacpo.system.runs import RunFolder

RECIPE, REDO, CACHE = "recipe.yaml", "redo.json", "cache"
Program = Callable[[Do], None]
"""A program of stages, such as `sacpo.pipeline.order.experiment` of a recipe."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Its folder.
        results: What is in results.json; empty for a recipe without prompts.
    """

    folder: Path
    results: JsonObject

    @property
    def chosen(self) -> str | None:
        """The selected model's name; None where none meets every constraint or nothing was to be selected."""
        selection = self.results.get("selection") or {}
        return selection.get("chosen")

    @property
    def report(self) -> Path:
        """The report's folder."""
        return self.folder / "stages" / "report"

    @property
    def page(self) -> Path:
        """The report's page, at the top of the run's folder."""
        return self.folder / REPORT

    @property
    def chosen_model(self) -> Path | None:
        """The chosen model's folder, at the top of the run's; None where no weights were written."""
        place = self.folder / MODEL
        return place if self.chosen is not None and place.is_dir() else None

    def model(self, name: str | None = None) -> Path:
        """Return the folder of the chosen model, or of one by name that has weights or adapters in the run.

        Args:
            name: A step's model, "sft", or the chosen one's name; None: the chosen model.

        Raises:
            RunError: There is no such folder: none was chosen, a merge was made where it was needed and not kept, or
                the run has no model of this name.
        """
        found, chosen = self._folders(), self.folder / "stages" / "chosen" / "model"
        if _has_files(chosen) and (name is None or (name not in found and name == self._written)):
            return chosen
        wanted = self.chosen if name is None else name
        if wanted in found:
            return found[wanted]
        raise self._no_folder(wanted, [*found])

    def _folders(self) -> dict[str, Path]:
        """Return the folders of models that were trained, or that the run began with, by name."""
        stages = self.folder / "stages"
        first = {"sft": next((path for name in ("sft", "base") if _has_files(path := stages / name / "model")), None)}
        steps = {path.parent.name: path for path in sorted(stages.glob("align/*/model")) if _has_files(path)}
        return {name: path for name, path in (first | steps).items() if path is not None}

    @property
    def _written(self) -> str | None:
        """The name of the model in the folder of the chosen one: the certified one where a certificate decides."""
        certificate = self.results.get("certificate") or {}
        return certificate.get("certified") or self.chosen

    def _no_folder(self, wanted: str | None, there: list[str]) -> RunError:
        what, do = "the run has no such model", "name one of these: run.model(NAME)"
        known = self.results.get("models") or {}
        if wanted is None:
            what = "no model was chosen: none meets every bound, or nothing was to be selected"
        elif wanted in known:
            what = "this model has no folder of its own"
            ends = [f"run.model({parent!r})" for parent in known[wanted]["parents"] if parent in there]
            if known[wanted]["kind"] == "merge" and len(ends) == 2 and known[wanted]["method"] == "linear":
                do = f"merge it: api.merge({ends[0]}, {ends[1]}, OUT, q={known[wanted]['q']:g})"
        else:
            do = did_you_mean(wanted, there, do)
        return RunError(what, where=self.folder / "stages", value=wanted, allowed=there, do=do)


def run(
    recipe: Recipe,
    *,
    runs: str | Path = "runs",
    start: str | None = None,
    command: str = "",
    jobs: Jobs | None = None,
    preflight: bool = True,
    clean: bool = False,
    progress: Progress = QUIET,
) -> Run:
    """Do every stage of a recipe that is not done yet, resuming what a killed run left.

    Args:
        recipe: The experiment.
        runs: The folder of all runs; this one's is `runs/NAME`.
        start: Do this stage, and all that depend on it, again.
        command: How the run was started, for the report.
        jobs: Do trainings that do not wait for each other as jobs, at the same time; None: one after the other.
        preflight: Look at judges, endpoints, models and files before the first stage.
        clean: Remove what was begun by earlier forms of the recipe and cannot be gone on with.
        progress: Where to show what is going on.

    Raises:
        UserError: Something in the recipe, the data, a model or the machine does not allow it.
        TrainingDiverged: A loss or gradient norm became NaN or infinite.
    """
    if jobs is not None and processes.size() > 1:
        raise RunError("jobs are started by one process", where="--jobs", do="start sacpo run without a launcher")
    folder = RunFolder(Path(runs) / recipe.name, hidden=recipe.hidden)
    tools = tools_of(recipe, folder, progress)

    def look(planned: Plan) -> None:
        if preflight and processes.is_first():
            _look_ahead(recipe, planned, progress)

    text = resolved_yaml(recipe)
    program = program_of(recipe, command)
    run_program(program, folder, tools, start=start, jobs=jobs, recipe=text, ahead=look, clean=clean)
    return Run(folder.path, _results(folder.path) if recipe.prompts else {})


def plan(recipe: Recipe, *, runs: str | Path = "runs", start: str | None = None, command: str = "") -> Plan:
    """Return what `run` with the same arguments would do, without doing or writing anything."""
    return plan_program(program_of(recipe, command), RunFolder(Path(runs) / recipe.name), start)


def program_of(recipe: Recipe, command: str = "") -> Program:
    """Return a recipe's program of stages; what it reads from outside is hashed once, however often it is executed."""
    outside = Outside()
    return lambda do: experiment(recipe, do, outside, command)


def tools_of(recipe: Recipe, folder: RunFolder, progress: Progress = QUIET) -> Tools:
    """Return the tools of a recipe's stages."""
    evaluate = recipe.evaluate
    everyone = [judge for spec in evaluate.judges.values() for judge in spec.judges]
    return Tools(
        folder,
        cache=folder.path / CACHE,
        progress=progress,
        budget=budget_of(evaluate.budget, everyone),
        keep_bases=any(step.lora and step.lora.plain for step in recipe.steps),
    )


def run_program(
    program: Program,
    folder: RunFolder,
    tools: Tools,
    *,
    start: str | None = None,
    jobs: Jobs | None = None,
    recipe: str | None = None,
    ahead: Callable[[Plan], None] = lambda planned: None,
    clean: bool = False,
) -> None:
    """Execute a program of stages in a run's folder.

    Args:
        program: What to do.
        folder: The run's folder.
        tools: What stages work with; `tools.cache` is a folder in the run's.
        start: Do this stage, and all that depend on it, again.
        jobs: Does stages that do not wait for each other at the same time.
        recipe: The text of recipe.yaml; None: none is written.
        ahead: Called with the plan before anything is done or written.
        clean: Remove what no stage of the program can go on from; else it is told.
    """
    redo = _Redo(folder.path / REDO, start)
    planned = Plan(folder, redo.holds).of(program)  # before the folder is made: a missing file leaves no trace
    redo.check(planned)
    ahead(planned)
    if jobs is not None:
        jobs.check()

    reached: set[str] = set()

    def expect(known: Plan) -> None:
        tools.progress.expect(len({status.stage.name for status in known.statuses}), not known.later)

    expect(planned)

    def tell(stage: str, state: str) -> None:
        tools.progress.stage(stage, state)
        reached.add(stage)
        if state == "done":
            redo.done(stage)

    folder.on_stage = tell
    with folder:
        if processes.is_first():
            _clear(planned, clean, tools.progress)
            if recipe is not None:
                write_atomic(folder.path / RECIPE, recipe)
            assert tools.cache is not None
            with machine_errors(tools.cache):
                tools.cache.mkdir(exist_ok=True)
                clear_temporary(tools.cache)
        do_jobs = partial(jobs.do, tools) if jobs is not None else None
        program(Runner(folder, tools, do_jobs, redo.holds, lambda: expect(Plan(folder, redo.holds).of(program))))
        if processes.is_first():
            redo.finish()
            for text in show_results(folder.path, reached):
                tools.progress.notice(text)
        processes.wait()


def plan_program(program: Program, folder: RunFolder, start: str | None = None) -> Plan:
    """Return what `run_program` would do."""
    redo = _Redo(folder.path / REDO, start)
    planned = Plan(folder, redo.holds).of(program)
    redo.check(planned)
    return planned


def resolved_yaml(recipe: Recipe) -> str:
    """Return the recipe with all its defaults as YAML, environment variables by their names."""
    text: str = yaml.safe_dump(recipe.written(), sort_keys=False, allow_unicode=True)
    return text


def _look_ahead(recipe: Recipe, planned: Plan, progress: Progress) -> None:
    """Check what the open stages will need; what cannot be checked is said."""
    waiting = {status.stage.name.partition("/")[0] for status in planned.statuses if status.state != "done"}
    if waiting:
        judged = None if waiting & {"judge", "pairs", "bank"} or planned.later else ()
        for text in check_ahead(recipe, progress, judges=judged):
            progress.notice(f"not checked: {text}")


def _clear(planned: Plan, clean: bool, progress: Progress) -> None:
    """Remove what no stage of the program can go on from, or say how; a program that is not known whole keeps all."""
    folder = planned.folder
    left = [] if planned.later else folder.leftovers((status.stage.name, status.key) for status in planned.statuses)
    if clean:
        remove(left)
    elif left:
        progress.notice(
            f"{folder.path / 'partial'} holds {len(left)} unfinished stages of earlier forms of this recipe "
            f"({disk_use(*left):,} bytes): --clean removes them"
        )


class _Redo:
    """The stages that `--from` does again; those done again are kept on the disk, so that a killed run goes on there.

    Args:
        path: The file that lists them while such a run is not at its end.
        start: The first that is done again; None: none is.
    """

    def __init__(self, path: Path, start: str | None) -> None:
        self.path, self.start = path, start
        self.again: set[str] = set()
        if start and path.is_file():
            try:
                begun = read_json(path)
                same, again = begun["from"] == start, set(begun["done"])
            except (ValueError, TypeError, KeyError) as error:
                raise RunError("the list of stages done again is corrupted", where=path, do="delete it") from error
            self.again = again if same else set()

    def check(self, plan: Plan) -> None:
        """Check that there is such a stage; errors as of `check_start`."""
        if self.start is not None:
            check_start(plan, self.start)

    def holds(self, stage: Stage[object]) -> bool:
        """Tell whether a stage is still to be done again."""
        return self.start is not None and stage.name not in self.again and depends(stage, self.start)

    def done(self, stage: str) -> None:
        """Note that a stage was done again."""
        if self.start:
            self.again.add(stage)
            write_json(self.path, {"from": self.start, "done": sorted(self.again)})

    def finish(self) -> None:
        """Forget the list: all was done."""
        self.path.unlink(missing_ok=True)


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _results(folder: Path) -> JsonObject:
    path = folder / "stages" / "report" / "results.json"
    if not path.is_file():
        return {}
    return read_json(path)
