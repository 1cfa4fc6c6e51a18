"""One stage by itself: the same key, atomic folder, manifest and resume as in a run, in a folder of the user's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from sacpo.errors import RunError
from sacpo.judging.llm.budget import Budget
from sacpo.judging.llm.files import JUDGING, SHOWN
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.system import processes
from sacpo.system.files import content_key
from sacpo.system.leftovers import KEY_SHOWN, disk_use, leftovers
from sacpo.system.progress import Progress
from sacpo.system.runs import MANIFEST, RunFolder, read_manifest


class OutFolder(RunFolder):
    """A folder that becomes the output of one stage.

    Args:
        out: The output; it appears when it is complete.
        verb: What the stage is called where progress is shown.
        progress: Where to show what is going on.
    """

    def __init__(self, out: Path, verb: str, progress: Progress) -> None:
        self.out = out.expanduser().resolve()  # of a link its target: a folder can be renamed there
        super().__init__(
            self.out.parent, on_stage=lambda stage, state: progress.stage(verb, state), hidden=_without_secrets
        )

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

    def holds(self, stage: Stage[object]) -> bool:
        """Tell whether the folder is a result of this stage, whatever it was made from."""
        manifest = self.out / MANIFEST
        return manifest.is_file() and read_manifest(manifest)["stage"] == stage.name

    def check_free(self, stage: Stage[object]) -> None:
        """Check that the folder holds nothing, or this stage's result.

        Raises:
            RunError: It holds something else.
        """
        out = self.out
        if out == out.parent or (
            not self.is_done(stage.name, stage.key) and out.exists() and (not out.is_dir() or any(out.iterdir()))
        ):
            what = "another stage's result" if (out / MANIFEST).is_file() else "files"
            raise RunError(f"the output folder holds {what} already", where=out, do="give a new folder, or delete it")


class OpenFolder(OutFolder):
    """A folder in which language models' verdicts are made in sight: what is there shows while others are missing.

    What was paid for stays in it whatever is asked, so that the stage is always done anew, at no cost.
    """

    keeps_begun = True

    def partial(self, stage: str, key: str) -> Path:
        """Return the folder itself."""
        return self.out

    def files(self, partial: Path) -> list[Path]:
        """Return the result's files: the store goes on growing."""
        return [partial / name for name in SHOWN if (partial / name).is_file()]

    def check_free(self, stage: Stage[object]) -> None:
        """Check that the folder holds no other stage's result, and take back the word that it is finished.

        Raises:
            RunError: It holds another stage's result.
        """
        if (self.out / MANIFEST).is_file() and not (self.out / JUDGING).is_file():
            raise RunError("the output folder holds another stage's result", where=self.out, do="give a new folder")
        (self.out / MANIFEST).unlink(missing_ok=True)

    def _publish(self, stage: str, partial: Path) -> None:
        """Leave it where it is."""


def _without_secrets(data: object) -> object:
    """Return a configuration as a manifest shows it: fields that requests carry besides stand there by their key."""
    if isinstance(data, dict):
        return {k: content_key(v) if k == "extra" and v else _without_secrets(v) for k, v in data.items()}
    return [_without_secrets(one) for one in data] if isinstance(data, list | tuple) else data


def do_single(
    verb: str,
    stage: Stage[object],
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
        return do_in(folder, stage, Tools(folder, cache=cache, progress=progress, budget=budget))


def do_in(folder: OutFolder, stage: Stage[object], tools: Tools, *, again: bool = False) -> Path:
    """Do one stage into a folder whose lock is held, and return the folder; errors as of `do_single`.

    Args:
        folder: The folder.
        stage: The stage.
        tools: What it works with.
        again: Do it although it is finished. What the folder holds of this stage, made in whatever way, stays until the
            new result is complete.
    """
    with contextlib.ExitStack() as after:
        if processes.is_first():
            after.callback(folder.lock_file.unlink, missing_ok=True)
            if not (again and folder.holds(stage)):
                folder.check_free(stage)
            for left in folder.leftovers([(stage.name, stage.key)]):
                tools.progress.notice(f"{left} ({disk_use(left):,} bytes) is of a call with other arguments: delete it")
        work = stage.work
        keys, shared = stage.keys, stage.shared
        done = folder.do(stage.name, stage.config, keys, lambda out: work(out, tools), shared=shared, again=again)
        return done.path
