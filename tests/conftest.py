"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads would wait for each other


@pytest.fixture(scope="session", autouse=True)
def no_power_cuts() -> Iterator[None]:
    """Nothing waits for the disk: what the tests kill leaves its files with the system all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Reports have no figures, which take longer than the rest of a tiny run and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sacpo.report.figures.all_drawings", lambda results, narrow=False: {})
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data sets, or a skip that says how to have it."""
    place = Path(os.environ.get("SACPO_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not place.is_dir():
        pytest.skip("real data absent: set SACPO_DATA to the folder that holds it")
    return place


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained tiny Llama."""
    from align_toys import write_base

    return write_base(tmp_path_factory.mktemp("models") / "base")
