"""Commands made of functions of `sacpo.api`: options, defaults and help are the function's, written once."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from sacpo.cli.options import Json, Quiet, parse_options, shown
from sacpo.recipe.safe import yaml_option

PAIRS = "NAME=VALUE"
GIVEN_BY_NAME = {"data", "out", "prompts"}
"""Parameters by position that are options of the command line; the others without a default are its arguments."""


@dataclass(frozen=True)
class Call:
    """One call of a function of the api, as the command line asks for it.

    Attributes:
        function: The function.
        options: What it is given.
        as_json: Whether the result is shown as JSON.
        quiet: Whether no progress is shown; None: the function tells none.
    """

    function: Callable[..., Any]
    options: Mapping[str, Any]
    as_json: bool
    quiet: bool | None

    def said(self, *names: str) -> list[str]:
        """Return which of these options say something else than their defaults."""
        defaults = inspect.signature(self.function).parameters
        return [name for name in names if self.options[name] not in (None, [], defaults[name].default)]

    def __call__(self, **changed: object) -> Any:
        """Do it, with options changed."""
        options = {**self.options, **changed}
        if self.quiet is None:
            return self.function(**options)
        with shown(self.as_json, self.quiet) as progress:
            return self.function(**options, progress=progress)

    def say(self, **found: object) -> None:
        """Print what was written, by name."""
        if self.as_json:
            print(json.dumps({"event": "done", **found}, default=str))
            return
        for name, value in found.items():
            for path in value if isinstance(value, list) else [value]:
                print(f"{name.removesuffix('s') if isinstance(value, list) else name}: {path}")


def command(
    function: Callable[..., Any],
    names: Mapping[str, str] | None = None,
    hidden: Sequence[str] = (),
    panels: Mapping[str, Sequence[str]] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that makes a command of `verb(call, ...)`; its own options stand for those of their name.

    Args:
        function: A function of the api.
        names: Options that the command line calls otherwise than `--the-parameter`.
        hidden: Parameters that the command line does not give; "as_json": nothing is shown as JSON.
        panels: Parameters that the help shows apart, by the panel's title; their words "kind NAME:" are left out.
    """
    hints, helps = get_type_hints(function), explained(function)
    titles = {name: title for title, members in (panels or {}).items() for name in members}
    for name in titles:
        text = re.sub(r'^kind "[\w-]+": ', "", helps[name])
        helps[name] = text[:1].upper() + text[1:]
    every = inspect.signature(function).parameters
    taken = {name: parameter for name, parameter in every.items() if name not in {"progress", *hidden}}
    flags = {name: _flag(name, parameter.default) for name, parameter in taken.items()} | dict(names or {})

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(verb, eval_str=True)
        own = [_parameter(one.name, one.annotation, one.default) for one in [*signature.parameters.values()][1:]]

        def made(**given: Any) -> None:
            switches = given.pop("as_json", False), given.pop("quiet", None)
            extra = {one.name: given.pop(one.name) for one in own}
            options = {name: _read(hints[name], value, flags[name]) for name, value in given.items()}
            verb(Call(function, options, *switches), **extra)

        left = [name for name in taken if name not in signature.parameters]
        of_api = [_option(taken[name], hints[name], helps[name], flags[name], titles.get(name)) for name in left]
        shared = {"quiet": Quiet, "as_json": Json} if "progress" in every else {"as_json": Json}
        switches = [_parameter(name, kind, False) for name, kind in shared.items() if name not in hidden]
        made.__signature__ = inspect.Signature([*of_api, *own, *switches])  # type: ignore[attr-defined]
        made.__annotations__ = {}
        made.__name__, made.__doc__ = verb.__name__, verb.__doc__
        return made

    return decorate


def explained(function: Callable[..., Any]) -> dict[str, str]:
    """Return what the section "Args" of a docstring says, by parameter."""
    text = inspect.getdoc(function) or ""
    section = re.search(r"^(?:Args|Attributes):\n(.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    found = re.findall(r"^    (\w+): (.*?)(?=\n    \w|\Z)", section[1] if section else "", re.MULTILINE | re.DOTALL)
    return {name: " ".join(said.replace("`", "").split()) for name, said in found}


def _flag(name: str, default: object) -> str:
    words = name.replace("_", "-")
    return f"--{words}/--no-{words}" if default is True else f"--{words}"


def _option(parameter: inspect.Parameter, hint: object, said: str, flag: str, panel: str | None) -> inspect.Parameter:
    """Return a parameter of the command line for one of the api."""
    kinds, needed = _kinds(hint), parameter.default is inspect.Parameter.empty
    kind: Any = str
    metavar = None
    if Literal in kinds:
        metavar = "|".join(str(value) for value in _choices(hint))
    elif Mapping in kinds and str not in kinds:
        kind, metavar = list[str], PAIRS
    elif Sequence in kinds:
        kind = list[float] if float in kinds else list[Path] if Path in kinds else list[str]
    else:
        kind = next((one for one in (bool, int, float, Path) if one in kinds and str not in kinds), str)
    more: dict[str, Any] = {
        "help": re.sub(r"(?<!\.)\.$", "", said) + "; repeatable." if get_origin(kind) is list else said
    }
    more |= {"metavar": metavar} if metavar is not None else {}
    more |= {"rich_help_panel": panel} if panel is not None else {}
    by_place = parameter.kind is not inspect.Parameter.KEYWORD_ONLY and parameter.name not in GIVEN_BY_NAME
    if needed and by_place:
        return _parameter(parameter.name, Annotated[kind, typer.Argument(**more, show_default=False)])
    optional = parameter.default is None
    info = typer.Option(flag, **more, show_default=not needed)
    return _parameter(parameter.name, Annotated[kind | None if optional else kind, info], parameter.default)


def _parameter(name: str, annotation: object, default: object = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _read(hint: Any, value: Any, flag: str) -> Any:
    """Return an option as the api takes it."""
    kinds = _kinds(hint)
    if Mapping in kinds and str not in kinds:
        return parse_options(value, flag) if value else None
    if Literal in kinds and float in kinds:
        return yaml_option(str(value), flag, str(value))
    return value


def _kinds(hint: object) -> set[Any]:
    """Return the types that a type hint joins, without their arguments."""
    if get_origin(hint) in (Mapping, Sequence, Literal):
        return {get_origin(hint)} | (set(get_args(hint)) & {float, Path})
    parts = get_args(hint)
    return {hint} if not parts else set().union(*(_kinds(part) for part in parts))


def _choices(hint: object) -> list[Any]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [choice for part in get_args(hint) for choice in ([] if part is type(None) else _choices(part))] or (
        ["NUMBER"] if hint is float else []
    )
