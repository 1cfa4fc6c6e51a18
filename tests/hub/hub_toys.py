"""A stand-in of the hub as a process, and folders to push to it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hub.standin import TOKEN
from report.report_world import made_up
from safetensors.numpy import save_file

from sacpo.system.runs import RunFolder


@contextlib.contextmanager
def hub(folder: Path, die_in: int = 0) -> Iterator[dict[str, str]]:
    """Run a stand-in and yield the variables with which a process finds it."""
    line = [sys.executable, str(Path(__file__).with_name("standin.py")), str(folder), "--die-in", str(die_in)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        try:
            yield {
                **os.environ,
                "HF_ENDPOINT": f"http://127.0.0.1:{port}",
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_OFFLINE": "0",
                "HF_TOKEN": TOKEN,
                "HF_HOME": str(folder / "home"),
            }
        finally:
            server.kill()


def sacpo(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "sacpo", *map(str, arguments)]
    return subprocess.run(line, env=env, capture_output=True, text=True, check=False)


def requests(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]


def write_model(folder: Path, shards: int = 1) -> Path:
    """Write a folder that looks like a model's, with what must stay here beside it."""
    folder.mkdir(parents=True)
    for shard in range(1, shards + 1):
        name = "model.safetensors" if shards == 1 else f"model-{shard:05}-of-{shards:05}.safetensors"
        save_file({"w": np.full(50_000, shard, dtype=np.float32)}, folder / name)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    stays = (
        "pytorch_model.bin",
        "optimizer.pt",
        "training_args.bin",
        "store.sqlite",
        "train.log",
        "trainer_state.json",
    )
    for name in stays:
        (folder / name).write_text("x")
    (folder / "checkpoint-1").mkdir()
    save_file({"w": np.zeros(1, dtype=np.float32)}, folder / "checkpoint-1" / "model.safetensors")
    return folder


def write_adapter(folder: Path, base: str) -> Path:
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 2, "lora_alpha": 2, "revision": None}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.layer.lora_{}.weight"
    save_file({name.format(x): np.zeros((2, 2), np.float32) for x in "AB"}, folder / "adapter_model.safetensors")
    return folder


def write_run(folder: Path, chosen: str | None = "H-S@0.25", **changes: Any) -> Path:
    """Write a run's folder with made-up results and a chosen model."""
    results = made_up(**changes)
    results["selection"]["chosen"] = chosen
    with RunFolder(folder) as run:
        run.do("report", {}, {}, lambda out: (out / "results.json").write_text(json.dumps(results)) and None)
        run.do("chosen", {}, {}, lambda out: write_model(out / "model") and None if chosen else None)
    (folder / "recipe.yaml").write_text("name: demo\n")
    return folder
