"""`sacpo new`: from a user's model and files to a commented recipe, with prompts that training does not see."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sacpo.data.detect import Found, detect
from sacpo.data.prepare import split_key
from sacpo.data.records import Kind, Prompt, text_hash
from sacpo.data.sources.convert import unique_prompts
from sacpo.data.splits import prompt_key, prompt_of
from sacpo.errors import DataError, RunError
from sacpo.plain import JsonObject
from sacpo.recipe import parse_recipe
from sacpo.recipe.safe import yaml_value
from sacpo.recipe.starter import StepData, starter
from sacpo.system.files import write_atomic
from sacpo.system.machine import machine_errors
from sacpo.system.visible import json_text

SHARE, MOST_HELD, LEAST_HELD = 0.1, 600, 2
"""Prompts that are held out for evaluation: this share of all, at most and at least so many."""
STEPS = ("helpful", "safe")


@dataclass(frozen=True)
class NewRecipe:
    """What `new_recipe` wrote.

    Attributes:
        recipe: The recipe.
        said: What was found in the files and what was made of it, a line each.
    """

    recipe: Path
    said: list[str]


def new_recipe(
    out: Path, *, model: str, helpful: Path, safe: Path, prompts: Path | None = None, name: str | None = None
) -> NewRecipe:
    """Write a recipe for two files of preferences, and beside it a folder with its prompts.

    Without `prompts` a tenth of the files' prompts is held out: the folder then also holds the rows that are left to
    train on. The same files give the same recipe.

    Args:
        out: The recipe; it must not be there yet.
        model: Hub id or folder of the model to start from.
        helpful: Preferences of the helpfulness step.
        safe: Preferences of the safety step.
        prompts: Prompts to answer in evaluation; one half is for the selection, the other for the report.
        name: The run's name; the recipe's by default.

    Raises:
        RunError: The recipe or its folder is there already.
        DataError: A file's format cannot be told, a row is not of it, or there are too few prompts.
        RecipeError: The name is none of a run.
    """
    folder = out.with_name(f"{out.stem}-data")
    for path in (out, folder):
        if path.exists():
            raise RunError("it is there already and stays as it is", where=path, do="give another name, or delete it")
    found = {
        "helpful": detect(helpful, usable=("pairs", "unpaired"), label="better"),
        "safe": detect(safe, usable=("pairs", "unpaired"), label="safer"),
    }
    said = [one.said() for one in found.values()]
    if prompts is None:
        held = _held(found)
        sets, kept = _sets(held), {step: _without(found[step], held) for step in STEPS}
        paths = {step: folder / f"{step}.jsonl" for step in STEPS}
    else:
        given = detect(prompts, usable=("prompts", "pairs", "unpaired", "demonstrations"))
        said.append(given.said())
        sets, kept = _sets(_prompts_of(given)), {}
        _check_unseen(found, sets, prompts)
        paths = {step: found[step].path for step in STEPS}
    said.append(_said_of_sets(sets, folder, prompts))
    steps = {
        step: StepData(str(paths[step]), found[step].spec, found[step].kind, str(found[step].path)) for step in STEPS
    }
    asked = {one: (str(folder / f"{one}.jsonl"), len(some)) for one, some in sets.items()}
    text = starter(name or out.stem, model, steps, asked, said)
    parse_recipe(yaml_value(text, "recipe", out), source=str(out))
    _write(folder, {**{step: [row.data for row, _ in kept[step].rows] for step in kept}, **_rows_of(sets)})
    write_atomic(out, text)
    return NewRecipe(out, said)


def _held(found: dict[str, Found]) -> list[Prompt]:
    """Return the prompts to hold out: restricted those of the safety file alone, ordinary those of the other alone."""
    of = {step: {split_key(prompt_of(r)): prompt_of(r) for r in found[step].records} for step in STEPS}
    every = of["safe"] | of["helpful"]
    n = max(LEAST_HELD, min(round(SHARE * len(every)), MOST_HELD))
    held = {*sorted(every, key=lambda key: text_hash("evaluation", key))[:n]}
    if any(not of[step].keys() - held for step in STEPS):
        raise DataError(
            "too few prompts to hold some out",
            where=", ".join(str(found[step].path) for step in STEPS),
            value=f"{len(every)} prompts",
            do="give more rows, or prompts of their own: --prompts FILE",
        )
    kinds = {key: _kind(key in of["helpful"], key in of["safe"]) for key in held}
    return [_with_kind(every[key], kinds[key]) for key in sorted(held)]


def _kind(helpful: bool, safe: bool) -> Kind:
    if helpful and safe:
        return Kind("")
    return Kind.ORDINARY if helpful else Kind.RESTRICTED


def _with_kind(prompt: Prompt, kind: Kind) -> Prompt:
    return Prompt(messages=prompt.messages, category=prompt.category, kind=kind)


def _without(found: Found, held: Sequence[Prompt]) -> Found:
    """Return a file's rows without those of held-out prompts."""
    keys = {prompt_key(prompt) for prompt in held}
    rows = [row for row in found.rows if prompt_key(prompt_of(row[1][0])) not in keys]
    return Found(found.path, found.spec, rows)


def _prompts_of(found: Found) -> list[Prompt]:
    prompts = unique_prompts((prompt_of(record) for record in found.records), lambda reason: None)
    return [prompt for prompt in prompts if isinstance(prompt, Prompt)]


def _sets(prompts: Sequence[Prompt]) -> dict[str, list[Prompt]]:
    """Return the prompts in two halves that share no text: those that the selection sees, and those of the report."""
    keys = sorted({prompt_key(prompt) for prompt in prompts})
    if len(keys) < LEAST_HELD:
        raise DataError("too few prompts for two sets", value=len(keys), do="give at least two prompts")
    tuning = {*keys[::2]}
    return {
        "tuning": [prompt for prompt in prompts if prompt_key(prompt) in tuning],
        "report": [prompt for prompt in prompts if prompt_key(prompt) not in tuning],
    }


def _check_unseen(found: dict[str, Found], sets: dict[str, list[Prompt]], prompts: Path) -> None:
    asked = {prompt_key(prompt) for some in sets.values() for prompt in some}
    for step in STEPS:
        shared = sum(prompt_key(prompt_of(record)) in asked for record in found[step].records)
        if shared:
            raise DataError(
                f"{shared} of its records have a prompt that is to be answered in evaluation",
                where=found[step].path,
                value=str(prompts),
                do="take them out of one file, or leave --prompts out: then prompts are held out",
            )


def _said_of_sets(sets: dict[str, list[Prompt]], folder: Path, prompts: Path | None) -> str:
    origin = "held out of both files" if prompts is None else f"of {prompts}"
    sizes = ", ".join(f"{len(some):,} for {name}" for name, some in sets.items())
    kinds = Counter(str(prompt.kind.value) or "of no kind" for some in sets.values() for prompt in some)
    said = ", ".join(f"{n:,} {kind}" for kind, n in sorted(kinds.items()))
    taken = (
        ""
        if prompts is not None
        else "; prompts of the safety file alone are taken as restricted, correct 'kind' there"
    )
    return f"{folder}: prompts {origin}, {sizes} ({said}{taken})"


def _rows_of(sets: dict[str, list[Prompt]]) -> dict[str, list[JsonObject]]:
    return {name: [_row(prompt) for prompt in some] for name, some in sets.items()}


def _row(prompt: Prompt) -> JsonObject:
    """Return a prompt as a row of format `prompts`."""
    messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
    rest = {"category": prompt.category, "kind": str(prompt.kind.value)}
    said = messages[0]["content"] if len(messages) == 1 else messages
    return {"prompt": said, **{key: value for key, value in rest.items() if value}}


def _write(folder: Path, files: dict[str, list[JsonObject]]) -> None:
    """Write files of JSON lines into a new folder, or nothing."""
    with machine_errors(folder):
        folder.mkdir(parents=True)
        try:
            for name, rows in files.items():
                write_atomic(folder / f"{name}.jsonl", "".join(json_text(row) + "\n" for row in rows))
        except BaseException:
            shutil.rmtree(folder)
            raise
