"""`sacpo generate` on the command line."""

from __future__ import annotations

from sacpo import api
from sacpo.cli.from_api import Call, command


@command(api.generate)
def generate(call: Call) -> None:
    """Answer prompts with a model."""
    call.say(answers=call())
