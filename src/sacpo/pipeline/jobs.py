"""Independent trainings as jobs of their own: a SLURM array, or processes of this machine, through submitit.

The run itself keeps the folder's lock. A job is given one stage, which says all that it needs, and does it into its
partial folder up to the manifest; the run then publishes it as it publishes what a killed run had all but finished. A
lock of the stage's own keeps two jobs apart. Without submitit the same stages are done one after the other.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sacpo.errors import MachineError, RecipeError, RunError, SacpoError
from sacpo.pipeline.runner import fill
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonMapping
from sacpo.system.locks import locked
from sacpo.system.machine import machine_errors
from sacpo.system.progress import Progress
from sacpo.system.runs import RunFolder

CLUSTERS = ("slurm", "local")
FOLDER = "jobs"
LONGEST = 3 * 24 * 60  # minutes; submitit's own limit is five
LOOK = 1.0  # seconds between looks at local jobs


class Job(Protocol):
    """A submitit job."""

    job_id: str

    def result(self) -> Any:
        """Wait for what it returns."""

    def done(self) -> bool:
        """Tell whether it has ended."""

    def cancel(self) -> None:
        """End it."""


@dataclass(frozen=True)
class Jobs:
    """How trainings become jobs.

    Attributes:
        cluster: "slurm", or "local": processes of this machine.
        options: Parameters of submitit's AutoExecutor: gpus_per_node, timeout_min, slurm_partition, ...
        at_once: "local" only: most jobs at a time; None: one a GPU, and one on a machine without.

    Raises:
        RecipeError: There is no such cluster.
    """

    cluster: str
    options: JsonMapping = field(default_factory=dict)
    at_once: int | None = None

    def __post_init__(self) -> None:
        if self.cluster not in CLUSTERS:
            raise RecipeError(
                "no such way to run jobs",
                where="--jobs",
                value=self.cluster,
                allowed=CLUSTERS,
                do="choose one of these",
            )

    def check(self) -> None:
        """See that jobs can be given, before anything is done.

        Raises:
            MachineError: submitit is not installed, or does not find the scheduler.
            RecipeError: It does not take the options.
        """
        with tempfile.TemporaryDirectory() as folder:
            self._executor(Path(folder))

    def do(self, tools: Tools, stages: Sequence[Stage[object]]) -> None:
        """Do stages that wait for nothing, at the same time; return when all have ended.

        Args:
            tools: The run's tools; each job has tools of its own.
            stages: What to do, each up to its manifest.

        Raises:
            SacpoError: What the first failed job says.
            RunError: A job ended without a word.
        """
        run = tools.folder.path
        executor = self._executor(run / FOLDER)
        jobs: dict[str, Job] = {}
        try:
            if self.cluster == "slurm":
                with executor.batch():  # one array
                    for stage in stages:
                        jobs[stage.name] = executor.submit(do_stage, stage, run, tools.cache, tools.folder.hidden)
            else:
                self._locally(executor, jobs, tools, stages)
            failures = _failures(jobs, tools.progress)
        finally:
            for job in jobs.values():
                if not job.done():
                    job.cancel()
        if failures:
            raise failures[0]

    def _locally(self, executor: Any, jobs: dict[str, Job], tools: Tools, stages: Sequence[Stage[object]]) -> None:
        gpus = _gpus()
        free = list(range(self.at_once or max(len(gpus), 1)))
        busy: dict[int, Job] = {}
        for stage in stages:
            while not free:
                free = [place for place, job in busy.items() if job.done()]
                time.sleep(0 if free else LOOK)
            place = free.pop(0)
            gpu = gpus[place % len(gpus)] if gpus else None
            run, cache, hidden = tools.folder.path, tools.cache, tools.folder.hidden
            busy[place] = jobs[stage.name] = executor.submit(do_stage, stage, run, cache, hidden, gpu)

    def _executor(self, folder: Path) -> Any:
        try:
            import submitit
        except ImportError as error:
            raise MachineError(
                "jobs need submitit, which is not installed",
                where="--jobs",
                value=self.cluster,
                do="pip install 'sacpo[jobs]', or leave --jobs out: the trainings then run one after the other",
            ) from error
        try:
            executor = submitit.AutoExecutor(folder=folder, cluster=self.cluster)
        except RuntimeError as error:
            raise MachineError(
                f"jobs cannot be given: {error}",
                where="--jobs",
                value=self.cluster,
                do="start the run where the scheduler's commands are, or use --jobs local",
            ) from error
        try:
            executor.update_parameters(**{"timeout_min": LONGEST, "name": "sacpo", **self.options})
        except (NameError, TypeError, ValueError) as error:
            raise RecipeError(
                f"submitit refuses the jobs' options: {error}",
                where="--job",
                value=dict(self.options),
                do="correct them; they are AutoExecutor's parameters",
            ) from error
        return executor


def do_stage(
    stage: Stage[object], run: Path, cache: Path | None, hidden: Callable[[Any], Any], gpu: str | None = None
) -> SacpoError | None:
    """Do one stage of a run into its partial folder, and return what went wrong; called in a process of its own.

    Args:
        stage: The stage; all that it reads is finished.
        run: The run's folder.
        cache: The run's folder of reference log-probs.
        hidden: What the manifest shows of the stage's fields.
        gpu: The GPU to use, as CUDA_VISIBLE_DEVICES names it; None: what the scheduler gave.
    """
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    folder = RunFolder(run, hidden=hidden)
    try:
        lock = run / FOLDER / f".{stage.name.replace('/', '~')}.lock"
        busy, do = "another job is doing this stage", "wait until it has ended, or cancel that job"
        partial, progress = folder.partial(stage.name, stage.key), Progress("auto")
        with locked(lock, busy, where=stage.name, do=do), progress, machine_errors(partial):
            progress.stage(stage.name, "start")
            fill(folder, Tools(folder, cache=cache, progress=progress), stage)
            progress.stage(stage.name, "done")
    except SacpoError as error:
        return error
    return None


def _failures(jobs: Mapping[str, Job], progress: Progress) -> list[SacpoError]:
    """Wait for all jobs and return what went wrong."""
    found = [_result(name, job) for name, job in progress.track(jobs.items(), "jobs", len(jobs), "jobs")]
    return [failure for failure in found if failure is not None]


def _result(name: str, job: Job) -> SacpoError | None:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        failure: SacpoError | None = job.result()
    except (FailedJobError, UncompletedJobError) as error:
        last = str(error).strip().splitlines()[-1:]
        return RunError(
            f"a job ended before its stage was done: {''.join(last)}",
            where=f"{name}, job {job.job_id}",
            do="look at its log in the run's folder 'jobs'; the same command goes on from there",
        )
    return failure


def _gpus() -> list[str]:
    """Return the GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
    return visible[: torch.cuda.device_count()]
