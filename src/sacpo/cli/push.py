"""`sacpo push` on the command line."""

from __future__ import annotations

import json

from sacpo import api
from sacpo.cli.from_api import Call, command
from sacpo.plain import JsonObject
from sacpo.system.visible import visible

SHOWN = 20
"""Files that stay which are named."""


@command(api.push, names={"benchmarks": "--benchmark"})
def push(call: Call) -> None:
    """Push a model with its card, or data, to the Hugging Face hub."""
    done, dry_run = call(), call.options["dry_run"]
    print(json.dumps({"event": "done", **done}) if call.as_json else visible(_text(done, dry_run)))


def _text(done: JsonObject, dry_run: bool) -> str:
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
