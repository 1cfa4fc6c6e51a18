"""Loading a recipe: YAML, environment variables, `--set` overrides, and checks across sections with clear errors."""

from __future__ import annotations

import difflib
import os
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sacpo.errors import RecipeError
from sacpo.recipe.models import model_graph
from sacpo.recipe.schema import Recipe, SampledSpec, Section

ORACLES = ("helpfulness", "harmlessness", "refusal")
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number and refuses a key given twice."""

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
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError as error:
        raise RecipeError("no such recipe file", where=path, do="give the path of a YAML file") from error
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe file cannot be read: {type(error).__name__}", where=path) from error
    except yaml.YAMLError as error:
        raise RecipeError(
            "the recipe is not valid YAML", where=_yaml_place(path, error), value=_problem(error)
        ) from error
    return parse_recipe(data, overrides, source=str(path))


def parse_recipe(data: Any, overrides: Sequence[str] = (), *, source: str = "recipe") -> Recipe:
    """Check a recipe given as plain Python data; errors as in `load_recipe`."""
    if not isinstance(data, dict):
        raise RecipeError("a recipe is a mapping of sections", where=source, value=data, allowed=[*Recipe.model_fields])
    for override in overrides:
        _override(data, override)
    data = _expand(data, source, ())
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise _explain(error, data, source) from error
    check_references(recipe)
    return recipe


def check_references(recipe: Recipe) -> None:
    """Check everything that one section says of another.

    Raises:
        RecipeError: A name is unknown, or something cannot be computed from what the recipe gives.
    """
    nodes = model_graph(recipe)
    for where, name in _dataset_references(recipe):
        _known("data source", name, recipe.data, where)
    for index, step in enumerate(recipe.steps):
        if isinstance(step.dataset, SampledSpec):
            _known("judge", step.dataset.judge, recipe.evaluate.judges, f"steps.{index}.dataset.judge")
            if recipe.evaluate.judges[step.dataset.judge].kind == "refusal":
                raise RecipeError(
                    "a refusal judge gives labels, not scores",
                    where=f"steps.{index}.dataset.judge",
                    value=step.dataset.judge,
                    do="name an oracle or a reward-model judge",
                )
    for criterion, judge in recipe.evaluate.judges.items():
        for name in judge.prompts or ():
            _known("prompt set", name, recipe.prompts, f"evaluate.judges.{criterion}.prompts")
        if judge.kind == "oracle" and criterion not in ORACLES:
            raise RecipeError(
                "the world's oracle knows no such criterion",
                where=f"evaluate.judges.{criterion}",
                value=criterion,
                allowed=list(ORACLES),
            )
        if judge.kind == "oracle" and recipe.world is None:
            raise RecipeError(
                "an oracle needs a world",
                where=f"evaluate.judges.{criterion}.kind",
                do="add a 'world' section, or choose another judge",
            )
    for name in (recipe.evaluate.baseline, *(recipe.evaluate.models or ())):
        _known("model", name, nodes, "evaluate")
    _check_world(recipe)
    _check_selection(recipe)


def _check_selection(recipe: Recipe) -> None:
    targets = [(f"constraints.{i}", c.metric, c.criterion, c.prompts) for i, c in enumerate(recipe.constraints)]
    if recipe.objective:
        targets.append(("objective", recipe.objective.metric, recipe.objective.criterion, recipe.objective.prompts))
    for where, metric, criterion, prompts in targets:
        _known("prompt set", prompts, recipe.prompts, f"{where}.prompts")
        role = recipe.prompts[prompts].role
        if role != "tuning":
            raise RecipeError(
                "selection uses tuning prompts only; reported figures come from other prompts",
                where=f"{where}.prompts",
                value=f"{prompts} (role {role})",
                allowed=[n for n, p in recipe.prompts.items() if p.role == "tuning"],
            )
        if metric in ("win_rate", "mean_score") or criterion is not None:
            if criterion is None:
                raise RecipeError(
                    f"metric '{metric}' needs a criterion",
                    where=f"{where}.criterion",
                    allowed=[*recipe.evaluate.judges],
                )
            _known("judge", criterion, recipe.evaluate.judges, f"{where}.criterion")


def _check_world(recipe: Recipe) -> None:
    sources = [(f"data.{name}", spec.format) for name, spec in recipe.data.items()]
    sources += [(f"prompts.{name}", spec.format) for name, spec in recipe.prompts.items()]
    for where, source in sources:
        if source == "world" and recipe.world is None:
            raise RecipeError("format 'world' needs a 'world' section", where=f"{where}.format")
    if recipe.theory is None:
        return
    _known("prompt set", recipe.theory.prompts, recipe.prompts, "theory.prompts")
    for name in ("reward", "safety"):
        criterion = getattr(recipe.theory, name)
        _known("judge", criterion, recipe.evaluate.judges, f"theory.{name}")


def _dataset_references(recipe: Recipe) -> Iterator[tuple[str, str]]:
    def names(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
        return () if value is None else (value,) if isinstance(value, str) else value

    if recipe.sft:
        for name in names(recipe.sft.dataset):
            yield "sft.dataset", name
    for index, step in enumerate(recipe.steps):
        sampled = isinstance(step.dataset, SampledSpec)
        for name in (step.dataset.prompts,) if isinstance(step.dataset, SampledSpec) else names(step.dataset):
            yield f"steps.{index}.dataset" + (".prompts" if sampled else ""), name
    tokenizer = recipe.base.tokenizer
    if tokenizer is not None and not isinstance(tokenizer, str):
        for name in tokenizer.datasets:
            yield "base.tokenizer.datasets", name
    for criterion, judge in recipe.evaluate.judges.items():
        for name in names(judge.dataset):
            yield f"evaluate.judges.{criterion}.dataset", name


def _known(what: str, name: str, allowed: typing.Collection[str], where: str) -> None:
    if name not in allowed:
        nearest = difflib.get_close_matches(name, list(allowed), 1)
        raise RecipeError(
            f"unknown {what}",
            where=where,
            value=name,
            allowed=list(allowed) or "none is defined",
            do=f"did you mean '{nearest[0]}'?" if nearest else f"define the {what} or name another",
        )


def _override(data: dict[str, Any], override: str) -> None:
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise RecipeError("an override is KEY.PATH=VALUE", where="--set", value=override)
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError("an override's value is not valid YAML", where="--set", value=override) from error
    *parents, last = path.split(".")
    target: Any = data
    for part in parents:
        target = _item(target, part, override)
    if isinstance(target, list):
        target[_index(target, last, override)] = value
    else:
        target[last] = value


def _item(target: Any, part: str, override: str) -> Any:
    if isinstance(target, list):
        return target[_index(target, part, override)]
    if target.get(part) is None:
        target[part] = {}
    if not isinstance(target[part], dict | list):
        raise RecipeError("an override leads through a plain value", where="--set", value=override)
    return target[part]


def _index(items: list[Any], part: str, override: str) -> int:
    names = [str(item.get("name", i)) if isinstance(item, dict) else str(i) for i, item in enumerate(items)]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(items):
        return int(part)
    raise RecipeError("an override names no item of this list", where="--set", value=override, allowed=names)


def _expand(value: Any, source: str, at: tuple[str, ...]) -> Any:
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

    return VARIABLE.sub(replace, value)


def _explain(error: ValidationError, data: Any, source: str) -> RecipeError:
    errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    deepest = max(errors, key=lambda e: (len(_location(e["loc"], data)), e["type"] == "extra_forbidden"))
    first = deepest if len({tuple(_location(e["loc"], data))[:2] for e in errors}) == 1 else errors[0]
    location = _location(first["loc"], data)
    where = f"{source}, {'.'.join(map(str, location))}" if location else source
    if first["type"] == "extra_forbidden":
        allowed = _fields_at(location[:-1])
        nearest = difflib.get_close_matches(str(location[-1]), allowed, 1, 0.5)
        return RecipeError(
            f"unknown key '{location[-1]}'",
            where=where,
            allowed=allowed,
            do=f"did you mean '{nearest[0]}'?" if nearest else "remove it or correct it",
        )
    message = first["msg"].removeprefix("Value error, ")
    value = None if first["type"] in ("missing", "value_error") else first["input"]
    return RecipeError(
        message[:1].lower() + message[1:],
        where=where,
        value=value,
        do=f"correct it ({len(errors)} problems in all)" if len(errors) > 1 else None,
    )


def _location(loc: tuple[int | str, ...], data: Any) -> list[int | str]:
    """Drop from a pydantic location the parts that name union members rather than the user's keys."""
    kept: list[int | str] = []
    here = data
    for position, part in enumerate(loc):
        inside = isinstance(here, dict) and part in here
        inside = inside or (isinstance(here, list) and isinstance(part, int) and part < len(here))
        if inside:
            kept.append(part)
            here = here[part]
        elif position == len(loc) - 1 and isinstance(here, dict) and isinstance(part, str) and part.isidentifier():
            kept.append(part)
    return kept


def _fields_at(location: Sequence[int | str]) -> list[str]:
    section: type[Section] = Recipe
    for part in location:
        field = next((f for n, f in section.model_fields.items() if part in (n, f.alias)), None)
        if field is not None:
            inner = list(_sections(field.annotation))
            section = inner[0] if inner else section
    return [field.alias or name for name, field in section.model_fields.items()]


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _sections(argument)


def _yaml_place(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error)
