"""Trainings as jobs: the same stages, by a stand-in for submitit and, where it is installed, by submitit itself."""

from __future__ import annotations

import json
import pickle
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest

import sacpo.pipeline.jobs as jobs_module
from sacpo.errors import DataError, MachineError, RecipeError, RunError
from sacpo.pipeline.jobs import Jobs, do_stage
from sacpo.pipeline.run import plan, run
from sacpo.recipe import Recipe, parse_recipe
from sacpo.system.runs import MANIFEST

PAIRS = [{"prompt": f"say {i}", "chosen": "yes please", "rejected": "no"} for i in range(6)]
LLAMA = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


class FailedJobError(Exception):
    """submitit's error about a job that raised or was killed."""


class FakeExecutor:
    """Runs jobs when they are submitted; notes what it was asked for."""

    seen: ClassVar[list[Any]] = []
    gpus: ClassVar[list[Any]] = []
    fault: BaseException | None = None
    scheduler: bool = True

    def __init__(self, folder: Path, cluster: str) -> None:
        if not self.scheduler:
            raise RuntimeError('Could not detect "srun", are you indeed on a slurm cluster?')
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.batches = 0
        self.seen.append((cluster, []))

    def update_parameters(self, **options: Any) -> None:
        if "wrong" in options:
            raise NameError("unknown parameter: wrong")
        self.seen.append(options)

    def batch(self) -> FakeExecutor:
        return self

    def __enter__(self) -> None:
        self.seen.append("array")

    def __exit__(self, *exc: object) -> None:
        return

    def submit(self, function: Any, *arguments: Any) -> Any:
        stage, *rest = pickle.loads(pickle.dumps(arguments))
        self.seen.append(stage.name)
        self.gpus += rest[3:]
        job = types.SimpleNamespace(job_id="7", done=lambda: True, cancel=lambda: None)
        value = None if self.fault else function(stage, *rest)

        def result() -> Any:
            if self.fault:
                raise self.fault
            return value

        job.result = result
        return job


@pytest.fixture
def submitit(monkeypatch: pytest.MonkeyPatch) -> type[FakeExecutor]:
    for name in ("submitit", "submitit.core", "submitit.core.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["submitit"].AutoExecutor = FakeExecutor  # type: ignore[attr-defined]
    utils: Any = sys.modules["submitit.core.utils"]
    utils.FailedJobError = utils.UncompletedJobError = FailedJobError
    monkeypatch.setattr(FakeExecutor, "seen", [])
    monkeypatch.setattr(FakeExecutor, "gpus", [])
    monkeypatch.setattr(FakeExecutor, "fault", None)
    return FakeExecutor


def sweep(folder: Path, name: str) -> Recipe:
    """A step with two strengths and another step from the same parent, then one that waits for the first."""
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    common = {"criterion": "help", "dataset": "pairs", "max_length": 32}
    return parse_recipe(
        {
            "name": name,
            "base": {
                "config": {"model_type": "llama", "max_position_embeddings": 64, **LLAMA},
                "tokenizer": {"kind": "bpe", "vocab_size": 300, "datasets": ["pairs"]},
                "template": "plain",
                "device": "cpu",
            },
            "data": {"pairs": {"format": "preference", "path": str(folder / "pairs.jsonl")}},
            "training": {"per_device_train_batch_size": 4, "num_train_epochs": 1, "gradient_accumulation_steps": 1},
            "steps": [
                {"name": "H", "from": "sft", "beta": [0.5, 0.1], **common},
                {"name": "K", "from": "sft", "beta": 0.3, **common},
                {"name": "L", "from": "H@0.1", "beta": 0.3, **common},
            ],
        }
    )


def hashes(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): json.loads(path.read_text())["files"] for path in folder.rglob(f"*/{MANIFEST}")
    }


def test_members_of_a_sweep_are_one_array_and_come_out_as_one_after_the_other(
    tmp_path: Path, submitit: type[FakeExecutor]
) -> None:
    together = run(sweep(tmp_path, "together"), runs=tmp_path, jobs=Jobs("slurm", {"gpus_per_node": 1}))
    asked = [("slurm", []), {"timeout_min": 4320, "name": "sacpo", "gpus_per_node": 1}]
    assert submitit.seen == [
        *asked,  # before anything is done
        *asked,
        "array",
        "align/H@0.5",
        "align/H@0.1",
        "align/K",
    ]
    one_by_one = run(sweep(tmp_path, "alone"), runs=tmp_path)
    expected, found = hashes(one_by_one.folder / "stages"), hashes(together.folder / "stages")
    assert len(expected) == 6 and found == expected
    run(sweep(tmp_path, "together"), runs=tmp_path, jobs=Jobs("slurm"))
    assert len(submitit.seen) == 8 + 2, "everything is done"


def test_jobs_of_this_machine_have_a_gpu_each(
    tmp_path: Path, submitit: type[FakeExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three trainings on two GPUs at a time: the third takes the first one's place."""
    monkeypatch.setattr(jobs_module, "_gpus", lambda: ["4", "7"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")  # each job sets its own, in this process for once
    run(sweep(tmp_path, "local"), runs=tmp_path, jobs=Jobs("local"))
    assert submitit.seen[4:7] == ["align/H@0.5", "align/H@0.1", "align/K"]
    assert submitit.gpus[:2] == ["4", "7"]
    assert set(submitit.gpus) == {"4", "7"}


def test_what_a_job_says_is_said(tmp_path: Path, submitit: type[FakeExecutor], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = sweep(tmp_path, "failing")
    monkeypatch.setattr(submitit, "fault", FailedJobError("Traceback\nslurmstepd: out of memory"))
    with pytest.raises(RunError, match=r"slurmstepd: out of memory\n  where:   align/H@0.5, job 7"):
        run(recipe, runs=tmp_path, jobs=Jobs("local"))
    monkeypatch.setattr(submitit, "fault", None)
    monkeypatch.setattr("sacpo.pipeline.stages.train.run_align", refuse)
    with pytest.raises(DataError, match="no pairs are left"):
        run(recipe, runs=tmp_path, jobs=Jobs("local", at_once=3))
    monkeypatch.undo()
    (stage,) = [status.stage for status in plan(recipe, runs=tmp_path).statuses if status.stage.name == "align/K"]
    assert do_stage(stage, tmp_path / "failing", tmp_path / "failing" / "cache", recipe.hidden) is None
    partial = next((tmp_path / "failing" / "partial").glob("align~K-*"))
    assert (partial / MANIFEST).is_file() and not (tmp_path / "failing" / "stages" / "align" / "K").exists()


def refuse(*arguments: Any, **options: Any) -> None:
    raise DataError("no pairs are left", do="add some")


def test_jobs_that_cannot_be_are_refused(
    tmp_path: Path, submitit: type[FakeExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match="allowed: slurm, local"):
        Jobs("ray")
    with pytest.raises(RecipeError, match="unknown parameter: wrong"):
        run(sweep(tmp_path, "options"), runs=tmp_path, jobs=Jobs("slurm", {"wrong": 1}))
    monkeypatch.setattr(submitit, "scheduler", False)
    with pytest.raises(MachineError, match='jobs cannot be given: Could not detect "srun"'):
        run(sweep(tmp_path, "nowhere"), runs=tmp_path, jobs=Jobs("slurm"))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MachineError, match=r"pip install 'sacpo\[jobs\]'"):
        run(sweep(tmp_path, "absent"), runs=tmp_path, jobs=Jobs("slurm"))
    assert not [*tmp_path.glob("*/stages")], "all of it was said before anything was done"


@pytest.mark.slow
def test_submitit_itself_runs_processes_of_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    done = run(sweep(tmp_path, "real"), runs=tmp_path, jobs=Jobs("local", {"timeout_min": 5}, at_once=2))
    expected = run(sweep(tmp_path, "alone"), runs=tmp_path)
    assert hashes(done.folder / "stages") == hashes(expected.folder / "stages")
    assert len(list((done.folder / "jobs").glob("*_result.pkl"))) == 3
