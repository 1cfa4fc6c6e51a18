"""The audit of preference sets: counts, faults, contradictions, leakage, biases of the preferred side, coverage."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from sacpo.audit.bias import biases
from sacpo.audit.conflicts import conflicts
from sacpo.audit.published import FIRST_SAFE, MIXED, PUBLISHED, SAFE_SAFE, SAFETY, SECOND_SAFE, UNSAFE_UNSAFE
from sacpo.audit.sets import check_near, effective, names_of, shared_keys
from sacpo.audit.units import Read, Unit, read_units, two
from sacpo.data.near import NEAR, groups, similarity
from sacpo.data.splits import prompt_key
from sacpo.errors import RecipeError
from sacpo.judging.refusal import COMPLIANCE, refusal_label
from sacpo.plain import JsonObject
from sacpo.recipe.explain import did_you_mean
from sacpo.stats.intervals import clustered_rate
from sacpo.system.progress import QUIET, Progress


def audit_preferences(
    files: Sequence[str],
    *,
    format: str | None = None,
    split: str | None = None,
    against: str | None = None,
    near: float = NEAR,
    progress: Progress = QUIET,
) -> JsonObject:
    """Audit preference sets: what each holds, what is wrong with it, and which prompts they share.

    Args:
        files: Local files or hub ids; of several, prompts that two of them share are leaks between splits.
        format: Their format; by default the one that a file's first rows tell.
        split: Of hub ids; `train` by default.
        against: Compare the counts with published ones: a name of `sacpo.audit.published`.
        near: The least similarity of near-duplicates, in (0, 1].
        progress: Where to show it.

    Returns:
        `files`, one a file (`rows`, `pairs`, `safety`, `published`, `faults`, `conflicts`, `bias`, `coverage`,
        `duplicates`), and `leakage`, one for every two files. No text of a prompt or an answer is in it.

    Raises:
        DataError: A file is missing or malformed, or holds no preferences.
        RecipeError: An option is not valid.
    """
    check_near(near)
    names = names_of(files)
    _check(against)
    label = cache(lambda text: refusal_label(text) != COMPLIANCE)
    found, keys = [], {}
    for path in files:
        read = read_units(path, names[path], format, split)
        answers = list(dict.fromkeys(text for unit in read.units for text in unit.answers))
        with progress.task(f"reading answers of {read.name}", len(answers), "answers") as task:
            for text in answers:
                label(text)
                task.advance()
        keys[read.name] = [prompt_key(unit.prompt) for unit in read.units]
        found.append(_audit(read, label, against, near))
    return {"files": found, "leakage": shared_keys(keys, near)}


def _check(against: str | None) -> None:
    if against is not None and against not in PUBLISHED:
        raise RecipeError(
            "no such published counts",
            where="against",
            value=against,
            allowed=[*PUBLISHED],
            do=did_you_mean(against, PUBLISHED, "name one of these"),
        )


def _audit(read: Read, refuses: Callable[[str], bool], against: str | None, near: float) -> JsonObject:
    units, pairs = read.units, two(read.units)
    safety = _safety(pairs)
    counts = {"rows": read.rows, **safety, MIXED: safety[FIRST_SAFE] + safety[SECOND_SAFE]}
    return {
        "name": read.name,
        "format": read.format,
        "rows": read.rows,
        "pairs": len(pairs),
        "labelled": len(units) - len(pairs),
        "dropped": dict(sorted(read.dropped.items())),
        "faults": read.faults.to_json(),
        "safety": safety if any(safety.values()) else {},
        "published": [] if against is None else _published(counts, PUBLISHED[against]),
        "disagreeing": _disagreeing(pairs),
        "conflicts": conflicts(units),
        "bias": biases(units, refuses),
        "coverage": _coverage(units),
        "duplicates": _duplicates(units, near),
    }


def _safety(pairs: Sequence[Unit]) -> dict[str, int]:
    names = {
        (True, True): SAFE_SAFE,
        (True, False): FIRST_SAFE,
        (False, True): SECOND_SAFE,
        (False, False): UNSAFE_UNSAFE,
    }
    counts = Counter(names[unit.safe] for unit in pairs if unit.safe in names)
    return {name: counts[name] for name in SAFETY}


def _published(counts: Mapping[str, int], published: Mapping[str, int]) -> list[JsonObject]:
    rows = []
    for name, expected in published.items():
        least = name.endswith(", at least")
        own = counts[name.removesuffix(", at least")]
        rows.append(
            {"count": name, "here": own, "published": expected, "same": own >= expected if least else own == expected}
        )
    return rows


def _disagreeing(pairs: Sequence[Unit]) -> JsonObject | None:
    """Return the share of pairs whose two preferences point to different answers; None where there is one only."""
    both = [unit for unit in pairs if len(unit.first) > 1 and 0.5 not in unit.first.values()]
    if not both:
        return None
    flags = [len({p > 0.5 for p in unit.first.values()}) > 1 for unit in both]
    return clustered_rate(flags, [unit.prompt.id for unit in both]).to_json()


def _coverage(units: Sequence[Unit]) -> JsonObject:
    rows = Counter(prompt_key(unit.prompt) for unit in units)
    prompts: dict[str, set[str]] = defaultdict(set)
    for unit in units:
        for category in unit.categories:
            prompts[category].add(prompt_key(unit.prompt))
    counts = {name: len(keys) for name, keys in sorted(prompts.items())}
    return {
        "prompts": len(rows),
        "rows_a_prompt": {"mean": len(units) / len(rows), "most": max(rows.values())},
        "words": _mean([len(key.split()) for key in rows]),
        "turns": _mean([sum(m.role == "user" for m in unit.prompt.messages) for unit in units]),
        "categories": counts,
        "effective_categories": effective(list(counts.values())),
    }


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


def _duplicates(units: Sequence[Unit], near: float) -> JsonObject:
    """Count rows that repeat another, prompts that nearly do, and pairs whose two answers are nearly the same."""
    rows = Counter((unit.prompt.id, *sorted(unit.answers)) for unit in units)
    keys = list(dict.fromkeys(prompt_key(unit.prompt) for unit in units))
    pairs = two(units)
    return {
        "rows": len(units) - len(rows),
        "near_prompts": len(keys) - len(set(groups(keys, near))),
        "equal_answers": sum(unit.answers[0] == unit.answers[1] for unit in pairs),
        "near_answers": sum(unit.answers[0] != unit.answers[1] and similarity(*unit.answers) >= near for unit in pairs),
        "near": near,
    }
