"""What alignment costs elsewhere: tasks of lm-evaluation-harness, asked of models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sacpo.bridges.harness import Asked, Tasks, ask, harness_version, load_tasks, task_files
from sacpo.merge.source import Checkpoint, ModelSource
from sacpo.pipeline.outside import FromOutside
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.recipe.harness import WORLD_STEPS, HarnessSpec
from sacpo.recipe.schema import BaseSpec, WorldSpec
from sacpo.system.files import content_key, read_json, write_json
from sacpo.world import World
from sacpo.world.quiz import step_questions

HARNESS = "harness.json"


@dataclass(frozen=True)
class TaskFiles(FromOutside):
    """The harness as it is installed, and the files of a user's own tasks."""

    folder: str | None

    @cached_property
    def content(self) -> str:
        """The key of its version and of the files; errors as of `harness_version` and `task_files`."""
        return content_key([harness_version(), task_files(self.folder)])


@dataclass(frozen=True)
class HarnessTasks(Stage[dict[str, int]]):
    """The tasks, loaded once before anything is trained, so that one that is not there stops the run here.

    Attributes:
        spec: Which tasks.
        files: The harness and the files of the user's own tasks.
        world: Where `world_steps` is from.
    """

    spec: HarnessSpec
    files: TaskFiles
    world: WorldSpec | None

    @property
    def name(self) -> str:
        """`harness/tasks`."""
        return "harness/tasks"

    def load(self) -> Tasks:
        """Load them; errors as of `load_tasks`."""
        own = WORLD_STEPS in self.spec.tasks and self.world is not None
        return load_tasks(self.spec, step_questions(World(self.world)) if own and self.world else None)

    def work(self, out: Path, tools: Tools) -> None:
        """Write how many questions each task has."""
        write_json(out / HARNESS, {name: len(task.eval_docs) for name, task in self.load().each.items()})

    def read(self, folder: Path) -> dict[str, int]:
        """Return the number of questions, by task."""
        found: dict[str, int] = read_json(folder / HARNESS)
        return found


@dataclass(frozen=True)
class Harness(Stage[dict[str, Asked]]):
    """One model's results.

    Attributes:
        title: The model.
        model: Its weights.
        tokenizer: The model whose tokenizer it takes.
        tasks: What it is asked.
        base: Template, dtype, device of the model.
    """

    title: str
    model: ModelSource
    tokenizer: Checkpoint
    tasks: HarnessTasks
    base: BaseSpec

    @property
    def name(self) -> str:
        """`harness/model/MODEL`."""
        return f"harness/model/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Ask."""
        tokenizer, template = tools.tokenizer(self.tokenizer, self.base)
        model = tools.load(self.model, self.base)
        found = ask(model, tokenizer, template, self.tasks.load(), self.tasks.spec, tools.progress)
        write_json(out / HARNESS, {name: one.to_json() for name, one in found.items()})

    def read(self, folder: Path) -> dict[str, Asked]:
        """Return what it reached, by task."""
        found = read_json(folder / HARNESS)
        return {name: Asked.from_json(one) for name, one in found.items()}
