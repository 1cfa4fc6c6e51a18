"""From what pydantic says of a recipe to one message: what, where in the user's keys, value, allowed, to do."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sacpo.errors import RecipeError
from sacpo.plain import JsonMapping

NUMBERS = {
    "greater_than": ("gt", "a number above"),
    "greater_than_equal": ("ge", "a number of at least"),
    "less_than": ("lt", "a number below"),
    "less_than_equal": ("le", "a number of at most"),
}
KINDS = {
    "string": "a text",
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "dict": "a mapping, KEY: VALUE",
    "model": "a mapping, KEY: VALUE",
    "list": "a list",
    "tuple": "a list",
}
UNKNOWN = ("extra_forbidden", "invalid_key")
NAME_RULE = "letters, digits, '.', '_' and '-', beginning with a letter or a digit"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
NAMED = re.compile(r"(steps|merge)\.(\d+)\b")
"""A place in the two lists of a recipe whose items have names."""
QUOTED = re.compile(r"'([a-z_]+)(?:: [^']*)?'")
Location = tuple[int | str, ...]
Section = TypeVar("Section", bound=BaseModel)


def did_you_mean(name: object, allowed: Collection[str], otherwise: str) -> str:
    """Return advice that names the nearest of the allowed names, or `otherwise` where none is near."""
    nearest = difflib.get_close_matches(str(name), sorted(allowed), 1, 0.5)
    return f"did you mean '{nearest[0]}'?" if nearest else otherwise


def known(what: str, name: str, allowed: Collection[str], where: str) -> None:
    """Refuse a name that stands for nothing.

    Raises:
        RecipeError: It does; the message lists those that do, and the likeliest.
    """
    if name not in allowed:
        raise RecipeError(
            f"unknown {what}",
            where=where,
            value=name,
            allowed=list(allowed) or "none is defined",
            do=did_you_mean(name, allowed, f"define the {what} or name another"),
        )


def checked(section: type[Section], given: JsonMapping | None = None, /, **values: object) -> Section:
    """Return a section of a recipe that was given as arguments.

    Args:
        section: The section.
        given: What the user gave as NAME=VALUE options.
        values: What is said in another way.

    Raises:
        RecipeError: A value is not valid, or said in both ways.
    """
    for name in given or {}:
        if name in values:
            raise RecipeError(f"'{name}' is said in another way here", where=name, do="leave this option out")
    values |= given or {}
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise explain(error, values, "", section) from error


def with_name(where: str, recipe: object) -> str:
    """Return a place in a recipe, such as `steps.3.beta`, with the name of its step or merge behind it.

    Args:
        where: The place.
        recipe: The recipe, or what it was to be made of.
    """
    found = NAMED.match(where)
    items = _part(recipe, found[1]) if found else None
    if found is None or not isinstance(items, list | tuple) or int(found[2]) >= len(items):
        return where
    name = _part(items[int(found[2])], "name")
    return f"{where} ({name})" if isinstance(name, str) and NAME.fullmatch(name) else where


def _part(whole: object, key: str) -> object:
    return whole.get(key) if isinstance(whole, dict) else getattr(whole, key, None)


def explain(error: ValidationError, data: object, source: str, section: type[BaseModel]) -> RecipeError:
    """Return the message about the first problem: an unknown key before anything else.

    Args:
        error: What pydantic found; a value of several possible kinds has one entry for each of them.
        data: What was checked.
        source: The file, for the message.
        section: What the data should have been.
    """
    groups = _problems(error, data)
    first = next((group for group in groups if group[0]["type"] in UNKNOWN), groups[0])
    worst = max(first, key=lambda entry: (len(_place(entry, data)), not entry["type"].endswith("_type")))
    place = _place(worst, data)
    named = with_name(".".join(map(str, place)), data)
    where = f"{source}, {named}" if place and source else source or named or None
    more = f" ({len(groups)} problems in all)" if len(groups) > 1 else ""
    if worst["type"] in UNKNOWN:
        fields = _fields_at(section, place[:-1])
        advice = did_you_mean(place[-1], fields, "remove it or correct it")
        return RecipeError(f"unknown key '{place[-1]}'", where=where, allowed=fields, do=advice + more)
    if worst["type"] == "missing":
        return RecipeError(f"the key '{place[-1]}' is missing", where=where, do=f"add '{place[-1]}'" + more)
    alike = [entry for entry in first if _place(entry, data) == place]
    last = place[-1] if place and isinstance(place[-1], str) else ".".join(map(str, place))  # a number says nothing
    return _about_a_value(worst, alike, where, f"correct '{last}'{more}" if place else f"correct it{more}")


def _about_a_value(worst: JsonMapping, alike: Sequence[JsonMapping], where: str | None, do: str) -> RecipeError:
    """Return the message about a value; `alike` are the entries about the same value."""
    given = worst["input"]
    if worst["type"] == "value_error":
        message = worst["msg"].removeprefix("Value error, ")
        return RecipeError(message, where=where, value=_concerned(given, message), do=do)
    if worst["type"] == "literal_error":
        choices = _choices(worst)
        advice = did_you_mean(given, choices, do)
        return RecipeError("no such choice", where=where, value=given, allowed=choices, do=advice)
    allowed = list(dict.fromkeys(filter(None, map(_allowed, alike))))
    if not allowed:
        message = worst["msg"][:1].lower() + worst["msg"][1:]
        return RecipeError(message, where=where, value=given, do=do)
    kinds = [entry["type"] for entry in alike]
    if given is None:
        return RecipeError("a key has no value", where=where, allowed=", or ".join(allowed), do=do)
    what = "a value is outside its range" if any(kind in (*NUMBERS, "finite_number") for kind in kinds) else None
    what = what or ("a name is not valid" if "string_pattern_mismatch" in kinds else "a value is of the wrong kind")
    return RecipeError(what, where=where, value=given, allowed=", or ".join(allowed), do=do)


def _concerned(given: object, message: str) -> object:
    """Return the value that a message is about; of a section the numbers under the keys that it quotes.

    Texts of a section are left out: they may hold what environment variables hold.
    """
    if isinstance(given, str | int | float):
        return given
    if not isinstance(given, dict):
        return None
    if given and all(isinstance(value, int | float) for value in given.values()):
        return given
    return {key: given[key] for key in QUOTED.findall(message) if key in given and _numbers(given[key])} or None


def _numbers(value: object) -> bool:
    """Tell whether a value is a number, or several."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
    return all(isinstance(one, int | float) for one in inside)


def _allowed(entry: JsonMapping) -> str:
    """Return what would have been allowed in place of a value, "" where pydantic's own message must do."""
    kind, context = entry["type"], entry.get("ctx", {})
    if kind in NUMBERS:
        name, words = NUMBERS[kind]
        return f"{words} {context[name]:g}"
    if kind == "finite_number":
        return "a finite number"
    if kind == "string_pattern_mismatch":
        return NAME_RULE
    if kind == "string_too_long":
        return f"a text of at most {context['max_length']} letters"
    if kind == "too_short":
        return f"a list of at least {context['min_length']}"
    return KINDS.get(kind.split("_")[0], "") if kind.endswith(("_type", "_parsing", "_from_float")) else ""


def _choices(entry: JsonMapping) -> list[str]:
    expected = str(entry["ctx"]["expected"])
    return re.findall(r"'([^']*)'", expected) or re.split(r", | or ", expected)


def _problems(error: ValidationError, data: object) -> list[list[Any]]:
    """Group pydantic's entries: those about one place, or about what is inside it, are one problem."""
    groups: list[list[Any]] = []
    for entry in error.errors():
        place = _place(entry, data)
        group = next(
            (g for g in groups if _inside(place, _place(g[0], data)) or _inside(_place(g[0], data), place)), None
        )
        if group is None or {entry["type"], group[0]["type"]} & {*UNKNOWN, "missing"}:
            groups.append([entry])
        else:
            group.append(entry)
    return groups


def _inside(place: Location, outer: Location) -> bool:
    return place[: len(outer)] == outer


def _place(entry: JsonMapping, data: object) -> Location:
    """Return the user's keys of a pydantic location, whose other parts name members of unions."""
    kept: list[int | str] = []
    here = data
    for position, part in enumerate(entry["loc"]):
        if (isinstance(here, dict) and part in here) or (
            isinstance(here, list | tuple) and isinstance(part, int) and part < len(here)
        ):
            here = here[part]
        elif entry["type"] != "missing" or position < len(entry["loc"]) - 1:
            continue
        kept.append(part)
    return tuple(kept)


def _fields_at(section: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    for part in place:
        field = next((f for n, f in section.model_fields.items() if part in (n, f.alias)), None)
        inner = [] if field is None else list(_sections(field.annotation))
        section = inner[0] if inner else section
    return [field.alias or name for name, field in section.model_fields.items()]


def _sections(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _sections(argument)
