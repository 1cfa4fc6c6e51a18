"""Reading results.json, from a file or from the folder of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sacpo.errors import DataError, RunError
from sacpo.recipe.safe import json_value

IN_RUN = Path("stages") / "report" / "results.json"
"""Where a run's results lie in its folder."""


def results_of(path: str | Path) -> dict[str, Any]:
    """Return what results.json holds, unchecked; `sacpo.report.results.parse_results` checks it.

    Args:
        path: The file, or the folder of a finished run.

    Raises:
        RunError: There is no such file.
        DataError: It holds no JSON object.
    """
    place = Path(path)
    file = place / IN_RUN if place.is_dir() else place
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
