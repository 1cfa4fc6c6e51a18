"""Loading a recipe: YAML, environment variables, `--set` overrides, and checks across sections with clear errors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sacpo.errors import RecipeError
from sacpo.plain import JsonObject
from sacpo.recipe.auto import check_auto
from sacpo.recipe.certify_checks import check_certify
from sacpo.recipe.checks import check_references, placed
from sacpo.recipe.explain import did_you_mean, explain
from sacpo.recipe.factors import check_factors
from sacpo.recipe.published import Place, Written
from sacpo.recipe.safe import DEEPEST, yaml_file, yaml_option
from sacpo.recipe.schema import Recipe

DEMO = Path(__file__).with_name("demo.yaml")
"""The demo, which the package carries."""
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def recipe_schema() -> JsonObject:
    """Return the recipe's JSON schema, for editors."""
    return Recipe.model_json_schema(by_alias=True)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, apply `key.path=value` overrides and check it.

    Raises:
        RecipeError: The file is missing or not YAML, or the recipe is not valid.
    """
    return parse_recipe(yaml_file(Path(path), "recipe"), overrides, source=str(path))


def parse_recipe(data: Any, overrides: Sequence[str] = (), *, source: str = "recipe") -> Recipe:
    """Check a recipe given as plain Python data; errors as in `load_recipe`."""
    if not isinstance(data, dict):
        raise RecipeError(
            "a recipe is a mapping of sections",
            where=source,
            value="nothing" if data is None else data,
            allowed=[*Recipe.model_fields],
            do="write 'KEY: VALUE' lines; 'sacpo schema' prints what may stand in them",
        )
    data = _changed(data, source, lambda leaf, at: leaf)  # the caller's own stays as it is
    for override in overrides:
        _override(data, override)
    written = Written()
    data = _changed(data, source, partial(_expanded, source, written))
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise explain(error, data, source, Recipe) from error
    try:
        check_references(recipe)
        check_certify(recipe)
        check_auto(recipe)
        check_factors(recipe)
    except RecipeError as error:
        raise placed(error, source, recipe) from error.__cause__
    recipe.note(written)
    return recipe


def _override(data: JsonObject, override: str) -> None:
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise RecipeError(
            "an override is KEY.PATH=VALUE", where="--set", value=override, do="write it as in --set steps.H.beta=0.1"
        )
    value = yaml_option(text, "--set", override)
    *parents, last = path.split(".")
    target: Any = data
    for part in parents:
        target = _item(target, part, override)
    if isinstance(target, list):
        target[_index(target, last, override)] = value
    else:
        target[last] = value


def _item(target: Any, part: str, override: str) -> object:
    if not isinstance(target, list) and target.get(part) is None:
        target[part] = {}
    inner = target[_index(target, part, override) if isinstance(target, list) else part]
    if not isinstance(inner, dict | list):
        raise RecipeError(
            "an override leads through a plain value",
            where="--set",
            value=override,
            do=f"'{part}' holds {inner!r}: end the path there",
        )
    return inner


def _index(items: list[object], part: str, override: str) -> int:
    names = [str(item.get("name", i)) if isinstance(item, dict) else str(i) for i, item in enumerate(items)]
    if part in names:
        return names.index(part)
    numbers = [str(i) for i in range(len(items))]
    if part in numbers:
        return numbers.index(part)
    raise RecipeError(
        "an override names no item of this list",
        where="--set",
        value=override,
        allowed=names or "the list is empty",
        do=did_you_mean(part, names, "name an item, or its number from 0"),
    )


def _changed(value: object, source: str, leaf: Callable[[object, Place], object], at: Place = ()) -> object:
    """Return a copy with other leaves. No two parts of it are one object: an override changes one place only."""
    if len(at) > DEEPEST:
        raise RecipeError(
            "a section refers to itself, or is nested too deep",
            where=f"{source}, {'.'.join(map(str, at[:4]))}...",
            do="write out what stands inside itself",
        )
    if isinstance(value, dict):
        return {key: _changed(item, source, leaf, (*at, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(item, source, leaf, (*at, i)) for i, item in enumerate(value)]
    return leaf(value, at)


def _expanded(source: str, written: Written, value: object, at: Place) -> object:
    """Return a text with the values of the environment variables that it names."""
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise RecipeError(
                "an environment variable is not set",
                where=f"{source}, {'.'.join(map(str, at))}",
                value=match[0],
                do=f"export {match[1]}=..., then run again",
            )
        variables[match[1]] = os.environ[match[1]]
        return variables[match[1]]

    variables: dict[str, str] = {}
    expanded = VARIABLE.sub(replace, value)
    expanded = str(Path(expanded).expanduser()) if expanded.startswith("~/") else expanded
    if variables:
        written.note(at, value, expanded, variables)
    return expanded
