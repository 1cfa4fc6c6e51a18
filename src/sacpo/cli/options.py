"""Options of the command line that are NAME=VALUE pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sacpo.errors import RecipeError
from sacpo.recipe.safe import yaml_option


def parse_options(items: Sequence[str] | None, where: str) -> dict[str, Any]:
    """Return NAME=VALUE options as a mapping, values as YAML reads them.

    Args:
        items: The options; None: there are none.
        where: The option that they were given with, for messages.

    Raises:
        RecipeError: One is no NAME=VALUE or stands twice, or its value is not valid YAML.
    """
    found: dict[str, Any] = {}
    for item in items or ():
        name, sign, text = item.partition("=")
        if not sign:
            raise RecipeError("an option is NAME=VALUE", where=where, value=item, do="write NAME=VALUE without spaces")
        if name in found:
            raise RecipeError("an option is given twice", where=where, value=item, do="leave one of them out")
        found[name] = yaml_option(text, where, item)
    return found
