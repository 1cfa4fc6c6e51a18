"""What stands at the top of a run's folder, for people: the report's page, the results, the chosen model.

They are links to what the stages hold, relative, so that the folder can be moved; copies where the file system has no
links. Stages and their verification know nothing of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from sacpo.system.files import TEMPORARY
from sacpo.system.machine import machine_errors

REPORT, RESULTS, MODEL, CERTIFICATE = "report.html", "results.json", "model", "certificate.json"
PLACES = {REPORT: "stages/report/report.html", RESULTS: "stages/report/results.json", MODEL: "stages/chosen/model"}
PAGES = "answers-*.html"
PLACES[CERTIFICATE] = "stages/certify/certificate/certificate.json"


def show_results(run: Path, reached: Collection[str]) -> list[str]:
    """Put the results at the top of a run's folder, and remove what the run does not have (any more).

    Args:
        run: The run's folder; its lock must be held.
        reached: The stages that the run consists of: others may lie there from earlier forms of the recipe.

    Returns:
        What must be said: a place that holds something of somebody else's is left as it is.
    """
    said = []
    with machine_errors(run):
        for left in run.glob(f".*{TEMPORARY}"):  # of a killed process
            _remove(left)
        links = _can_link(run)
        for name, target in (PLACES | _more_pages(run)).items():
            place, source = run / name, run / target
            if links and place.exists() and not place.is_symlink():
                said.append(f"{place} is not this run's and stays as it is: see {source}")
            elif not any(target.startswith(f"stages/{stage}/") for stage in reached) or not _holds(source):
                _replace(place, None)
            elif not links:
                _replace(place, source)
            elif not place.is_symlink() or place.readlink() != Path(target):
                temporary = _beside(place)
                temporary.symlink_to(target)
                temporary.replace(place)
    return said


def _more_pages(run: Path) -> dict[str, str]:
    """Return the places of further pages of answers: those that the report has, and those it had."""
    report = Path(PLACES[REPORT]).parent
    names = [page.name for page in (run / report).glob(PAGES)]
    names += [link.name for link in run.glob(PAGES) if link.is_symlink()]
    return {name: str(report / name) for name in sorted(names)}


def _holds(path: Path) -> bool:
    """Tell whether there is such a file, or a folder with something in it: mixed logits have no weights."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def _can_link(run: Path) -> bool:
    trial = _beside(run / "link")
    try:
        trial.symlink_to("stages")
    except OSError:
        return False
    trial.unlink()
    return True


def _replace(place: Path, source: Path | None) -> None:
    """Put a copy in a place, or nothing."""
    if source is None:
        _remove(place)
        return
    temporary = _beside(place)
    if source.is_dir():
        shutil.copytree(source, temporary)
        _remove(place)  # no folder can be renamed onto one that holds files
    else:
        shutil.copyfile(source, temporary)
    temporary.replace(place)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name}.{os.getpid()}{TEMPORARY}")
