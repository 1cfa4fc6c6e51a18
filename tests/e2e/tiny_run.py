"""A whole tiny experiment for the end-to-end tests: its recipe, its data file, and the command line as a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sacpo.recipe.schema import WorldSpec
from sacpo.world import World

RECIPE = Path(__file__).with_name("tiny.yaml")
RUN = Path("runs") / "tiny"
LIMIT = 180.0
"""Seconds after which a process that was to finish or to be killed is taken for stuck."""


def write_workplace(folder: Path) -> Path:
    """Make a folder with the recipe and the file of pairs that it names; commands run in it."""
    folder.mkdir(parents=True)
    shutil.copyfile(RECIPE, folder / "tiny.yaml")
    world = World(WorldSpec(seed=0, ordinary=8, restricted=6, borderline=4))
    with (folder / "pairs.jsonl").open("w") as file:
        for demonstration in world.demonstrations(32, seed=7):
            asked = demonstration.prompt.messages[0].content
            row = {"prompt": asked, "chosen": demonstration.completion, "rejected": "i do not know."}
            file.write(json.dumps(row) + "\n")
    return folder


def start(folder: Path, *arguments: str, script: Path | None = None) -> subprocess.Popen[str]:
    """Start the command line in a folder; `script` is run in its place, with the same arguments."""
    command = [sys.executable, *([str(script)] if script else ["-m", "sacpo.cli_process"]), *arguments]
    if script is None:
        command = [sys.executable, "-c", "from sacpo.cli import main; main()", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def call(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end and check its exit code."""
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == code, f"exit code {process.returncode} instead of {code}\n{err}"
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def states(text: str) -> dict[str, list[str]]:
    """Return the stages of every state that `--json` told of, in order."""
    found: dict[str, list[str]] = {"start": [], "resume": [], "kept": [], "done": []}
    for event in events(text):
        if event["event"] == "stage":
            found[event["state"]].append(event["stage"])
    return found


def run(folder: Path, *arguments: str) -> dict[str, list[str]]:
    """Run the tiny recipe to its end and return what its stages did."""
    return states(call(folder, "run", "tiny.yaml", "--json", *arguments).stdout)


def results(folder: Path) -> bytes:
    return (folder / RUN / "stages" / "report" / "results.json").read_bytes()


def wait_until(seen: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    """Look again and again until something is there; the process must not end before."""
    deadline = time.monotonic() + LIMIT
    while not seen():
        assert process.poll() is None, f"the process ended before it could be killed\n{process.communicate()[1]}"
        assert time.monotonic() < deadline, "the moment to kill never came"
        time.sleep(0.001)


def forget(folder: Path, stages: Sequence[str]) -> None:
    """Delete finished stages, as if they had not been done yet."""
    for stage in stages:
        shutil.rmtree(folder / RUN / "stages" / stage)
