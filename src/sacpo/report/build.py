"""Build the report's folder: `results.json`, `report.html` and `figures/`, each written whole or not at all.

More answers than a page can hold stand on pages `answers-2.html`, ... beside it.

The same results and answers give the same bytes: no date, path, version of a drawing library or timing is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sacpo.errors import DataError
from sacpo.report.diagnosis import diagnose
from sacpo.report.lookup import plain
from sacpo.report.results import Results, ShownPrompt, parse_results
from sacpo.system.files import write_atomic
from sacpo.system.machine import machine_errors

FIGURE_KINDS = ("png", "svg", "pdf")


def build_report(
    results: Results | Mapping[str, Any], answers: Sequence[ShownPrompt | Mapping[str, Any]], out: Path
) -> Results:
    """Write the report into the folder and return the results with their diagnosis.

    Args:
        results: What the run measured; a diagnosis in it is replaced.
        answers: Prompts with all models' answers, for the page only.
        out: The folder, made where it is missing; files of an earlier report are replaced.

    Raises:
        DataError: The results or the answers are not of their schema, or a number is not finite.
        MachineError: The folder cannot be written.
    """
    from sacpo.report.figures import all_drawings  # drawing libraries are slow to import
    from sacpo.report.page import render_pages
    from sacpo.report.style import file_bytes

    parsed = parse_results(results)
    diagnosed = parsed.model_copy(update={"diagnosis": diagnose(parsed)})
    shown = [parse_answers(prompt, index) for index, prompt in enumerate(answers)]
    wide, narrow = all_drawings(diagnosed), all_drawings(diagnosed, narrow=True)
    figures = out / "figures"
    with machine_errors(out):
        figures.mkdir(parents=True, exist_ok=True)
        for stale in figures.iterdir():
            if stale.suffix[1:] in FIGURE_KINDS and stale.stem not in wide:
                stale.unlink()
    for name, drawing in wide.items():
        for kind in FIGURE_KINDS:
            write_atomic(figures / f"{name}.{kind}", file_bytes(drawing, kind))
    pages = render_pages(diagnosed, shown, wide, narrow)
    with machine_errors(out):
        for page in out.glob("answers-*.html"):
            if page.name not in pages:
                page.unlink()
    for name, text in pages.items():
        write_atomic(out / name, text)
    write_atomic(out / "results.json", results_text(diagnosed))
    return diagnosed


def results_text(results: Results) -> str:
    """Return `results.json` as text; the same results give the same text."""
    return json.dumps(results.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse_answers(prompt: ShownPrompt | Mapping[str, Any], index: int = 0) -> ShownPrompt:
    """Return a prompt with its answers as checked values; lone surrogates become visible.

    Raises:
        DataError: It is not of the schema.
    """
    data = prompt.model_dump(mode="python") if isinstance(prompt, ShownPrompt) else plain(dict(prompt))
    try:
        return ShownPrompt.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in (f"answers[{index}]", *first["loc"]))
        raise DataError(f"not an answer to show: {first['msg']}", where=where, value=first.get("input")) from error
