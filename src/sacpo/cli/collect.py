"""`sacpo collect` on the command line."""

from __future__ import annotations

from sacpo import api
from sacpo.cli.from_api import Call, command


@command(api.collect)
def collect(call: Call) -> None:
    """Make preference data: sample pairs of answers to prompts, and label them for helpfulness and safety."""
    call.say(data=call())
