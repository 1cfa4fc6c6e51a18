"""`sacpo report` on the command line."""

from __future__ import annotations

from sacpo import api
from sacpo.cli.from_api import Call, command


@command(api.report, hidden=("answers",))
def report(call: Call) -> None:
    """Write the report of results.json: the page, the figures."""
    call.say(report=call())
