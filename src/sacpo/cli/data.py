"""`sacpo data` on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from sacpo.cli.options import Json, Quiet, shown
from sacpo.system.visible import json_text, visible

data = typer.Typer(no_args_is_help=True, help="Look at data before you train on it.")

Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="Files or hub ids.", show_default=False)]
Format = Annotated[str | None, typer.Option("--format", help="Their format; by default the first rows tell.")]
Split = Annotated[str | None, typer.Option("--split", help="Of hub ids; train by default.")]
Near = Annotated[float, typer.Option("--near", help="The least similarity of near-duplicates.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the tables for a page.")]


@data.command()
def audit(
    files: Files,
    format: Format = None,
    split: Split = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Published counts: pku-saferlhf-train or pku-saferlhf-30k.")
    ] = None,
    near: Near = 0.8,
    markdown: Markdown = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Audit preference sets: counts, faults, contradictions, leaks, biases, coverage. No text of them is shown."""
    from sacpo.audit import audit_preferences
    from sacpo.audit.tables import preference_tables, render

    with shown(as_json, quiet) as progress:
        found = audit_preferences(files, format=format, split=split, against=against, near=near, progress=progress)
    print(json_text(found) if as_json else visible(render(preference_tables(found), markdown)), end="\n" * as_json)
