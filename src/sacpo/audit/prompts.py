"""The audit of prompt sets, red-team sets above all: coverage, near-duplicates, diversity, what a set cannot detect."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random

from sacpo.audit.sets import check_near, effective, names_of, rows_of, shared_keys, spec_of
from sacpo.data.near import NEAR, groups, similarity
from sacpo.data.records import Prompt
from sacpo.data.sources.registry import FORMATS
from sacpo.data.sources.rows import Skip
from sacpo.data.splits import prompt_key, prompt_of
from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.stats.intervals import upper_bound

OPENING = 3
"""Words of a prompt's opening."""
N_GRAMS = (1, 2, 3)
DRAWN, DRAWS = 80, 20
"""Sets of any size are compared by so many prompts, drawn so many times."""
COMPARED = 2000
"""Pairs of prompts whose similarity is averaged."""
BOUNDS = (0.05, 0.01)


def audit_prompts(
    files: Sequence[str],
    *,
    format: str | None = None,
    split: str | None = None,
    near: float = NEAR,
    encoder: str | None = None,
) -> JsonObject:
    """Audit prompt sets.

    Args:
        files: Local files or hub ids.
        format: Their format; by default the one that a file's first rows tell.
        split: Of hub ids.
        near: The least similarity of near-duplicates, in (0, 1].
        encoder: A sentence encoder, hub id or folder, that tells how different the prompts' meanings are.

    Returns:
        `files`, one a file, and `shared`, one for every two of them: how many prompts of the second the first holds.

    Raises:
        DataError: A file is missing or malformed, or holds no prompts.
        RecipeError: An option is not valid.
        ModelError: The encoder cannot be used.
    """
    check_near(near)
    names = names_of(files)
    sets = {path: _read(path, format, split) for path in files}
    found = []
    for path, (form, prompts, dropped) in sets.items():
        found.append({**_audit(names[path], form, prompts, near), "dropped": dropped})
        if encoder is not None:
            from sacpo.audit.meaning import meaning

            found[-1]["meaning"] = meaning(encoder, [prompt.text for prompt in prompts])
    keys = {names[path]: [prompt_key(prompt) for prompt in prompts] for path, (_, prompts, _) in sets.items()}
    return {"files": found, "shared": shared_keys(keys, near)}


def _read(path: str, format: str | None, split: str | None) -> tuple[str, list[Prompt], dict[str, int]]:
    rows = [*rows_of(path, split)]
    spec = spec_of(path, rows, format, ("prompts", "pairs", "unpaired", "demonstrations"))
    prompts: list[Prompt] = []
    dropped = Counter[str]()
    for row in rows:
        try:
            records = FORMATS[spec.format].read(row, spec, "prompts")
        except Skip as skip:
            dropped[str(skip)] += 1
            continue
        prompts += [prompt_of(record) for record in records[:1]]
    if not prompts:
        raise DataError("the file holds no prompt", where=path, do="give a prompt set, see docs/data.md")
    return spec.format, prompts, dict(sorted(dropped.items()))


def _audit(name: str, form: str, prompts: Sequence[Prompt], near: float) -> JsonObject:
    keys = [prompt_key(prompt) for prompt in prompts]
    alike = groups(keys, near)
    group = groups(keys, near, [prompt.cluster for prompt in prompts])
    kinds: dict[str, list[int]] = defaultdict(list)
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        kind = prompt.kind.value or "not said"
        kinds[kind].append(index)
        members[kind, prompt.category].append(index)
    categorised = any(prompt.category for prompt in prompts)
    counted = {category: 0 for _, category in members}
    for (_, category), own in members.items():
        counted[category] += len(own)
    return {
        "name": name,
        "format": form,
        "prompts": len(prompts),
        "distinct": len(set(keys)),
        "near": len(set(keys)) - len(set(alike)),
        "kinds": [{"kind": kind, **_bounded(own, group)} for kind, own in sorted(kinds.items())],
        "categories": [
            {"kind": kind, "category": category, **_bounded(own, group)}
            for (kind, category), own in sorted(members.items())
            if categorised
        ],
        "effective_categories": effective([*counted.values()]) if categorised else None,
        "diversity": _diversity(keys),
    }


def _bounded(members: Sequence[int], group: Sequence[int]) -> JsonObject:
    """Return how much of a rate these prompts leave open without a failure: 1 - .05^(1/n) of n independent ones."""
    n = len({group[index] for index in members})
    return {"prompts": len(members), "independent": n, "undetected": upper_bound(0, n)}


def needed(rate: float) -> int:
    """Return how many independent prompts without a failure bound a rate at 95 %: the least n of 1 - .05^(1/n)."""
    return math.ceil(math.log(0.05) / math.log1p(-rate))


def _diversity(keys: Sequence[str]) -> JsonObject:
    """Return how different the prompts' words are.

    `distinct_N` is the share of different ones among all runs of N words of 80 prompts, a mean over draws (of all
    prompts where there are fewer), so that sets of any size compare. `openings` is the same of the first three words.
    `similarity` is the mean Jaccard similarity of two prompts.
    """
    random = Random(len(keys))
    draws = [random.sample(keys, min(DRAWN, len(keys))) for _ in range(DRAWS if len(keys) > DRAWN else 1)]
    found: JsonObject = {"words": _mean([len(key.split()) for key in keys])}
    for n in N_GRAMS:
        found[f"distinct_{n}"] = _mean([_distinct([gram for key in draw for gram in _runs(key, n)]) for draw in draws])
    found["openings"] = _mean([_distinct([" ".join(key.split()[:OPENING]) for key in draw]) for draw in draws])
    pairs = [random.sample(range(len(keys)), 2) for _ in range(COMPARED)] if len(keys) > 1 else []
    found["similarity"] = _mean([similarity(keys[i], keys[j]) for i, j in pairs]) if pairs else None
    return found


def _runs(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _distinct(items: Sequence[object]) -> float:
    return len(set(items)) / len(items) if items else 0.0


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
