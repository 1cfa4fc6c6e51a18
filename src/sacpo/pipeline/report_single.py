"""The report as a single stage; `sacpo.api` offers it. It needs no model, and so no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.report.build import build_report
from sacpo.report.read import results_of


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
    return ReportAlone(results if isinstance(results, Mapping) else results_of(results), answers)
