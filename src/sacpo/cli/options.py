"""Options that commands share: NAME=VALUE pairs, bounds, and how progress is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sacpo.errors import RecipeError
from sacpo.plain import JsonObject
from sacpo.recipe.safe import yaml_option

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one event or result a line.")]
AtMost = Annotated[list[str] | None, typer.Option(metavar="METRIC=BOUND", help="Such as unsafe_rate=0.05.")]
AtLeast = Annotated[list[str] | None, typer.Option(metavar="METRIC=BOUND", help="Such as win_rate/x=0.5.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress: notices and the result only.")]


def parse_options(items: Sequence[str] | None, where: str) -> JsonObject:
    """Return NAME=VALUE options as a mapping, values as YAML reads them.

    Args:
        items: The options; None: there are none.
        where: The option that they were given with, for messages.

    Raises:
        RecipeError: One is no NAME=VALUE or stands twice, or its value is not valid YAML.
    """
    found: JsonObject = {}
    for item in items or ():
        name, sign, text = item.partition("=")
        if not sign:
            raise RecipeError("an option is NAME=VALUE", where=where, value=item, do="write NAME=VALUE without spaces")
        if name in found:
            raise RecipeError("an option is given twice", where=where, value=item, do="leave one of them out")
        found[name] = yaml_option(text, where, item)
    return found


def bound_option(text: str, side: str) -> JsonObject:
    """Return METRIC=NUMBER or METRIC/CRITERION=NUMBER as a constraint without prompts.

    Raises:
        RecipeError: It is not of this form.
    """
    key, _, value = text.partition("=")
    try:
        bound = float(value)
    except ValueError:
        raise RecipeError(
            "a bound is METRIC=NUMBER",
            where=f"--{side.replace('_', '-')}",
            value=text,
            do="write it as in --at-most unsafe_rate=0.05",
        ) from None
    metric, _, criterion = key.partition("/")
    return {"metric": metric, "criterion": criterion or None, side: bound}


def bound_options(at_most: Sequence[str] | None, at_least: Sequence[str] | None) -> list[JsonObject]:
    """Return the bounds of --at-most and --at-least as constraints without prompts; errors as of `bound_option`."""
    given = {"at_most": at_most, "at_least": at_least}
    return [bound_option(text, side) for side, texts in given.items() for text in texts or ()]


def shown(as_json: bool, quiet: bool) -> Any:
    """Return where progress is shown.

    Raises:
        RecipeError: Events and silence are both asked for.
    """
    from sacpo.system.progress import Progress

    if as_json and quiet:
        raise RecipeError(
            "--json tells of progress and --quiet does not", where="--quiet", do="leave one of the two out"
        )
    return Progress("json" if as_json else "quiet" if quiet else "auto")
