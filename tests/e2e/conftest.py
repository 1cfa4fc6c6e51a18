"""The tiny experiment, done once for all tests of a session."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_run import command, write_workplace

DONE = "done.json"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody interrupted; tests only read it."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = root / "tiny-experiment"
    with (root / "tiny-experiment.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / DONE).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            write_workplace(folder)
            done = command(folder, "run", "tiny.yaml", "--json")
            assert done.returncode == 0, done.stderr
            (folder / DONE).write_text(done.stdout)
    return folder


@pytest.fixture
def again(finished: Path, tmp_path: Path) -> Callable[..., Path]:
    """Make a copy of the finished run in which some stages were never done."""

    def copy(*forgotten: str) -> Path:
        folder = tmp_path / "work"
        shutil.copytree(finished, folder, symlinks=True)
        for stage in forgotten:
            shutil.rmtree(folder / "runs" / "tiny" / "stages" / stage)
        return folder

    return copy


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tiny models; tests copy them."""
    from bad_input_models import fill_shelf

    return fill_shelf(tmp_path_factory.mktemp("shelf"))
