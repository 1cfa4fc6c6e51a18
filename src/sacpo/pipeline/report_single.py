"""The report as a single stage; `sacpo.api` offers it. It needs no model, and so no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sacpo.pipeline.single import do_single
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonMapping
from sacpo.report.read import results_of
from sacpo.system.progress import QUIET, Progress


@dataclass(frozen=True)
class ReportAlone(Stage[Path]):
    """The report of results that are there."""

    results: JsonMapping
    answers: Sequence[JsonMapping]

    @property
    def name(self) -> str:
        """`report`."""
        return "report"

    def work(self, out: Path, tools: Tools) -> None:
        """Write results.json, the page and the figures."""
        from sacpo.report.build import build_report

        build_report(self.results, self.answers, out)

    def read(self, folder: Path) -> Path:
        """Return the page."""
        return folder / "report.html"


def report(
    results: str | Path | JsonMapping,
    out: str | Path,
    *,
    answers: Sequence[JsonMapping] = (),
    progress: Progress = QUIET,
) -> Path:
    """Write the report of results.json into a folder and return the page.

    Args:
        results: What a run measured, its results.json, or the folder of a finished run.
        out: The folder: results.json, report.html and figures/.
        answers: Prompts with all models' answers, for the page.
        progress: Where to show it.

    Raises:
        DataError: The results are not of their schema.
    """
    return do_single("report", reporting(results, answers), out, progress) / "report.html"


def reporting(results: str | Path | JsonMapping, answers: Sequence[JsonMapping]) -> ReportAlone:
    """Return the stage of `report`."""
    return ReportAlone(results if isinstance(results, Mapping) else results_of(results), answers)
