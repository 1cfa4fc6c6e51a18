"""One stage by itself: the same key, atomic folder, manifest and resume as in a run, in a folder of the user's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sacpo.errors import RunError
from sacpo.judging.llm.budget import Budget
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.system import processes
from sacpo.system.leftovers import KEY_SHOWN, disk_use, leftovers
from sacpo.system.progress import Progress
from sacpo.system.runs import MANIFEST, RunFolder


class OutFolder(RunFolder):
    """A folder that becomes the output of one stage.

    Args:
        out: The output; it appears when it is complete.
        verb: What the stage is called where progress is shown.
        progress: Where to show what is going on.
    """

    def __init__(self, out: Path, verb: str, progress: Progress) -> None:
        self.out = out.expanduser().resolve()  # of a link its target: a folder can be renamed there
        super().__init__(self.out.parent, on_stage=lambda stage, state: progress.stage(verb, state))

    @property
    def lock_file(self) -> Path:
        """The file that is locked while a process works on this output."""
        return self.path / f".{self.out.name}.lock"

    def final(self, stage: str) -> Path:
        """Return the output folder."""
        return self.out

    def partial(self, stage: str, key: str) -> Path:
        """Return where the stage works until it is finished: beside the output."""
        return self.path / f".{self.out.name}-{key[:KEY_SHOWN]}"

    def leftovers(self, live: Iterable[tuple[str, str]]) -> list[Path]:
        """Return what calls with other arguments left unfinished beside the output."""
        names = {self.partial(stage, key).name for stage, key in live}
        return leftovers(self.path, names, f".{self.out.name}-")

    def discarded(self) -> list[Path]:
        """Return nothing: the folder beside the output is not this package's."""
        return []


def do_single(
    verb: str,
    stage: Stage[Any],
    out: str | Path,
    progress: Progress,
    *,
    cache: Path | None = None,
    budget: Budget | None = None,
) -> Path:
    """Do one stage into a folder of the user's choice and return it; the same call again keeps or resumes it.

    A shared stage is done by all processes of a launch together; another by the first while the others wait.

    Args:
        verb: What the stage is called where progress is shown.
        stage: The stage.
        out: The folder.
        progress: Where to show it.
        cache: Folder of paid verdicts; None: there are none.
        budget: What language models may use as judges.

    Raises:
        RunError: The folder holds something else, or another process works on it.
    """
    with OutFolder(Path(out), verb, progress) as folder:
        tools = Tools(folder, cache=cache, progress=progress, budget=budget)
        try:
            if processes.is_first():
                _check_free(folder, stage)
                for left in folder.leftovers([(stage.name, stage.key)]):
                    progress.notice(f"{left} ({disk_use(left):,} bytes) is of a call with other arguments: delete it")
            work = stage.work
            done = folder.do(stage.name, stage.config, stage.keys, lambda out: work(out, tools), shared=stage.shared)
            return done.path
        finally:
            if processes.is_first():
                folder.lock_file.unlink(missing_ok=True)


def _check_free(folder: OutFolder, stage: Stage[Any]) -> None:
    out = folder.out
    if out == out.parent or (
        not folder.is_done(stage.name, stage.key) and out.exists() and (not out.is_dir() or any(out.iterdir()))
    ):
        what = "another stage's result" if (out / MANIFEST).is_file() else "files"
        raise RunError(f"the output folder holds {what} already", where=out, do="give a new folder, or delete it")
