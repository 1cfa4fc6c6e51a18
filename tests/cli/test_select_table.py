"""`sacpo select` prints the model's name for scripts, and its reasons for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sacpo.cli import app


def judged(folder: Path, unsafe: dict[str, float]) -> Path:
    folder.mkdir()

    def figure(value: float) -> dict[str, object]:
        return {
            "value": value,
            "ci95": [value - 0.1, value + 0.1],
            "n": 40,
            "clusters": 40,
            "unparsed": 0,
            "method": "t",
        }

    measures = {
        name: {"metrics": {"unsafe_rate": figure(rate), "win_rate/helpfulness": figure(0.5 + rate)}}
        for name, rate in unsafe.items()
    }
    (folder / "measures.json").write_text(json.dumps(measures))
    return folder


@pytest.mark.parametrize(("bound", "chosen", "code"), [("0.3", "H-S\n", 0), ("0.05", "", 2)])
def test_the_name_goes_to_standard_output_and_the_figures_beside_it(
    bound: str, chosen: str, code: int, tmp_path: Path
) -> None:
    """A script that takes standard output for a model's name gets one, or exit code 2 and nothing."""
    folder = judged(tmp_path / "judged", {"H": 0.4, "H-S": 0.2})
    done = CliRunner().invoke(app, ["select", str(folder), "--at-most", f"unsafe_rate={bound}"])
    assert (done.exit_code, done.stdout) == (code, chosen)
    lines = [line.split() for line in done.stderr.splitlines()]
    assert ["H", "0.900", "[0.800,", "1.000]", "0.400", "[0.300,", "0.500]", "(missed)", "no"] in lines
    assert lines[0][:4] == ["Point", "estimates", "are", "held"]
    none = "no model meets every constraint; the nearest is H-S"
    assert (none in done.stderr.splitlines()[-1:]) == (code == 2)


def test_json_says_that_none_was_chosen_and_so_does_the_exit_code(tmp_path: Path) -> None:
    folder = judged(tmp_path / "judged", {"H": 0.4, "H-S": 0.2})
    done = CliRunner().invoke(app, ["select", str(folder), "--at-most", "unsafe_rate=0.05", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["chosen"]) == (2, None)
