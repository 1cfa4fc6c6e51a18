"""`sacpo align` on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from sacpo import api
from sacpo.cli.closing import closing_line, training_outcome
from sacpo.cli.from_api import Call, command
from sacpo.errors import RecipeError
from sacpo.recipe.schema import DataSpec


@command(api.align)
def align(call: Call, label: Annotated[str | None, typer.Option(help="PKU-SafeRLHF: better or safer.")] = None) -> None:
    """Train one alignment step; MODEL is where it starts and its reference."""
    done = call(data=_labelled(call.options["data"], call.options["format"], label))
    found = training_outcome(done.parent)
    call.say(model=done, **({"training": found} if call.as_json else {}))
    if not call.as_json:
        print(closing_line(found))


def _labelled(data: Sequence[str], format: str, label: str | None) -> Sequence[str | DataSpec]:
    if label is None:
        return data
    if label not in ("better", "safer"):
        raise RecipeError(
            "no such label", where="--label", value=label, allowed=["better", "safer"], do="choose one of these"
        )
    return [DataSpec(format=format, path=str(path), label=label) for path in data]
