"""What audits of any sets share: reading rows, options, what two sets have in common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from sacpo.data.detect import format_of
from sacpo.data.near import groups
from sacpo.data.sources.files import local, looks_local, read_file
from sacpo.data.sources.hub import read_hub
from sacpo.data.sources.registry import FORMATS
from sacpo.data.sources.rows import Row
from sacpo.errors import DataError, RecipeError
from sacpo.plain import JsonObject
from sacpo.recipe.explain import checked
from sacpo.recipe.formats import RecordKind
from sacpo.recipe.schema import SourceSpec

PKU = "pku-safe-rlhf"


def names_of(files: Sequence[str]) -> dict[str, str]:
    """Return how each file is called: without its folder where that is clear, else with it; hub ids as they are.

    Raises:
        RecipeError: There is no file, or two have one name.
    """
    if not files:
        raise RecipeError("nothing to audit", where="files", do="name a file")
    short = {file: local(file).name if looks_local(file) else file for file in files}
    clear = Counter(short.values())
    names = {
        file: name if clear[name] == 1 or not looks_local(file) else f"{local(file).absolute().parent.name}/{name}"
        for file, name in short.items()
    }
    twice = [name for name, n in Counter(names[file] for file in files).items() if n > 1]
    if twice:
        raise RecipeError("two files have one name", where="files", value=twice[0], do="name it once, or rename one")
    return names


def check_near(near: float) -> None:
    """Check a similarity.

    Raises:
        RecipeError: It is none.
    """
    if not 0 < near <= 1:
        raise RecipeError("a similarity is out of its range", where="near", value=near, allowed="above 0, at most 1")


def spec_of(path: str, rows: Sequence[Row], format: str | None, usable: Sequence[RecordKind]) -> SourceSpec:
    """Return how a file is read: as it is said, or as its first rows tell.

    Raises:
        DataError: No format fits.
    """
    if format is None and "response_0" in rows[0].data:  # whatever else is wrong with the first row
        format = PKU
    if format is None:
        return format_of(Path(path), rows, usable)
    spec = checked(SourceSpec, format=format, path=path)
    if spec.format not in FORMATS:
        raise DataError("this format is not read from files", where=path, value=spec.format, allowed=[*FORMATS])
    return spec


def rows_of(path: str, split: str | None) -> Iterator[Row]:
    """Yield the rows of a local file or of a hub id's split.

    Raises:
        DataError: There is no such file, it is malformed, or a split is named for a file.
    """
    if not looks_local(path):
        yield from read_hub(path, checked(SourceSpec, format="prompts", path=path, split=split), path)
        return
    if split is not None:
        raise DataError("a local file has no split", where="--split", value=split, do="name the split's file")
    yield from read_file(local(path), local(path).name)


def effective(counts: Sequence[int]) -> float | None:
    """Return how many equally large categories would be as diverse: exp of the entropy of the shares."""
    total = sum(counts)
    return math.exp(-sum(n / total * math.log(n / total) for n in counts if n)) if total else None


def shared_keys(sets: Mapping[str, Sequence[str]], near: float) -> list[JsonObject]:
    """Return for every two sets how many of the second's texts the first one holds, exactly and nearly."""
    keys = {name: list(dict.fromkeys(texts)) for name, texts in sets.items()}
    every = list(dict.fromkeys(key for own in keys.values() for key in own))
    group = dict(zip(every, groups(every, near), strict=True)) if len(keys) > 1 else {}
    found = []
    for (first, held), (second, asked) in combinations(keys.items(), 2):
        exact, alike = set(held), {group[key] for key in held}
        same = sum(key in exact for key in asked)
        nearly = sum(group[key] in alike for key in asked) - same
        found.append({"first": first, "second": second, "prompts": len(asked), "same": same, "near": nearly})
    return found
