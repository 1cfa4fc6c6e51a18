"""Two processes at one run: the same curve as one process, DDP and FSDP2, killed and resumed; errors end all."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from align_toys import write_base
from safetensors.torch import load_file
from worker import prefer, train

from sacpo.pipeline.run import run
from sacpo.recipe import load_recipe
from sacpo.system import processes
from sacpo.system.runs import RunFolder

PAIRS = [{"prompt": f"say {i}", "chosen": "yes please", "rejected": "no"} for i in range(7)]
RECIPE: dict[str, Any] = {
    "base": {
        "config": {
            "model_type": "llama",
            "max_position_embeddings": 64,
            **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        },
        "tokenizer": {"kind": "bpe", "vocab_size": 300, "datasets": ["pairs"]},
        "template": "plain",
        "device": "cpu",
    },
    "training": {"num_train_epochs": 2, "gradient_accumulation_steps": 1, "learning_rate": 1e-3},
    "steps": [{"name": "H", "criterion": "help", "from": "sft", "beta": 0.5, "dataset": "pairs", "max_length": 32}],
}
WORKER = Path(__file__).with_name("worker.py")


def launch(folder: Path, *tasks: str, n: int = 2) -> list[tuple[int, str, str]]:
    """Run the worker in `n` processes without a launcher; return exit codes, standard output and errors."""
    return launched(str(WORKER), str(folder), *tasks, n=n)


def launched(*arguments: str, n: int = 2) -> list[tuple[int, str, str]]:
    """Run Python in `n` processes without a launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    begun = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**shared, "RANK": str(i), "LOCAL_RANK": str(i), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(n)
    ]
    said = [process.communicate(timeout=120) for process in begun]
    return [(process.returncode, *texts) for process, texts in zip(begun, said, strict=True)]


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_resume(tmp_path: Path) -> None:
    """Same global batch: losses, metrics and weights within 1e-5, stopped or killed at checkpoint 2 too."""
    write_base(tmp_path / "base")
    killed = launch(tmp_path, "dpo-ddp", "kto-ddp?2", "dpo-fsdp!2")
    assert killed[0][0] == -signal.SIGKILL and killed[1][0] != 0, killed
    assert [path.name for path in tmp_path.glob(".dpo-fsdp-*/checkpoints/checkpoint-*")] == ["checkpoint-2"]
    given = ["dpo-ddp-best", "dpo-fsdp-best", "dpo-fsdp-mean", "dpo-fsdp-head"]
    done = launch(tmp_path, "dpo-ddp", "kto-ddp", given[0], "kto-fsdp", "dpo-fsdp", *given[1:])
    assert [code for code, _, _ in done] == [0, 0], done
    n = len(load_file(tmp_path / "base" / "model.safetensors"))
    split = ["split 0 0", *[f"split {n} 0"] * 5]
    assert done[0][1].splitlines() == split, "FSDP2 had split all weights, and they are whole again"
    one = tmp_path / "one"
    write_base(one / "base")
    for algorithm in ("dpo", "kto"):
        train(one, f"{algorithm}-single")
        for name in (f"{algorithm}-ddp", f"{algorithm}-fsdp"):
            assert_same_training(tmp_path / name, one / f"{algorithm}-single")
    for name in given:
        algorithm, _, which = name.split("-")
        if not (one / f"{algorithm}-single-{which}").exists():
            train(one, f"{algorithm}-single-{which}")
        assert_same_training(tmp_path / name, one / f"{algorithm}-single-{which}")
    found = [json.loads((tmp_path / name / "summary.json").read_text()) for name in given]
    assert found[0]["best_step"] == found[1]["best_step"] < found[0]["steps"]
    assert found[2]["averaged_steps"] == 2


@pytest.mark.slow
def test_the_stand_alone_trainer_trains_in_two_processes_as_in_one(tmp_path: Path) -> None:
    names = [f"trainer-{algorithm}-{strategy}" for strategy in ("ddp", "fsdp") for algorithm in ("dpo", "kto")]
    one = tmp_path / "one"
    for folder in (tmp_path, one):
        write_base(folder / "base")
    done = launch(tmp_path, *names)
    assert [code for code, _, _ in done] == [0, 0], done
    for algorithm in ("dpo", "kto"):
        prefer(one, f"trainer-{algorithm}-single")
        for strategy in ("ddp", "fsdp"):
            assert_same_training(tmp_path / f"trainer-{algorithm}-{strategy}", one / f"trainer-{algorithm}-single")


def assert_same_training(found: Path, expected: Path) -> None:
    log = losses(found)
    assert len(log) == len(losses(expected)) > 3
    for ours, theirs in zip(log, losses(expected), strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours.keys() - {
            "rewards/accuracies",
            "eval_rewards/accuracies",
        }:  # a margin is 0 +- rounding at first
            assert ours[key] == pytest.approx(theirs[key], abs=1e-5), (found.name, ours["step"], key)
    weights, trained = (load_file(folder / "model" / "model.safetensors") for folder in (expected, found))
    assert trained.keys() == weights.keys()
    for key, value in weights.items():
        torch.testing.assert_close(trained[key], value, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_recipe_is_run_by_two_processes_and_a_locked_folder_refused_once(tmp_path: Path) -> None:
    """The first process owns the run folder; a step's model is that of one process with twice the device batch."""
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    for name, size in (("two", 2), ("one", 4)):
        sections = {**RECIPE, "name": name, "training": {**RECIPE["training"], "per_device_train_batch_size": size}}
        sections["data"] = {"pairs": {"format": "preference", "path": str(tmp_path / "pairs.jsonl")}}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(sections))
    command = ("-m", "sacpo", "run", str(tmp_path / "two.yaml"), "--runs", str(tmp_path), "--json")
    with RunFolder(tmp_path / "two"):
        refused = launched(*command)
    assert [code for code, _, _ in refused] == [2, 2]
    assert "".join(errors for _, _, errors in refused).count("another process is working in this run folder") == 1
    done = launched(*command)
    assert [code for code, _, _ in done] == [0, 0], done
    events = [json.loads(line) for line in done[0][1].splitlines()]
    assert [event["stage"] for event in events if event.get("state") == "done"] == ["data/pairs", "base", "align/H"]
    assert (done[1][1], events[-1]["event"]) == ("", "done")
    run(load_recipe(tmp_path / "one.yaml"), runs=tmp_path)
    ours, theirs = (load_file(tmp_path / n / "stages/align/H/model/model.safetensors") for n in ("two", "one"))
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_an_error_in_one_process_ends_all_with_one_message(tmp_path: Path) -> None:
    done = launch(tmp_path, "error")
    assert [code for code, _, _ in done] == [2, 2]
    assert "".join(errors for _, _, errors in done).count("error: the second process has had enough") == 1
    assert "Traceback" not in "".join(errors for _, _, errors in done)


def test_a_single_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (processes.rank(), processes.size(), processes.from_first("here")) == (0, 1, "here")
    monkeypatch.setenv("RANK", "3")  # some schedulers set it by itself
    assert (processes.rank(), processes.size()) == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (processes.rank(), processes.size(), processes.part_of_key()) == (3, 4, {"processes": 4})
    with processes.alone():
        assert (processes.rank(), processes.size(), processes.part_of_key()) == (0, 1, {})
        assert processes.added(torch.ones(1)).item() == 1
