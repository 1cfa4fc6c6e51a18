"""Today's results are the golden ones, bit for bit: two whole runs, every verb by itself, and the statistics.

The golden files hold results.json, and the hash of every other file that a run or a verb leaves. They are compared
only where the libraries have the versions with which they were written; elsewhere the tests are skipped and say so.

The work is done with kernels that all x86-64 CPUs have (`golden_machine.PINNED`). That does not promise the same bits
on every CPU. So on a machine of another kind results that are not the same bits are compared once more: files that no
floating point has a part in bit for bit, numbers within a tolerance. Where such a machine sampled other tokens, what
was measured on them cannot be compared; then the test is skipped and says so, after its exact part. Rounding that is
let through is told as a warning.

After a change of results that is meant: `python tests/golden/write_golden.py`, and commit with the reason.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from golden_compare import SAMPLED, compared
from golden_machine import do_work, machine, versions

HERE = Path(__file__).parent


def golden(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / f"golden_{part}.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of today's results."""
    recorded = golden("machine")["versions"]
    here = versions()
    other = [f"{name} {here[name]} (golden: {recorded[name]})" for name in recorded if here[name] != recorded[name]]
    if other:
        pytest.skip(f"golden results were written with other versions: {', '.join(other)}")
    folder = tmp_path_factory.mktemp("golden")
    do_work(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("part", ["full", "lora", "verbs"])
def test_results_are_the_golden_ones(part: str, done: Path) -> None:
    wanted, found = golden(part), json.loads((done / f"golden_{part}.json").read_text(encoding="utf-8"))
    wrong, why = compared(wanted, found, machine() == golden("machine")["machine"])
    assert not wrong, f"{part}: {len(wrong)} results changed\n" + "\n".join(wrong[:60])
    if why == SAMPLED:
        pytest.skip(f"{part}: {why}")
    if why:
        warnings.warn(f"{part}: {why}", stacklevel=1)
