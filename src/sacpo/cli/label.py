"""`sacpo label` on the command line."""

from __future__ import annotations

import json

from sacpo import api
from sacpo.cli.from_api import Call, command


@command(api.label)
def label(call: Call) -> None:
    """Label answers by hand on a local page, blind and in random order."""
    done = call()
    said = f"{done['done']} of {done['total']} labelled in {done['store']}"
    print(json.dumps(done, default=str) if call.as_json else said)
