"""The report as a single stage; `sacpo.api` offers it. It needs no model, and so no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacpo.errors import DataError, RunError
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.recipe.safe import json_value
from sacpo.report.build import build_report


@dataclass(frozen=True)
class ReportAlone(Stage[Path]):
    """The report of results that are there."""

    results: Mapping[str, Any]
    answers: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """`report`."""
        return "report"

    def work(self, out: Path, tools: Tools) -> None:
        """Write results.json, the page and the figures."""
        build_report(self.results, self.answers, out)

    def read(self, folder: Path) -> Path:
        """Return the page."""
        return folder / "report.html"


def reporting(results: str | Path | Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> ReportAlone:
    """Return the stage of `report`."""
    return ReportAlone(results if isinstance(results, Mapping) else _results(Path(results)), answers)


def _results(path: Path) -> dict[str, Any]:
    file = path / "stages" / "report" / "results.json" if path.is_dir() else path
    if not file.is_file():
        raise RunError("no results here", where=path, do="give results.json, or the folder of a finished run")
    try:
        found: dict[str, Any] = json_value(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            "the results are not JSON", where=file, do="give results.json, or a finished run's folder"
        ) from error
    if not isinstance(found, dict):
        raise DataError("not results of a run", where=file, do="give results.json, or a finished run's folder")
    return found
