"""Loading a recipe: YAML, environment variables, `--set` overrides, and checks across sections with clear errors."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sacpo.errors import RecipeError
from sacpo.recipe.checks import check_references, placed
from sacpo.recipe.explain import did_you_mean, explain
from sacpo.recipe.schema import Recipe

DEEPEST = 50
"""A recipe nests about five levels; deeper means a YAML alias inside its own anchor."""
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number and a date as text, and refuses a key given twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - yaml's own attribute
        first: [item for item in items if item[0] != "tag:yaml.org,2002:timestamp"]
        for first, items in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *anchor`: keys beside it may repeat the anchor's
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(text: str) -> Any:
    """Return what a YAML text holds; numbers may be written as 1e-4.

    Raises:
        yaml.YAMLError: It is no valid YAML, or holds a value that cannot be read.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except ValueError as error:  # such as a number of thousands of digits
        raise yaml.YAMLError(str(error)) from error
    except RecursionError as error:
        raise yaml.YAMLError("lists or mappings are nested too deep") from error


def recipe_schema() -> dict[str, Any]:
    """Return the recipe's JSON schema, for editors."""
    return Recipe.model_json_schema(by_alias=True)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, apply `key.path=value` overrides and check it.

    Raises:
        RecipeError: The file is missing or not YAML, or the recipe is not valid.
    """
    path = Path(path)
    try:
        data = read_yaml(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RecipeError("no such recipe file", where=path, do="give the path of a YAML file") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RecipeError(
            f"the recipe file cannot be read: {reason}", where=path, do="give the path of a YAML file that you may read"
        ) from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            "the recipe file is not text", where=path, value=error.object[:16], do="give a YAML file in UTF-8"
        ) from error
    except yaml.YAMLError as error:
        raise RecipeError(
            "the recipe is not valid YAML",
            where=_yaml_place(path, error),
            value=_problem(error),
            do="correct this line, or what stands just before it",
        ) from error
    return parse_recipe(data, overrides, source=str(path))


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
    for override in overrides:
        _override(data, override)
    data = _expand(data, source, ())
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise explain(error, data, source, Recipe) from error
    try:
        check_references(recipe)
    except RecipeError as error:
        raise placed(error, source) from error.__cause__
    return recipe


def _override(data: dict[str, Any], override: str) -> None:
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise RecipeError(
            "an override is KEY.PATH=VALUE", where="--set", value=override, do="write it as in --set steps.H.beta=0.1"
        )
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(
            "an override's value is not valid YAML", where="--set", value=override, do="put the value into quotes"
        ) from error
    *parents, last = path.split(".")
    target: Any = data
    for part in parents:
        target = _item(target, part, override)
    if isinstance(target, list):
        target[_index(target, last, override)] = value
    else:
        target[last] = value


def _item(target: Any, part: str, override: str) -> Any:
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


def _index(items: list[Any], part: str, override: str) -> int:
    names = [str(item.get("name", i)) if isinstance(item, dict) else str(i) for i, item in enumerate(items)]
    if part in names:
        return names.index(part)
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    raise RecipeError(
        "an override names no item of this list",
        where="--set",
        value=override,
        allowed=names or "the list is empty",
        do=did_you_mean(part, names, "name an item, or its number from 0"),
    )


def _expand(value: Any, source: str, at: tuple[str, ...]) -> Any:
    if len(at) > DEEPEST:
        raise RecipeError(
            "a section refers to itself, or is nested too deep",
            where=f"{source}, {'.'.join(at[:4])}...",
            do="remove the YAML alias that stands inside its own anchor",
        )
    if isinstance(value, dict):
        return {key: _expand(item, source, (*at, str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, source, (*at, str(i))) for i, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise RecipeError(
                "an environment variable is not set",
                where=f"{source}, {'.'.join(at)}",
                value=match[0],
                do=f"export {match[1]}=..., then run again",
            )
        return os.environ[match[1]]

    expanded = VARIABLE.sub(replace, value)
    return str(Path(expanded).expanduser()) if expanded.startswith("~/") else expanded


def _yaml_place(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).splitlines()[0]
