"""`sacpo convert` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sacpo.cli.options import Json


def convert(
    source: Annotated[Path, typer.Argument(help="Answers, or a folder of 'judge' (verdicts).", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="The file to write.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="answers, alpaca-eval or inspect.", show_default=False)],
    answers: Annotated[Path | None, typer.Option("--answers", help="inspect: the answers that were judged.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only this model, where there are several.")] = None,
    as_json: Json = False,
) -> None:
    """Write answers or verdicts in the form of another tool."""
    from sacpo import api

    done = api.convert(source, out, to=to, answers=answers, model=model)  # type: ignore[arg-type]
    print(json.dumps({"event": "done", "file": str(done)}) if as_json else f"file: {done}")
