"""The report's folder: what lies in it, the same bytes twice, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from report_world import answers, made_up

from sacpo.errors import DataError
from sacpo.report.build import build_report, results_text
from sacpo.report.results import parse_results, results_schema

FIGURES = {f"{name}.{kind}" for name in ("frontier", "safety", "optimum", "training") for kind in ("png", "svg", "pdf")}
MINIMAL: dict[str, Any] = {"name": "tiny", "recipe": {}, "seed": 3, "models": {"sft": {"kind": "base"}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "report"
    build_report(made_up(), answers(3), out)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_folder_holds_results_page_and_figures(folder: Path) -> None:
    assert set(contents(folder)) == {"results.json", "report.html", *(f"figures/{name}" for name in FIGURES)}
    assert (folder / "figures/frontier.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "figures/frontier.pdf").read_bytes().startswith(b"%PDF")
    assert b"<svg" in (folder / "figures/frontier.svg").read_bytes()


def test_results_come_back_with_their_diagnosis(folder: Path) -> None:
    written = json.loads((folder / "results.json").read_text())
    expected = ["found", "found", "not found", "cannot tell", "not found", "cannot tell", *["not found"] * 3]
    assert [finding["verdict"] for finding in written["diagnosis"]] == expected
    assert written["measures"]["H-S@0.25"]["report"]["metrics"]["unsafe_rate"]["value"] == 0.04
    assert written["models"]["H-S@0.25"]["strengths"] == [["helpfulness", 0.5], ["harmlessness", 0.25]]
    assert results_text(parse_results(written)) == (folder / "results.json").read_text()


def test_answers_are_on_the_page_and_not_in_the_results(folder: Path) -> None:
    assert "ask the warden for a safe way" in (folder / "report.html").read_text()
    assert "warden" not in (folder / "results.json").read_text()


def test_the_same_input_gives_the_same_bytes_in_another_process(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from report_world import answers, made_up\n"
        "from sacpo.report.build import build_report\n"
        "build_report(made_up(), answers(3), Path(sys.argv[2]))\n"
    )
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "again")]
    subprocess.run(arguments, check=True, env={"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1", "TZ": "Asia/Tokyo"})
    again = contents(tmp_path / "again")
    assert {name: data == again[name] for name, data in contents(folder).items()} == dict.fromkeys(again, True)


def test_no_time_and_no_place_is_written(folder: Path) -> None:
    """Software names its version, its date and the folder unless told not to."""
    for name, data in contents(folder).items():
        for mark in (b"CreationDate", b"dc:date", b"matplotlib v", str(folder).encode()):
            assert mark.lower() not in data.lower(), (name, mark)


def test_almost_nothing_is_enough_and_old_figures_go(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "frontier.png").write_bytes(b"old")
    (tmp_path / "figures" / "notes.txt").write_text("mine")
    results = build_report(MINIMAL, [], tmp_path)
    assert {finding.verdict for finding in results.diagnosis} == {"cannot tell"}
    assert set(contents(tmp_path)) == {"results.json", "report.html", "figures/notes.txt"}


def test_building_does_not_load_the_heavy_libraries() -> None:
    heavy = ("torch", "transformers", "matplotlib")
    code = f"import sys, sacpo.report.build; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"baseline": "none"}, "baseline"),
        ({"unknown": 1}, "unknown"),
        ({"format": "sacpo-results/2"}, "format"),
        ({"measures": {"ghost": {}}}, "measures"),
        ({"models": {"sft": {"kind": "base", "curve": [{"loss": float("nan")}]}}}, "models.sft.curve.0.loss"),
    ],
)
def test_wrong_results_are_refused_where_they_are_wrong(change: dict[str, Any], where: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        build_report({**MINIMAL, **change}, [], tmp_path)
    assert error.value.where == where
    assert not (tmp_path / "results.json").exists()


def test_wrong_answers_are_refused_where_they_are_wrong(tmp_path: Path) -> None:
    wrong = [*answers(1), {"prompt": "p", "answers": {"sft": {"words": "?"}}}]
    with pytest.raises(DataError) as error:
        build_report(MINIMAL, wrong, tmp_path)
    assert error.value.where == "answers[1].answers.sft.text"


def test_answers_with_lone_surrogates_are_shown(tmp_path: Path) -> None:
    build_report(MINIMAL, [{"prompt": "a\ud800b", "answers": {"sft": {"text": "c\udfff"}}}], tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "a⟨U+D800⟩b" in page and "c⟨U+DFFF⟩" in page


def test_the_schema_knows_what_is_written(folder: Path) -> None:
    schema = results_schema()
    assert set(json.loads((folder / "results.json").read_text())) == set(schema["properties"])
    assert {"name", "recipe", "seed", "models"} <= set(schema["required"])
