"""`sacpo merge` on the command line."""

from __future__ import annotations

from sacpo import api
from sacpo.cli.from_api import Call, command


@command(api.merge, names={"base": "--from"})
def merge(call: Call) -> None:
    """Merge two models at one or several weights q (P-SACPO), in one pass over their files."""
    call.say(models=call())
