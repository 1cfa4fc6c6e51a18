"""`sacpo sft` on the command line."""

from __future__ import annotations

from sacpo import api
from sacpo.cli.closing import closing_line, training_outcome
from sacpo.cli.from_api import Call, command


@command(api.sft)
def sft(call: Call) -> None:
    """Fine-tune a model on demonstrations."""
    done = call()
    found = training_outcome(done.parent, preferences=False)
    call.say(model=done, **({"training": found} if call.as_json else {}))
    if not call.as_json:
        print(closing_line(found))
