"""`sacpo sft` on the command line."""

from __future__ import annotations

from sacpo import api
from sacpo.cli.from_api import Call, command


@command(api.sft)
def sft(call: Call) -> None:
    """Fine-tune a model on demonstrations."""
    call.say(model=call())
