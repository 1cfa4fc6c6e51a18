"""`sacpo chat` on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from sacpo import api
from sacpo.cli.from_api import Call, command


@command(api.chat, hidden=("as_json",))
def chat(
    call: Call,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Of a run: the path between two of its trained models."),
    ] = None,
) -> None:
    """Talk to a model, or to any model of a path: a local page with a slider, or the terminal."""
    call(between=between)
