"""Running a recipe: all of its stages, or a plan of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from sacpo.errors import RunError
from sacpo.judging.preflight import preflight as check_ahead
from sacpo.pipeline.build import stages_of
from sacpo.pipeline.jobs import CACHE, Jobs
from sacpo.pipeline.stages import Runner, Stage, Status, depending_on
from sacpo.pipeline.study import Study
from sacpo.recipe.schema import Recipe
from sacpo.system import processes
from sacpo.system.leftovers import disk_use, remove
from sacpo.system.progress import QUIET, Progress
from sacpo.system.runs import RunFolder, clear_temporary, machine_errors, write_atomic, write_json

RECIPE, REDO = "recipe.yaml", "redo.json"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Its folder.
        results: What is in results.json; empty for a recipe without prompts.
    """

    folder: Path
    results: dict[str, Any]

    @property
    def chosen(self) -> str | None:
        """The selected model's name; None where none meets every constraint or nothing was to be selected."""
        selection = self.results.get("selection") or {}
        return selection.get("chosen")

    @property
    def report(self) -> Path:
        """The report's folder."""
        return self.folder / "stages" / "report"

    def model(self, name: str | None = None) -> Path:
        """Return the folder of the chosen model, or of a trained one by name."""
        if name is None:
            return self.folder / "stages" / "chosen" / "model"
        return self.folder / "stages" / ("sft" if name == "sft" else f"align/{name}") / "model"


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
    folder = RunFolder(Path(runs) / recipe.name)
    study = Study(recipe, folder.path / CACHE, progress)
    stages = stages_of(study, command)  # before the folder is made: a missing file leaves no trace
    redo = _Redo(folder.path / REDO, stages, start)

    def tell(stage: str, state: str) -> None:
        progress.event("stage", stage=stage, state=state)
        if state == "done":
            redo.done(stage)

    folder.redo, folder.on_stage, folder.hidden = redo.holds, tell, recipe.hidden
    if preflight and processes.is_first():
        _look_ahead(recipe, Runner(folder).plan(stages), progress)
    with folder:
        if processes.is_first():
            _clear(folder, Runner(folder).plan(stages), clean, progress)
            write_atomic(folder.path / RECIPE, resolved_yaml(recipe))
            with machine_errors(study.cache):
                study.cache.mkdir(exist_ok=True)
                clear_temporary(study.cache)
        ahead = partial(jobs.do, recipe, Path(runs), command) if jobs is not None else None
        Runner(folder, ahead).do(stages)
        if processes.is_first():
            redo.finish()
        return Run(folder.path, _results(folder.path))


def plan(
    recipe: Recipe, *, runs: str | Path = "runs", start: str | None = None, command: str = ""
) -> tuple[Study, list[Status]]:
    """Return what `run` with the same arguments would do, without doing or writing anything."""
    folder = RunFolder(Path(runs) / recipe.name)
    study = Study(recipe, folder.path / CACHE)
    stages = stages_of(study, command)
    folder.redo = _Redo(folder.path / REDO, stages, start).holds
    return study, Runner(folder).plan(stages)


def resolved_yaml(recipe: Recipe) -> str:
    """Return the recipe with all its defaults as YAML, environment variables by their names."""
    text: str = yaml.safe_dump(recipe.written(), sort_keys=False, allow_unicode=True)
    return text


def _look_ahead(recipe: Recipe, statuses: list[Status], progress: Progress) -> None:
    """Check what the open stages will need; what cannot be checked is said."""
    waiting = {status.stage.name.partition("/")[0] for status in statuses if status.state != "done"}
    if waiting:
        judged = None if waiting & {"judge", "pairs"} else ()
        for text in check_ahead(recipe, progress, judges=judged):
            progress.notice(f"not checked: {text}")


def _clear(folder: RunFolder, statuses: list[Status], clean: bool, progress: Progress) -> None:
    """Remove what no stage of the recipe can go on from, or say how."""
    left = folder.leftovers((status.stage.name, status.key) for status in statuses)
    size = disk_use(*left)
    if clean:
        remove(left)
    elif left:
        progress.notice(
            f"{folder.path / 'partial'} holds {len(left)} unfinished stages of earlier forms of this recipe "
            f"({size:,} bytes): --clean removes them"
        )


class _Redo:
    """The finished stages that `--from` still has to do again, kept on the disk so that a killed run goes on there.

    Args:
        path: The file that lists them while such a run is not at its end.
        stages: All stages.
        start: The first that is done again; None: none is.
    """

    def __init__(self, path: Path, stages: list[Stage], start: str | None) -> None:
        self.path, self.start = path, start
        self.names = depending_on(stages, start) if start is not None else set()
        if start and path.is_file():
            try:
                begun = json.loads(path.read_text(encoding="utf-8"))
                same, left = begun["from"] == start, set(begun["stages"])
            except (ValueError, TypeError, KeyError) as error:
                raise RunError("the list of stages to redo is corrupted", where=path, do="delete it") from error
            self.names = self.names & left if same else self.names

    def holds(self, stage: str) -> bool:
        """Tell whether a stage is still to be done again."""
        return stage in self.names

    def done(self, stage: str) -> None:
        """Note that a stage was done again."""
        if self.start:
            self.names.discard(stage)
            write_json(self.path, {"from": self.start, "stages": sorted(self.names)})

    def finish(self) -> None:
        """Forget the list: all was done."""
        self.path.unlink(missing_ok=True)


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "stages" / "report" / "results.json"
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
