"""Commands made of functions of the api: options, defaults and help are the function's."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from sacpo import api
from sacpo.cli import app
from sacpo.cli.from_api import Call, command, explained
from sacpo.errors import RecipeError
from sacpo.system.progress import Progress

MADE = ("sft", "align", "merge", "export", "generate", "report", "push", "convert")
OTHERWISE = {("merge", "base"): "--from", ("report", "answers"): None}
given: dict[str, Any] = {}


def bake(
    flour: str | Path,
    out: str | Path,
    *,
    eggs: int | Sequence[int] = (),
    heat: float | Literal["low"] = 1.5,
    kind: Literal["cake", "bread"] = "cake",
    sweet: bool = True,
    extras: Mapping[str, Any] | None = None,
    oven_name: str | None = None,
    progress: Progress,
) -> list[Path]:
    """Bake.

    Args:
        flour: What it is
            made of.
        out: Where it goes.
        eggs: How many.
        heat: How hot.
        kind: What it is.
        sweet: With sugar.
        extras: More `things`.
        oven_name: Which.
        progress: Where to show it.
    """
    given.clear()
    given.update({name: value for name, value in locals().items() if name != "progress"})
    return [Path(out)]


@command(bake, names={"oven_name": "--in"}, hidden=("eggs",))
def made(call: Call, slices: Annotated[int, typer.Option(help="Cut it.")] = 1) -> None:
    """Bake on the command line."""
    call.say(cakes=call(flour=call.options["flour"] * slices))


def kitchen() -> typer.Typer:
    one = typer.Typer()
    one.command()(made)
    return one


def baked(*words: str) -> str:
    done = CliRunner().invoke(kitchen(), words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_defaults_are_those_of_the_function() -> None:
    assert baked("rye", "--out", "o") == "cake: o\n"
    assert given == {
        **{"flour": "rye", "out": "o", "eggs": (), "heat": 1.5, "kind": "cake", "sweet": True},
        **{"extras": None, "oven_name": None},
    }


def test_options_are_read_as_the_function_takes_them() -> None:
    words = ["--heat", "low", "--kind", "pie", "--no-sweet", "--extras", "nuts=3", "--extras", "jam=true", "--in", "x"]
    assert json.loads(baked("rye", "--out", "o", *words, "--slices", "2", "--json")) == {
        "event": "done",
        "cakes": ["o"],
    }
    assert given["flour"] == "ryerye"
    assert given["heat"] == "low" and given["kind"] == "pie" and given["sweet"] is False
    assert given["extras"] == {"nuts": 3, "jam": True} and given["oven_name"] == "x"
    baked("rye", "--out", "o", "--heat", "2")
    assert given["heat"] == 2
    with pytest.raises(RecipeError, match="NAME=VALUE"):
        baked("rye", "--out", "o", "--extras", "nuts")


def test_help_is_that_of_the_function() -> None:
    assert explained(bake)["flour"] == "What it is made of."
    assert explained(bake)["extras"] == "More things."
    options = {one.name: one for one in typer.main.get_command(kitchen()).params}
    assert options["kind"].metavar == "cake|bread"  # type: ignore[attr-defined]
    assert options["heat"].metavar == "NUMBER|low"  # type: ignore[attr-defined]
    assert options["extras"].help == "More things; repeatable."  # type: ignore[attr-defined]
    assert "eggs" not in options


@pytest.mark.parametrize("verb", MADE)
def test_every_parameter_of_the_api_is_on_the_command_line(verb: str) -> None:
    group: Any = typer.main.get_command(app)
    options = {one.name: one for one in group.commands[verb].params}
    for name, parameter in inspect.signature(getattr(api, verb)).parameters.items():
        if name == "progress" or OTHERWISE.get((verb, name), "") is None:
            assert name not in options
            continue
        option, needed = options.pop(name), parameter.default is inspect.Parameter.empty
        assert option.required is needed, name
        assert needed or option.default == parameter.default, name
        assert option.help, name
    assert set(options) <= {"label", "quiet", "as_json", "help"}
