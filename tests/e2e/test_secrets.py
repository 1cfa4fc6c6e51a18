"""A value of the environment is in no file of a whole run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from bad_input_cases import ABSENT, Case, lay_out, sacpo

VALUE = "correct-horse-battery-9"


def test_no_file_of_a_run_holds_the_value_of_a_variable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_TOKEN", VALUE)
    paths = {f"data.{name}.path": f"${{MY_TOKEN}}/{name}.jsonl" for name in ("demos", "pairs")}
    trained = {"sft.training": {"run_name": "${MY_TOKEN}"}, "steps": [], "merge": ABSENT}
    lay_out(Case("secret", {**paths, **trained, "prompts.report.path": "${MY_TOKEN}/report.jsonl", "constraints": []}))
    Path(VALUE).mkdir()
    for name in ("demos", "pairs", "report"):
        shutil.move(f"{name}.jsonl", VALUE)
    said = sacpo(("run", "recipe.yaml"), capsys, monkeypatch)
    assert said.code == 0, said.err
    assert "the value of ${MY_TOKEN} is published: results and reports show 'sft.training.run_name'" in said.err
    files = [path for path in Path("runs/tiny").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"recipe.yaml", "results.json", "report.html", "manifest.json"}
    assert [str(path) for path in files if VALUE.encode() in path.read_bytes()] == []
    disk = json.loads(Path("runs/tiny/stages/report/results.json").read_text())["disk"]
    weights = Path("runs/tiny/stages/sft").rglob("*.safetensors")
    assert disk["models"] == sum(path.stat().st_size for path in weights) > 0
    written = yaml.safe_load(Path("runs/tiny/recipe.yaml").read_text())
    assert written["data"]["pairs"]["path"] == "${MY_TOKEN}/pairs.jsonl"
    assert "${MY_TOKEN}/pairs.jsonl" in Path("runs/tiny/stages/report/report.html").read_text()
