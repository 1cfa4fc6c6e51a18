"""What users write is read in one way: bounded, each key once, aliases as copies."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from sacpo.cli.options import parse_options
from sacpo.data.sources.files import read_file
from sacpo.errors import DataError, RecipeError, UserError
from sacpo.judging import load_rubric
from sacpo.judging.llm.single import panel_of
from sacpo.recipe import load_recipe, parse_recipe
from sacpo.recipe.safe import DEEPEST, json_value, yaml_value

LEVELS = 9
LISTS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(LEVELS)
)
"""9^10 texts, in ten lines."""
MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{i + 1}: &a{i + 1} {{<<: [{', '.join([f'*a{i}'] * 9)}]}}\n" for i in range(LEVELS)
)
LETTERS = f"x: &x {'a' * 100_000}\ny: [{', '.join(['*x'] * 100)}]\n"
REFUSED: dict[str, tuple[str, str]] = {
    "aliases-in-lists": (LISTS, "more than 20,000 values"),
    "aliases-in-merged-keys": (MERGES, "more than 20,000 values"),
    "aliases-of-long-texts": (LETTERS, "more than 20,000 values"),
    "alias-in-its-own-anchor": ("a: &a [*a]\n", "refers to itself"),
    "levels": ("a: " + "[" * 5000, "too deep"),
    "levels-through-aliases": ("a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30, "too deep"),
    "digits": ("a: " + "9" * 6000, "digits"),
    "more-than-64-bits": ("a: " + "9" * 30, "whole number beyond"),
    "key-twice": ("a: 1\na: 2\n", "given twice"),
    "no-key": ("? \n: 1\n", "key is not a name"),
    "null-key": ("null: 1\n", "key is not a name"),
    "true-as-a-key": ("yes: 1\n", "into quotes"),
    "set": ("a: !!set {b, c}\n", "tag:yaml.org,2002:set"),
    "half-a-surrogate-pair": ('a: "\\ud800"\n', "surrogate"),
}


@pytest.fixture(autouse=True)
def _soon() -> Any:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("name", REFUSED)
def test_a_recipe_a_panel_and_a_rubric_refuse_it_alike(name: str, tmp_path: Path) -> None:
    text, words = REFUSED[name]
    path = tmp_path / "x.yaml"
    path.write_text(text)
    for read in (load_recipe, panel_of, load_rubric):
        with pytest.raises(UserError) as caught:
            read(path)
        assert words in str(caught.value)
        assert "x.yaml" in str(caught.value.where)


@pytest.mark.parametrize("name", [name for name in REFUSED if "\n" not in REFUSED[name][0].rstrip("\n")])
def test_an_option_refuses_it(name: str) -> None:
    text, words = REFUSED[name]
    with pytest.raises(RecipeError, match=words):
        parse_options([f"x={text}"], "--training")
    with pytest.raises(RecipeError, match=words):
        parse_recipe({"name": "a"}, [f"base={text}"])


def test_an_alias_bomb_on_the_command_line() -> None:
    bomb = "[&a [x,x,x,x,x,x,x,x,x], " + ", ".join(
        f"&{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(9)
    )
    for where in ("--training", "--base"):
        with pytest.raises(RecipeError, match="more than 20,000 values"):
            parse_options([f"x={bomb}]"], where)


def test_an_option_given_twice_is_refused() -> None:
    assert parse_options(["a=1", "b=1e-3"], "--training") == {"a": 1, "b": 0.001}
    with pytest.raises(RecipeError, match="given twice"):
        parse_options(["a=1", "a=2"], "--training")


def test_an_alias_is_a_copy() -> None:
    found = yaml_value("a: &a {b: [1]}\nc: *a\nd: {<<: *a, e: 2}\n", "recipe", "x")
    assert found == {"a": {"b": [1]}, "c": {"b": [1]}, "d": {"b": [1], "e": 2}}
    found["a"]["b"].append(3)
    assert found["c"] == {"b": [1]}
    assert found["d"]["b"] == [1]


STEPS = """\
name: shared
base: {model: somewhere}
data: {p: {format: preference, path: p.jsonl}}
steps:
  - {name: one, criterion: h, from: sft, beta: 1, dataset: p, training: &t {learning_rate: 1e-4, max_steps: 3}}
  - {name: two, criterion: h, from: sft, beta: 1, dataset: p, training: *t}
  - {name: three, criterion: h, from: sft, beta: 1, dataset: p, training: {<<: *t, max_steps: 5}}
"""


def test_an_override_of_one_step_changes_no_other(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(STEPS)
    steps = load_recipe(path, ["steps.two.training.learning_rate=1"]).steps
    assert [step.training.learning_rate for step in steps] == [1e-4, 1.0, 1e-4]
    assert [step.training.max_steps for step in steps] == [3, 3, 5]


def test_an_override_does_not_change_the_callers_data() -> None:
    training = {"max_steps": 3}
    step = {"criterion": "h", "from": "sft", "beta": 1, "dataset": "p", "training": training}
    data = {
        "name": "shared",
        "base": {"model": "x"},
        "data": {"p": {"format": "preference", "path": "p.jsonl"}},
        "steps": [{**step, "name": "one"}, {**step, "name": "two"}],
    }
    steps = parse_recipe(data, ["steps.one.training.max_steps=7"]).steps
    assert [step.training.max_steps for step in steps] == [7, 3]
    assert training == {"max_steps": 3}
    with pytest.raises(RecipeError, match="names no item"):
        parse_recipe(data, [f"steps.{'9' * 6000}.beta=1"])


ROWS = {
    "levels": ('{"prompt": ' + "[" * 100_000, "too deep"),
    "closed-levels": ('{"prompt": ' + "[" * DEEPEST + "]" * DEEPEST + "}", "too deep"),
    "digits": ('{"prompt": ' + "9" * 6000 + "}", "digits"),
    "key-twice": ('{"prompt": "a", "x": {"b": 1, "b": 2}}', "'b' is given twice"),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("form", ["{}", "[{}]"])
def test_a_row_of_json_refuses_it_with_its_line(name: str, form: str, tmp_path: Path) -> None:
    text, words = ROWS[name]
    path = tmp_path / ("x.jsonl" if form == "{}" else "x.json")
    path.write_text("\n" + form.replace("{}", text))
    with pytest.raises(DataError, match=words) as caught:
        list(read_file(path, "x"))
    assert caught.value.where == f"{path}, line 2"


def test_json_as_deep_as_allowed_is_read() -> None:
    text = "[" * DEEPEST + "1" + "]" * DEEPEST
    assert json_value(text) == json.loads(text)


@pytest.mark.parametrize("read", [load_recipe, panel_of])
def test_what_never_ends_is_not_waited_for(read: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in ("/dev/zero", tmp_path / "pipe.yaml"):
        with pytest.raises(RecipeError, match="read to its end") as caught:
            read(path)
        assert str(caught.value.where) == str(path)


def test_a_file_larger_than_any_recipe_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# " + "x" * 300_000)
    with pytest.raises(RecipeError, match="too large"):
        load_recipe(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"name": "a", "name": "b"}', '{"seed": ' + "9" * 6000 + "}"])
def test_results_that_are_no_json_are_refused(text: str, tmp_path: Path) -> None:
    from sacpo import api

    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataError, match="not JSON"):
        api.report(tmp_path / "results.json", tmp_path / "out")
