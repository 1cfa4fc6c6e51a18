"""Tasks of lm-evaluation-harness, asked of a loaded model through the harness' own Python API.

A task's figures are the harness'. Where a figure is the mean of one value a question, those values are kept, so that
two models can be compared question by question.

Source: https://github.com/EleutherAI/lm-evaluation-harness (docs/python-api.md).
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

from sacpo.data.records import Message, Prompt
from sacpo.data.specials import plain
from sacpo.data.templates import Template
from sacpo.errors import DataError, MachineError
from sacpo.recipe.explain import did_you_mean
from sacpo.recipe.harness import WORLD_STEPS, HarnessSpec
from sacpo.system.files import file_hash
from sacpo.system.progress import Progress

INSTALL = "install it: pip install 'sacpo[harness]'"
PACKAGE = "lm_eval"
CLUSTER = "cluster"
"""A field of a question: those with the same value are not independent."""
MEAN_APART = 1e-9
STDERR = "_stderr"
SEED = 1234
"""The harness' own default: which examples stand before a question."""
Questions = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Tasks:
    """Tasks with their questions.

    Attributes:
        each: Every single task, by name.
        groups: The groups that were asked for, and those in them, by name.
    """

    each: dict[str, Any]
    groups: dict[str, Any]

    @property
    def parts(self) -> dict[str, Any]:
        """As the harness holds them."""
        members = {name: group.child_names for name, group in self.groups.items()}
        return {"tasks": self.each, "groups": self.groups, "group_map": members}


@dataclass(frozen=True)
class Figure:
    """One figure of a task.

    Attributes:
        value: As the harness reports it.
        stderr: Its standard error, where the harness knows one.
        higher_is_better: None: the task does not say.
        each: One value a question, where the figure is their mean.
    """

    value: float
    stderr: float | None
    higher_is_better: bool | None
    each: tuple[float, ...] | None


@dataclass(frozen=True)
class Asked:
    """What a model reached on one task.

    Attributes:
        n: Questions.
        clusters: Each question's; none where the questions have no field `cluster`.
        figures: By name, such as "acc", or "exact_match,strict-match" where answers are filtered.
    """

    n: int
    clusters: tuple[str, ...]
    figures: dict[str, Figure]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Asked:
        """Return what `to_json` wrote."""
        figures = {
            name: Figure(**{**one, "each": None if one["each"] is None else tuple(one["each"])})
            for name, one in found["figures"].items()
        }
        return cls(found["n"], tuple(found["clusters"]), figures)


def harness_version() -> str:
    """Return the harness' version.

    Raises:
        MachineError: It is not installed.
    """
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise MachineError("lm-evaluation-harness is not installed", where="evaluate.harness", do=INSTALL) from error


def task_files(folder: str | None) -> dict[str, str]:
    """Return the hashes of a folder's files, by path.

    Raises:
        DataError: There is no such folder.
    """
    if folder is None:
        return {}
    root = Path(folder)
    if not root.is_dir():
        raise DataError(
            "no such folder of tasks", where="evaluate.harness.include_path", value=folder, do="check the path"
        )
    files = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix(): file_hash(path) for path in files}


def load_tasks(spec: HarnessSpec, own: Questions | None) -> Tasks:
    """Load tasks with their questions, from the hub where a task's data lie there.

    Args:
        spec: Which.
        own: The questions of the task `world_steps`, where it is asked for.

    Raises:
        DataError: A task is unknown or cannot be loaded, has local data outside of `include_path`, or runs code.
        MachineError: The harness is not installed.
    """
    harness_version()
    logging.getLogger(PACKAGE).setLevel(logging.ERROR)
    manager = _manager(spec, [name for name in spec.tasks if name != WORLD_STEPS or own is None])
    wanted: list[str | dict[str, Any]] = []
    for name in spec.tasks:
        if name == WORLD_STEPS and own is not None:
            wanted.append(_world_task(own))
        elif name in manager.all_tasks:
            wanted.append(name)
        else:
            raise DataError(
                "lm-evaluation-harness knows no such task",
                where="evaluate.harness.tasks",
                value=name,
                do=did_you_mean(name, [*manager.all_tasks, WORLD_STEPS], "'lm-eval ls tasks' lists them"),
            )
    tasks = Tasks({}, {})
    for one in wanted:
        found = _loaded(manager, one)
        tasks.each.update(found["tasks"])
        tasks.groups.update(found["groups"])
    for name, task in tasks.each.items():
        _check(name, task, spec)
    return tasks


def _manager(spec: HarnessSpec, names: Sequence[str]) -> Any:
    """Return the harness's list of tasks; its own thousands take seconds to read, and are only read for their sake."""
    from lm_eval.tasks import TaskManager

    local = TaskManager(include_path=spec.include_path, include_defaults=False)
    return local if all(name in local.all_tasks for name in names) else TaskManager(include_path=spec.include_path)


def ask(
    model: object, tokenizer: object, template: Template, tasks: Tasks, spec: HarnessSpec, progress: Progress
) -> dict[str, Asked]:
    """Ask a model every question of tasks.

    Args:
        model: In evaluation mode.
        tokenizer: Its tokenizer.
        template: How it is asked, where the tasks are asked through a template.
        tasks: As `load_tasks` returns them.
        spec: How many questions, and how they are asked.
        progress: Where to show it.

    Returns:
        Results by task; of a group the figures that the harness makes of its tasks.
    """
    from lm_eval.evaluator import evaluate

    for task in tasks.each.values():
        own = task.get_config("num_fewshot")  # 0 of a task's own file stays, as in the harness
        asked = own if spec.num_fewshot is None or own == 0 else spec.num_fewshot
        task.set_config(key="num_fewshot", value=asked or 0)
        task.set_fewshot_seed(seed=SEED)
    with _no_bars():
        found = evaluate(
            _counted(model, tokenizer, template, spec.batch_size, progress),
            task_dict=tasks.parts,
            limit=spec.limit,
            apply_chat_template=spec.apply_chat_template,
            log_samples=True,
        )
    groups = [name for name in tasks.groups if name in found.get("groups", {})]
    return {name: _asked(name, found) for name in [*tasks.each, *groups]}


def _world_task(questions: Questions) -> dict[str, object]:
    from datasets import Dataset, DatasetDict

    return {
        "task": WORLD_STEPS,
        "custom_dataset": lambda **options: DatasetDict(test=Dataset.from_list([dict(one) for one in questions])),
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }


def _loaded(manager: Any, one: str | dict[str, Any]) -> dict[str, Any]:
    import datasets

    name = one if isinstance(one, str) else one["task"]
    try:
        found: dict[str, Any] = manager.load([one])
    except (OSError, ValueError, KeyError, TypeError, ImportError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"the task cannot be loaded: {type(error).__name__}: {error}",
            where="evaluate.harness.tasks",
            value=name,
            do="check its file and its data set; data of the hub need a network the first time",
        ) from error
    return found


def _check(name: str, task: Any, spec: HarnessSpec) -> None:
    """Refuse a task that runs what models write, and local data whose change nobody would see."""
    where = "evaluate.harness.tasks"
    if getattr(task, "UNSAFE_CODE", False):
        raise DataError("the task runs code that the model writes", where=where, value=name, do="leave it out")
    files = (task.config.dataset_kwargs or {}).get("data_files") or ()
    for file in _paths(files):
        inside = spec.include_path and Path(file).resolve().is_relative_to(Path(spec.include_path).resolve())
        if "://" not in file and not inside:
            raise DataError(
                "the task's data lie outside of 'include_path', so that a change of them would not be seen",
                where=where,
                value=f"{name}: {file}",
                do="put the file into that folder",
            )


def _paths(files: Any) -> Iterator[str]:
    if isinstance(files, str):
        yield files
    else:
        for one in files.values() if isinstance(files, Mapping) else files:
            yield from _paths(one)


def _asked(name: str, found: Mapping[str, Any]) -> Asked:
    own = found["results"].get(name) or found["groups"][name]
    samples = found["samples"].get(name, [])
    better = (found.get("higher_is_better") or {}).get(name) or {}
    figures = {}
    for key, value in own.items():
        metric, _, filtered = key.partition(",")
        if metric.endswith(STDERR) or isinstance(value, bool) or not isinstance(value, int | float) or not filtered:
            continue
        label = metric if filtered == "none" else key
        stderr = own.get(f"{metric}{STDERR},{filtered}")
        each = _each([one for one in samples if one["filter"] == filtered], metric, float(value))
        known = float(stderr) if isinstance(stderr, int | float) and math.isfinite(stderr) else None
        if math.isfinite(value):
            figures[label] = Figure(float(value), known, better.get(metric), each)
    first = [one for one in samples if one["filter"] == samples[0]["filter"]] if samples else []
    clusters = tuple(str(one["doc"][CLUSTER]) for one in first if CLUSTER in one["doc"])
    n = len(first) if first else int(own.get("sample_len") or own.get("sample_count") or 0)
    return Asked(n, clusters if len(clusters) == len(first) else (), figures)


def _each(samples: Sequence[Mapping[str, object]], metric: str, value: float) -> tuple[float, ...] | None:
    """Return a figure's values question by question, if it is their mean."""
    values = [one.get(metric) for one in samples]
    if not values or not all(isinstance(one, int | float) and math.isfinite(one) for one in values):
        return None
    found = tuple(float(one) for one in values)  # type: ignore[arg-type]
    return found if abs(math.fsum(found) / len(found) - value) <= MEAN_APART * max(1.0, abs(value)) else None


def _counted(model: Any, tokenizer: Any, template: Template, batch_size: int, progress: Progress) -> Any:
    """Return the model as the harness takes it: asked through its own template, it tells how far it has come."""
    from lm_eval.models.huggingface import HFLM

    class Counted(HFLM):
        """A loaded model; every batch counts its rows."""

        task: Any = None

        def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
            said = [Message(one["role"], one["content"]) for one in chat_history]
            start = "" if add_generation_prompt else said.pop().content
            return plain(template.render(Prompt(tuple(said)))) + start

        def _loglikelihood_tokens(self, requests: Any, **options: Any) -> Any:
            with progress.task("questions", len(requests), "choices") as self.task:
                return super()._loglikelihood_tokens(requests, **options)

        def generate_until(self, requests: Any, **options: Any) -> Any:
            with progress.task("questions", len(requests), "answers") as self.task:
                return super().generate_until(requests, **options)

        def _model_call(self, inps: object, *args: object, **options: object) -> object:
            self._count(inps)
            return super()._model_call(inps, *args, **options)

        def _model_generate(self, context: object, *args: object, **options: object) -> object:
            self._count(context)
            return super()._model_generate(context, *args, **options)

        def _count(self, rows: Any) -> None:
            if self.task is not None:
                self.task.advance(len(rows))

    return Counted(pretrained=model, backend="causal", tokenizer=tokenizer, batch_size=batch_size)


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the harness' own bars silent."""
    from tqdm import tqdm

    start = tqdm.__init__

    def silent(bar: object, *args: object, **options: object) -> None:
        start(bar, *args, **{**options, "disable": True})

    with mock.patch.object(tqdm, "__init__", silent):
        yield
