"""How torch's threads wait: asleep, unless the user says otherwise, and said before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOOK = """
import os, sys
from sacpo.cli import main
assert "torch" not in sys.modules
try:
    main()
except SystemExit:
    print(os.environ["OMP_WAIT_POLICY"])
"""


@pytest.mark.parametrize(("given", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_unless_the_user_says_otherwise(given: str | None, kept: str) -> None:
    clean = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment = clean if given is None else {**clean, "OMP_WAIT_POLICY": given}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, "--version"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == kept
