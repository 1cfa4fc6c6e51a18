"""A whole tiny experiment for the end-to-end tests: its recipe, its data file, and the command line as a process."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sacpo.recipe.schema import WorldSpec
from sacpo.system.files import file_hash
from sacpo.system.runs import MANIFEST
from sacpo.world import World

RECIPE = Path(__file__).with_name("tiny.yaml")
RUN = Path("runs") / "tiny"
LIMIT = 240.0
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


@dataclass(frozen=True)
class Death:
    """Where a process kills itself: at the `when`-th call of it, as `sacpo.align.engine.checkpoints:publish`."""

    target: str
    when: int = 1

    def arm(self) -> None:
        """Patch the function in this process."""
        module, _, path = self.target.partition(":")
        *owners, name = path.split(".")
        owner = import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        original, calls = getattr(owner, name), 0

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == self.when:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(owner, name, counted)


class Process:
    """The command line in a process of its own, forked from a server that has imported the libraries."""

    def __init__(self, folder: Path, *arguments: str, death: Death | None = None, drawn: bool = True) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["sacpo.api", "sacpo.pipeline.order", "sacpo.report.figures", "sacpo.report.page"]
        )
        name = f"{os.getpid()}-{len([*folder.glob('*.out')])}"
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        self.out.touch()
        self.process = context.Process(target=_main, args=(folder, arguments, self.out, self.err, death, drawn))
        self.process.start()

    def wait(self, code: int = 0) -> str:
        """Return what it printed, once it has ended with this exit code; negative: the signal that killed it."""
        self.process.join(LIMIT)
        found = self.process.exitcode
        assert found == code, f"exit code {found} instead of {code}\n{self.err.read_text()}"
        return self.out.read_text()

    def kill_once(self, seen: Callable[[], Any]) -> None:
        """Kill it as soon as something is seen."""
        deadline = time.monotonic() + LIMIT
        while not seen():
            assert self.process.is_alive(), f"it ended before it could be killed\n{self.err.read_text()}"
            assert time.monotonic() < deadline, "the moment to kill never came"
            time.sleep(0.002)
        self.process.kill()
        self.wait(-signal.SIGKILL)


def _main(folder: Path, arguments: tuple[str, ...], out: Path, err: Path, death: Death | None, drawn: bool) -> None:
    import torch

    from sacpo.cli import main

    os.chdir(folder)
    sys.stdout, sys.stderr = out.open("w"), err.open("w")
    sys.argv = ["sacpo", *arguments]
    torch.set_num_threads(1)
    os.fsync = lambda fd: None  # as in conftest.py
    if not drawn:
        figures = import_module("sacpo.report.figures")
        figures.all_drawings = lambda results, narrow=False: {}  # type: ignore[attr-defined]
    if death is not None:
        death.arm()
    try:
        main()
    finally:
        sys.stdout.close()
        sys.stderr.close()


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does: a fresh interpreter."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", "from sacpo.cli import main; main()", *arguments]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)


def states(text: str) -> dict[str, list[str]]:
    """Return the stages of every state that `--json` told of, in order."""
    found: dict[str, list[str]] = {"start": [], "resume": [], "kept": [], "done": []}
    for event in map(json.loads, text.splitlines()):
        if event.get("event") == "stage":
            found[event["state"]].append(event["stage"])
    return found


def run(folder: Path, *arguments: str, drawn: bool = True) -> dict[str, list[str]]:
    """Run the tiny recipe to its end and return what its stages did; undrawn, its report has no figures."""
    return states(Process(folder, "run", "tiny.yaml", "--json", *arguments, drawn=drawn).wait())


def refused(folder: Path, *arguments: str) -> str:
    """Return what a command says that is refused as the user's error."""
    process = Process(folder, *arguments)
    process.wait(2)
    said = process.err.read_text()
    assert said.startswith("error: ")
    assert "Traceback" not in said
    return said


def stage(folder: Path, name: str) -> Path:
    return folder / RUN / "stages" / name


def begun(folder: Path, name: str) -> Path:
    """Return the folder of the one stage of this name that was begun and killed."""
    (found,) = (folder / RUN / "partial").glob(f"{name.replace('/', '~')}-*")
    return found


def results(folder: Path) -> bytes:
    return (stage(folder, "report") / "results.json").read_bytes()


def artefacts(folder: Path) -> dict[str, Any]:
    """Return all that finished stages hold: hashes of their files, and their manifests without the seconds."""
    found: dict[str, Any] = {}
    for path in sorted((folder / RUN / "stages").rglob("*")):
        if path.name == MANIFEST:
            manifest = json.loads(path.read_text())
            found[str(path.relative_to(folder))] = {
                key: value for key, value in manifest.items() if key not in ("seconds", "checksum")
            }
        elif path.is_file():
            found[str(path.relative_to(folder))] = file_hash(path)
    return found
