"""`sacpo collect` on the command line."""

from __future__ import annotations

from sacpo import api
from sacpo.cli.from_api import Call, command
from sacpo.cli.next_steps import after_data, after_pairs
from sacpo.system.visible import visible


@command(api.collect)
def collect(call: Call) -> None:
    """Make preference data: sample pairs of answers to prompts, and label them for helpfulness and safety."""
    made = call()
    if call.options["judges"] is None:
        call.say(pairs=made)
        said = after_pairs(made)
    else:
        call.say(data=made)
        said = after_data(made, str(call.options["model"]))
    if not call.as_json:
        print(visible(said), end="")
