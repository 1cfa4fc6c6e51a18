"""`sacpo export` on the command line."""

from __future__ import annotations

from sacpo import api
from sacpo.cli.from_api import Call, command


@command(api.export)
def export(call: Call) -> None:
    """Write a base with LoRA adapters as merged weights, or as one adapter of concatenated rank."""
    call.say(model=call())
