"""The report, the results and the model at the top of a run's folder: links, copies, and what is not this run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from sacpo.pipeline.shown import PLACES, show_results

REACHED = {"report", "chosen"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with a report and a model."""
    folder = tmp_path / "runs" / "tiny"
    for target, text in {"report/report.html": "page", "report/results.json": "{}", "chosen/model/w": "1"}.items():
        path = folder / "stages" / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def top(run: Path) -> set[str]:
    return {path.name for path in run.iterdir()} - {"stages"}


def test_links_lead_to_the_stages_wherever_the_folder_goes(run: Path) -> None:
    certificate = run / "stages" / "certify" / "certificate" / "certificate.json"
    certificate.parent.mkdir(parents=True)
    certificate.write_text("{}")
    assert show_results(run, REACHED | {"certify/certificate"}) == []
    assert show_results(run, REACHED | {"certify/certificate"}) == []
    assert top(run) == {"report.html", "results.json", "model", "certificate.json"}
    moved = run.rename(run.parent / "moved")
    assert {name: str((moved / name).readlink()) for name in PLACES} == PLACES
    assert (moved / "report.html").read_text() == "page"
    assert (moved / "model" / "w").read_text() == "1"


def test_what_the_run_does_not_have_any_more_goes(run: Path) -> None:
    """A form of the recipe without prompts has no report, though an earlier one lies there; mixed logits no weights."""
    show_results(run, REACHED)
    (run / ".model.1.tmp").symlink_to("stages")  # of a killed process
    (run / "stages" / "chosen" / "model" / "w").unlink()
    show_results(run, REACHED)
    assert top(run) == {"report.html", "results.json"}
    show_results(run, {"chosen"})
    assert top(run) == set()
    assert (run / "stages" / "report" / "report.html").is_file()


def test_further_pages_of_answers_stand_beside_the_first_and_go_with_it(run: Path) -> None:
    """A link of the first page finds the second one from the top of the folder, too."""
    second = run / "stages" / "report" / "answers-2.html"
    second.write_text("more")
    show_results(run, REACHED)
    assert (run / "answers-2.html").read_text() == "more"
    second.unlink()
    (run / "answers-mine.html").write_text("mine")
    show_results(run, REACHED)
    assert top(run) == {"report.html", "results.json", "model", "answers-mine.html"}


def test_what_somebody_else_put_there_stays_and_is_said(run: Path) -> None:
    (run / "model").mkdir()
    (run / "model" / "mine").touch()
    (said,) = show_results(run, REACHED)
    assert said == f"{run / 'model'} is not this run's and stays as it is: see {run / 'stages/chosen/model'}"
    assert (run / "model" / "mine").is_file()
    assert (run / "report.html").is_symlink()


def test_copies_where_there_are_no_links(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, target: object) -> None:
        raise PermissionError("no links on this file system")

    monkeypatch.setattr(Path, "symlink_to", refused)
    show_results(run, REACHED)
    (run / "stages" / "chosen" / "model" / "w").write_text("2")
    assert (run / "model" / "w").read_text() == "1"
    assert show_results(run, REACHED) == []
    assert (run / "model" / "w").read_text() == "2"
    assert (run / "report.html").read_text() == "page"
    assert not any((run / name).is_symlink() for name in PLACES)
    show_results(run, {"report"})
    assert top(run) == {"report.html", "results.json"}
