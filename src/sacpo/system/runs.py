"""Run folders: stages that are atomic, keyed by their content, resumable and verified.

    runs/NAME/
      .lock                     held while a run works here
      recipe.yaml               the resolved recipe
      cache/                    reference log-probs by content key
      report.html, results.json, model   links to what the stages hold
      stages/STAGE/...          finished stages, each with manifest.json
      partial/STAGE-KEY/...     a stage at work: what a killed run left is resumed from here

A stage's key is the hash of its name, its configuration and its inputs' keys. A stage is finished when its folder
holds a manifest with that key. First all files are flushed to the disk, then the manifest is written, then the folder
is renamed into place. So a folder under partial/ that has a manifest is complete: only its renaming is missing.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Self

from sacpo._version import __version__
from sacpo.errors import MachineError, RunError, Unfinished, UserError
from sacpo.plain import JsonMapping, JsonObject
from sacpo.system import processes
from sacpo.system.files import clear_temporary, content_key, file_hash, sync, write_json
from sacpo.system.leftovers import KEY_SHOWN, leftovers
from sacpo.system.locks import locked
from sacpo.system.machine import machine_errors

MANIFEST, CHECKSUM = "manifest.json", "checksum"
LIBRARIES = ("torch", "transformers", "accelerate", "peft", "datasets", "tokenizers", "safetensors", "numpy", "scipy")


def stage_key(stage: str, config: JsonMapping, inputs: Mapping[str, str]) -> str:
    """Return a stage's content key: of its name, its configuration, its inputs' keys and this package's version."""
    return content_key({"stage": stage, "sacpo": __version__, "config": dict(config), "inputs": dict(inputs)})


def versions() -> dict[str, str]:
    """Return the versions of this package, Python and the libraries that make the numbers."""
    return {"sacpo": __version__, "python": platform.python_version(), **_libraries()}


@cache  # every manifest names them
def _libraries() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@dataclass(frozen=True)
class Artefact:
    """A finished stage: where its files are and the key that identifies them."""

    stage: str
    key: str
    path: Path

    def manifest(self) -> JsonObject:
        """Return the stage's manifest."""
        return read_manifest(self.path / MANIFEST)


def as_it_is(data: object) -> object:
    """Return data as they are: nothing in them is hidden."""
    return data


@dataclass
class RunFolder:
    """One run's folder; use it as a context manager, which takes the lock.

    Args:
        path: The folder, `runs/NAME`.
        on_stage: Called with (stage, state) where state is "start", "resume", "done" or "kept".
        hidden: What a manifest shows of a stage's configuration and inputs: names of variables for their values.
    """

    keeps_begun: ClassVar[bool] = False
    """Whether what an error leaves of a stage that has just begun stays."""

    path: Path
    on_stage: Callable[[str, str], None] = lambda stage, state: None
    hidden: Callable[[Any], Any] = as_it_is
    _verified: set[str] = field(default_factory=set)
    _lock: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        if not processes.is_first():
            return self
        self._lock.enter_context(
            locked(
                self.lock_file,
                "another process is working in this run folder",
                where=self.path,
                do="wait until it has finished, or give this run another name",
            )
        )
        for old in self.discarded():
            shutil.rmtree(old)
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.close()

    @property
    def lock_file(self) -> Path:
        """The file that is locked while a process works here."""
        return self.path / ".lock"

    def final(self, stage: str) -> Path:
        """Return where a finished stage lies."""
        return self.path / "stages" / stage

    def partial(self, stage: str, key: str) -> Path:
        """Return where a stage with this key works until it is finished."""
        return self.path / "partial" / f"{stage.replace('/', '~')}-{key[:KEY_SHOWN]}"

    def discarded(self) -> list[Path]:
        """Return the replaced stages that a killed process had no time to remove."""
        return sorted((self.path / "partial").glob(".old-*"))

    def leftovers(self, live: Iterable[tuple[str, str]]) -> list[Path]:
        """Return the working folders that no stage can go on from: those of other keys than these.

        Args:
            live: Name and key of every stage that may still be done here.
        """
        return leftovers(self.path / "partial", {self.partial(stage, key).name for stage, key in live})

    def is_done(self, stage: str, key: str) -> bool:
        """Tell whether a finished stage with this key is in place (its files are not read)."""
        return _holds(self.final(stage), key)

    def do(
        self,
        stage: str,
        config: JsonMapping,
        inputs: Mapping[str, str],
        work: Callable[[Path], None],
        *,
        shared: bool = False,
        again: bool = False,
    ) -> Artefact:
        """Return the finished stage, doing its work only if that is not done yet.

        Of several processes the first does everything; the others come back when the stage is finished.

        Args:
            stage: The stage's name, which is also its folder, such as `align/H-S@0.25`.
            config: Everything beside the inputs that the result depends on; part of the key.
            inputs: Name and content key of every artefact or file that the work reads; part of the key.
            work: Called with the stage's working folder, which may hold what a killed run left there.
            shared: All processes call `work`, with the same folder; what it writes is the first one's business.
            again: Do it although it is finished.

        Raises:
            RunError: A finished stage's files do not match its manifest.
            MachineError: The disk is full or the folder cannot be written.
        """
        key = self.key(stage, config, inputs)
        if not processes.is_first():
            return self._follow(stage, key, work)
        if not again and self._keep(stage, key):
            processes.from_first(False)
        else:
            self.on_stage(stage, "resume" if self.partial(stage, key).exists() else "start")
            with machine_errors(self.partial(stage, key)):
                self._publish(stage, self.fill(stage, config, inputs, work, shared=shared))
            self.on_stage(stage, "done")
        processes.wait()
        return Artefact(stage, key, self.final(stage))

    def _follow(self, stage: str, key: str, work: Callable[[Path], None]) -> Artefact:
        """Wait until the first process has finished a stage; do its work too if the first one's word asks for it."""
        if processes.from_first(False):
            with machine_errors(self.partial(stage, key)):
                work(self.partial(stage, key))
            processes.wait()
        processes.wait()
        return Artefact(stage, key, self.final(stage))

    def _keep(self, stage: str, key: str) -> bool:
        """Tell whether a finished stage stays, after a look at its files."""
        if not self.is_done(stage, key):
            return False
        self._verify(stage)
        with machine_errors(self.path):  # what a killed redoing of the finished stage left
            shutil.rmtree(self.partial(stage, key), ignore_errors=True)
        self.on_stage(stage, "kept")
        return True

    def fill(
        self,
        stage: str,
        config: JsonMapping,
        inputs: Mapping[str, str],
        work: Callable[[Path], None],
        *,
        shared: bool = False,
    ) -> Path:
        """Do a stage's work in its partial folder up to the manifest, and return that folder; arguments as for `do`."""
        key = self.key(stage, config, inputs)
        partial = self.partial(stage, key)
        started, begun = time.monotonic(), partial.exists()
        partial.mkdir(parents=True, exist_ok=True)
        complete = _holds(partial, key)
        processes.from_first(shared and not complete)  # the word that `_follow` waits for
        if complete:
            verify(partial)
            return partial
        clear_temporary(partial)
        try:
            with contextlib.nullcontext() if shared else processes.alone():
                work(partial)
        except UserError as error:
            if not (begun or self.keeps_begun or isinstance(error, MachineError | Unfinished)):
                shutil.rmtree(partial)  # the same command cannot go on from there
            raise
        if shared:
            processes.wait()
        shown = self.hidden(dict(config)), self.hidden(dict(inputs))
        _complete(stage, key, *shown, partial, self.files(partial), time.monotonic() - started)
        return partial

    def files(self, partial: Path) -> list[Path]:
        """Return the files of a stage's result in the folder where it works."""
        return sorted(path for path in partial.rglob("*") if path.is_file() and path != partial / MANIFEST)

    def key(self, stage: str, config: JsonMapping, inputs: Mapping[str, str]) -> str:
        """Return the content key of a stage; see `stage_key`."""
        return stage_key(stage, config, inputs)

    def _publish(self, stage: str, partial: Path) -> None:
        """Rename a complete folder into place; what stood there goes."""
        final, old = self.final(stage), partial.with_name(f".old-{partial.name.lstrip('.')}")
        final.parent.mkdir(parents=True, exist_ok=True)
        replaces = final.exists()
        if replaces:
            final.rename(old)
        partial.rename(final)
        sync(final.parent)
        if replaces:
            shutil.rmtree(old)
        self._verified.add(stage)

    def _verify(self, stage: str) -> None:
        if stage in self._verified:
            return
        verify(self.final(stage))
        self._verified.add(stage)


def finished_size(folder: Path) -> int:
    """Return the bytes of a finished stage's files: the same for the same result.

    Of folders with weights the weights alone count; small files beside them name places.
    """
    files = read_manifest(folder / MANIFEST)["files"]
    weights = {name: entry for name, entry in files.items() if name.endswith(".safetensors")}
    return sum(entry["bytes"] for entry in (weights or files).values())


def _complete(
    stage: str,
    key: str,
    config: JsonMapping,
    inputs: Mapping[str, str],
    partial: Path,
    files: list[Path],
    seconds: float,
) -> None:
    """Flush a stage's files to the disk and write its manifest."""
    manifest = {
        "stage": stage,
        "key": key,
        "config": dict(config),
        "inputs": dict(inputs),
        "versions": versions(),
        "seconds": round(seconds, 3),
        "files": {
            str(path.relative_to(partial)): {"sha256": file_hash(path), "bytes": path.stat().st_size} for path in files
        },
    }
    for path in files:
        sync(path)
    plain = json.loads(json.dumps(manifest, default=str))
    write_json(partial / MANIFEST, {**plain, CHECKSUM: content_key(plain)})


def verify(folder: Path) -> None:
    """Check a finished stage's files against its manifest.

    Raises:
        RunError: A file is missing or differs; the message names it.
    """
    for name, entry in read_manifest(folder / MANIFEST)["files"].items():
        path = folder / name
        if not path.is_file():
            raise RunError("a file of a finished stage is missing", where=path, do=f"delete {folder} to do it again")
        if path.stat().st_size != entry["bytes"] or file_hash(path) != entry["sha256"]:
            raise RunError(
                "a file of a finished stage is corrupted: it is not what its manifest says",
                where=path,
                do=f"delete {folder}; the same command then does the stage again",
            )


def read_manifest(path: Path) -> JsonObject:
    """Return what a manifest says.

    Raises:
        RunError: It is not what was written.
    """
    try:
        manifest = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError("a manifest is not JSON", where=path, do=f"delete {path.parent} to do it again") from error
    noted = manifest.pop(CHECKSUM, None) if isinstance(manifest, dict) else None
    if noted is None or noted != content_key(manifest):
        raise RunError(
            "a manifest is corrupted: it is not what was written",
            where=path,
            do=f"delete {path.parent}; the same command then does the stage again",
        )
    return manifest


def _holds(folder: Path, key: str) -> bool:
    manifest = folder / MANIFEST
    return manifest.is_file() and read_manifest(manifest)["key"] == key
