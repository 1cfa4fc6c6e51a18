"""`sacpo push` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sacpo.cli.options import Json
from sacpo.system.visible import visible

SHOWN = 20
"""Files that stay which are named."""


def push(
    model: Annotated[
        Path, typer.Argument(help="A run, whose chosen model is pushed, or a model's folder.", show_default=False)
    ],
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="The repository.", show_default=False)],
    public: Annotated[bool, typer.Option("--public", help="Everybody may see it; else nobody else may.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the files and the card; contact nobody.")] = False,
    data: Annotated[bool, typer.Option("--data", help="It is a folder of data.")] = False,
    license: Annotated[str | None, typer.Option("--license", help="The hub's identifier of the licence.")] = None,
    license_name: Annotated[str | None, typer.Option("--license-name", help="With --license other.")] = None,
    license_link: Annotated[str | None, typer.Option("--license-link", help="With --license other.")] = None,
    base: Annotated[str | None, typer.Option("--base", help="Hub id of the model that was trained.")] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", metavar="METRIC=USER/DATA:TASK", help="A figure that is a benchmark's result."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Push a model with its card, or data, to the Hugging Face hub."""
    from sacpo import api

    done = api.push(
        model,
        repository,
        public=public,
        dry_run=dry_run,
        data=data,
        license=license,
        license_name=license_name,
        license_link=license_link,
        base=base,
        benchmarks=benchmark or (),
    )
    print(json.dumps({"event": "done", **done}) if as_json else visible(_text(done, dry_run)))


def _text(done: dict[str, Any], dry_run: bool) -> str:
    kind = f"{'private' if done['private'] else 'public'} {done['kind']} {done['repository']}"
    lines = [f"{'would push' if dry_run else 'pushed'} {len(done['files'])} files to the {kind}"]
    if dry_run:
        lines += [f"  {size:>14,}  {name}" for name, size in done["files"].items()]
    if left := done["left"]:
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        lines.append(f"stays here: {', '.join(left[:SHOWN])}{more}")
    lines += [f"note: {said}" for said in done["said"]]
    lines += ["README.md:", "", done["card"].rstrip()] if dry_run else [f"address: {done['address']}"]
    return "\n".join(lines)
