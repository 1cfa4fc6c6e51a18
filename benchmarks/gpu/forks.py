"""One process imports the libraries and begins every part as a fork of itself, which need not import them again.

It never touches CUDA, so that a fork can. Where an import does all the same, each fork becomes a new program.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu import section
from benchmarks.gpu.emit import emit, parsed

ROOT = Path(__file__).parents[2]
GRACE = 8.0
"""Seconds for a part that is ended to be gone."""
IMPORTS = 120.0
"""Seconds that the imports are waited for, which no part pays for."""
WITHOUT_CUDA = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""Lets torch say whether there is a GPU without beginning CUDA."""
LIBRARIES = (
    "torch",
    "torch.nn.attention.flex_attention",
    "transformers.generation.utils",
    "transformers.models.llama.modeling_llama",
    "peft",
    "trl.trainer.dpo_trainer",
    "sacpo.answer.decoding",
    "sacpo.trl.trainer",
)


def main() -> None:
    """Import the libraries, then begin a part for each line of standard input; tell its process, and how it ended."""
    section.quiet()
    os.environ[WITHOUT_CUDA] = "1"
    for name in LIBRARIES:
        with contextlib.suppress(Exception):  # the part that needs it says so
            importlib.import_module(name)
    del os.environ[WITHOUT_CUDA]
    emit("ready")
    for line in sys.stdin:
        job = json.loads(line)
        process = os.fork()
        if not process:
            become(**job)
        with contextlib.suppress(OSError):  # it has done so itself
            os.setpgid(process, process)
        emit("process", id=process)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        print(flush=True)  # a line of the part's may have been cut off
        emit("ended", status=status)


def become(call: str, options: dict[str, Any], folder: str) -> None:
    """Be a part's process, to its end."""
    os.setpgid(0, 0)
    os.environ |= {"HF_HOME": folder, "TMPDIR": folder}
    tempfile.tempdir = None
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(f"{folder}/stderr", os.O_WRONLY | os.O_CREAT), 2)
    sys.argv[1:] = [call, json.dumps(options)]
    if spoiled():
        emit("notice", text="an import began CUDA, so this part imports everything anew")
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.gpu.section", *sys.argv[1:]])
    section.main()


def spoiled() -> bool:
    """Return whether this fork cannot use CUDA, since the process that it comes from did."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda._is_in_bad_fork())


class Forks:
    """The process that begins parts, one at a time; a new one is begun where it is gone.

    Args:
        environment: Its environment.
        errors: The file that takes what it says itself.
    """

    def __init__(self, environment: dict[str, str], errors: Path) -> None:
        self.environment, self.errors = environment, errors
        self.process: Any = None
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.ready = False
        self.part: int | None = None
        self.status: int | None = None

    def start(self) -> None:
        """Let the libraries be imported, if they are not yet, and wait for it."""
        if self.process is not None and self.process.poll() is None:
            return
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.forks"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=self.environment,
                process_group=0,
            )
        self.lines = queue.Queue()
        threading.Thread(target=_read, args=(self.process.stdout, self.lines), daemon=True).start()
        self.ready, self.status, until = False, None, time.time() + IMPORTS
        while not self.ready and self.status is None and time.time() < until:
            self.told(until - time.time())

    def begin(self, call: str, options: dict[str, Any], folder: str) -> None:
        """Begin a part; its standard error goes to `stderr` in the folder."""
        self.start()
        self.part = self.status = None
        with contextlib.suppress(BrokenPipeError):  # it has just ended, which the next look tells
            self.process.stdin.write(json.dumps({"call": call, "options": options, "folder": folder}) + "\n")
            self.process.stdin.flush()

    def told(self, seconds: float) -> dict[str, Any] | None:
        """Return what the part tells next, None if it tells nothing in this time or has ended."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            return None
        if line is None:
            self.status = self.process.wait()
            return None
        record = parsed(line)
        if record is not None and record["part"] in ("ready", "process", "ended"):
            self.ready = True
            self.part, self.status = record.get("id", self.part), record.get("status")
            return None
        return record

    def end(self) -> None:
        """End the part and what it started; where it stays or was not begun, end the process that begins parts."""
        until, killed = time.time() + GRACE, None
        while self.status is None and time.time() < until:
            if self.part != killed:
                _kill(self.part)
                killed = self.part
            self.told(max(until - time.time(), 0))
        if self.part is not None:
            _kill(self.part)  # what it left behind
        if self.status is None:
            self.close()

    def close(self) -> None:
        """End the process that begins parts."""
        if self.process is not None:
            _kill(self.process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=GRACE)


def _read(stream: Any, lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
