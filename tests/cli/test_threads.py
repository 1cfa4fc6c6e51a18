"""Threads fall asleep soon unless the user says otherwise, which the environment says before numpy is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_THREAD_TIMEOUT")
LOOK = f"""
import os, sys

class Looks:  # for numpy, and says what the environment holds by then
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            assert "torch" not in sys.modules
            print(*(os.environ.get(name, "-") for name in {WAITING}))

sys.meta_path.insert(0, Looks())
from sacpo.cli import main
main()
"""


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, "PASSIVE 5000 15"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE - 15"),
        ({"GOMP_SPINCOUNT": "7", "OPENBLAS_THREAD_TIMEOUT": "20"}, "PASSIVE 7 20"),
    ],
)
def test_threads_fall_asleep_soon_unless_the_user_says_otherwise(given: dict[str, str], kept: str) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, "--version"], env={**clean, **given}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == kept
