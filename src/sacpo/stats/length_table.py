"""Length-controlled win rates and leaderboard rows of any verdicts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from sacpo.data.records import Outcome, Verdict
from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.stats.alpaca import leaderboard_row
from sacpo.stats.intervals import OUTCOME_VALUES
from sacpo.stats.length import length_controlled_win_rate
from sacpo.stats.verdicts import PromptValue, pairwise_groups, unique

FEWEST = 2


def length_rows(
    verdicts: Iterable[Verdict],
    lengths: Mapping[str, int],
    *,
    difficulty: Mapping[str, float] | None = None,
    draws: int = 200,
    seed: int = 0,
) -> list[JsonObject]:
    """Return every group's length-controlled win rate; one item a prompt, as in the plain win rate.

    A prompt's lengths are the means over its answers. A prompt with an answer of unknown length, or without a value,
    counts as unparsed; a group without any known lengths, or of a model against itself, has no row.

    Args:
        verdicts: In any order; duplicates count once.
        lengths: Each answer's length by its hash.
        difficulty: How hard each prompt is, by its id; None leaves the term out of the fit.
        draws: Bootstrap resamples.
        seed: Of the resampling.

    Raises:
        DataError: A prompt's difficulty is not known.
    """
    if not lengths:
        return []
    distinct = unique(verdicts)
    groups = distinct.groups
    rows = []
    for group, prompts in distinct.prompts.items():
        own, other = _mean_lengths(groups[group], lengths)
        known = [prompt.prompt_id in own for prompt in prompts]
        if group.model == group.baseline or not any(known):
            continue
        controlled = length_controlled_win_rate(
            [prompt.value if found else None for prompt, found in zip(prompts, known, strict=True)],
            [own.get(prompt.prompt_id, 0.0) for prompt in prompts],
            [other.get(prompt.prompt_id, 0.0) for prompt in prompts],
            difficulty=None if not difficulty else _difficulties(prompts, difficulty),
            clusters=[prompt.cluster for prompt in prompts],
            draws=draws,
            seed=seed,
        )
        rows.append({**group._asdict(), **controlled.to_json()})
    return rows


def _difficulties(prompts: Sequence[PromptValue], difficulty: Mapping[str, float]) -> list[float]:
    unknown = [prompt.prompt_id for prompt in prompts if prompt.prompt_id not in difficulty]
    if unknown:
        raise DataError(
            f"no difficulty of {len(unknown)} of {len(prompts)} prompts",
            where="--difficulty",
            value=unknown[:3],
            do="give the difficulties of these instructions, or leave them out",
        )
    return [difficulty[prompt.prompt_id] for prompt in prompts]


def leaderboard_rows(verdicts: Iterable[Verdict]) -> list[JsonObject]:
    """Return AlpacaEval's figures, in percent, of every group whose judge gives probabilities.

    Verdicts without a probability count as 0, .5 or 1; unparsed ones are dropped, as AlpacaEval does.
    """
    rows = []
    for group, members in pairwise_groups(verdicts).items():
        if any(verdict.probability is not None for verdict in members):
            preferences = [_preference(verdict) for verdict in members]
            if sum(preference is not None for preference in preferences) >= FEWEST:
                rows.append({**group._asdict(), **asdict(leaderboard_row(preferences))})
    return rows


def _preference(verdict: Verdict) -> float | None:
    if verdict.outcome is None or verdict.outcome is Outcome.UNPARSED:
        return None
    return 1 + (OUTCOME_VALUES[verdict.outcome] if verdict.probability is None else verdict.probability)


def _mean_lengths(members: Sequence[Verdict], lengths: Mapping[str, int]) -> tuple[dict[str, float], dict[str, float]]:
    """Return each prompt's mean length of the model's and of the baseline's answers, where all are known."""
    hashes: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for verdict in members:
        hashes[verdict.prompt_id].add((verdict.answer_hash, verdict.baseline_hash))
    sides: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for prompt, pairs in hashes.items():
        if all(name in lengths for pair in pairs for name in pair):
            for side, place in zip(sides, (0, 1), strict=True):
                side[prompt] = math.fsum(lengths[pair[place]] for pair in sorted(pairs)) / len(pairs)
    return sides
