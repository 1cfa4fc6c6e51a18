"""`sacpo redteam` on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from sacpo import api
from sacpo.cli.data import Files, Format, Markdown, Near, Split
from sacpo.cli.from_api import Call, command
from sacpo.cli.options import Json
from sacpo.system.visible import json_text, visible

redteam = typer.Typer(no_args_is_help=True, help="Make adversarial prompts, and see what a set of them can detect.")


@redteam.command()
@command(api.make_redteam, {"categories": "--category"})
def make(call: Call) -> None:
    """Make adversarial prompts of 14 categories, each with a harmless twin of the same wording."""
    call.say(prompts=call())


@redteam.command()
def audit(
    files: Files,
    format: Format = None,
    split: Split = None,
    near: Near = 0.8,
    encoder: Annotated[
        str | None, typer.Option(help="A sentence encoder that tells how different meanings are.")
    ] = None,
    markdown: Markdown = False,
    as_json: Json = False,
) -> None:
    """Audit prompt sets: categories, near-duplicates, diversity, what they cannot detect. No text is shown."""
    from sacpo.audit import audit_prompts
    from sacpo.audit.tables import prompt_tables, render

    found = audit_prompts(files, format=format, split=split, near=near, encoder=encoder)
    print(json_text(found) if as_json else visible(render(prompt_tables(found), markdown)), end="\n" * as_json)
