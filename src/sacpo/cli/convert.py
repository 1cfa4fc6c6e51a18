"""`sacpo convert` on the command line."""

from __future__ import annotations

from sacpo import api
from sacpo.cli.from_api import Call, command


@command(api.convert)
def convert(call: Call) -> None:
    """Write answers or verdicts in the form of another tool."""
    call.say(file=call())
