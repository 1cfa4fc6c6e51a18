"""Options of the command line that are NAME=VALUE pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from sacpo.errors import RecipeError
from sacpo.recipe.load import read_yaml


def parse_options(items: Sequence[str] | None, where: str) -> dict[str, Any]:
    """Return NAME=VALUE options as a mapping, values as YAML reads them.

    Args:
        items: The options; None: there are none.
        where: The option that they were given with, for messages.

    Raises:
        RecipeError: One is no NAME=VALUE, or its value is not valid YAML.
    """
    found: dict[str, Any] = {}
    for item in items or ():
        name, sign, text = item.partition("=")
        if not sign:
            raise RecipeError("an option is NAME=VALUE", where=where, value=item, do="write NAME=VALUE without spaces")
        try:
            found[name] = read_yaml(text)
        except yaml.YAMLError as error:
            raise RecipeError(
                "an option's value is not valid YAML", where=where, value=item, do="put the value into quotes"
            ) from error
    return found
