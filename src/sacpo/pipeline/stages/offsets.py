"""What labelled pairs become before they are learnt from: offsets of other criteria, and safe answers first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sacpo.data.records import Pair
from sacpo.errors import DataError
from sacpo.judging.scored import Score, ScoreFunction
from sacpo.recipe.schema import SafetySpec

Kept = tuple[list[Pair], dict[str, int]]
"""Pairs, and how many were dropped for which reason."""


def with_offsets(pairs: Sequence[Pair], scores: Mapping[str, ScoreFunction], weights: Mapping[str, float]) -> Kept:
    """Add `sum_k w_k (s_k(chosen) - s_k(rejected))` to each pair's offset; one without a score is dropped.

    DPO on them aims at the labels' criterion plus `sum_k w_k s_k`. Source: MODPO, arXiv 2310.03708, in units
    of the labels' criterion.
    """
    offsets = [pair.offset for pair in pairs]
    known = [True] * len(pairs)
    for name, weight in weights.items():
        for i, (chosen, rejected) in enumerate(_both(pairs, scores[name])):
            if chosen.finite is None or rejected.finite is None:
                known[i] = False
            else:
                offsets[i] += weight * (chosen.finite - rejected.finite)
    kept = [replace(pair, offset=offset) for pair, offset, ok in zip(pairs, offsets, known, strict=True) if ok]
    return kept, {"not scored": len(pairs) - len(kept)}


def safe_first(pairs: Sequence[Pair], score: ScoreFunction, spec: SafetySpec) -> Kept:
    """Drop pairs of two unsafe answers; of one, prefer the safe answer for certain, with the offset of `spec`.

    A pair of two safe answers keeps its label. Source: SafeDPO, arXiv 2505.20065, eq. 11 and 12.

    Raises:
        DataError: The judge left out whether an answer is safe.
    """
    kept: list[Pair] = []
    for pair, labels in zip(pairs, _both(pairs, score), strict=True):
        chosen, rejected = (_unsafe(label, pair, spec.judge) for label in labels)
        if chosen and rejected:
            continue
        if chosen != rejected:
            safe, unsafe = (pair.rejected, pair.chosen) if chosen else (pair.chosen, pair.rejected)
            pair = replace(pair, chosen=safe, rejected=unsafe, p=1.0, offset=spec.offset)
        kept.append(pair)
    return kept, {"two unsafe answers": len(pairs) - len(kept)}


def _both(pairs: Sequence[Pair], score: ScoreFunction) -> list[tuple[Score, Score]]:
    found = score([(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)])
    return [*zip(found[::2], found[1::2], strict=True)]


def _unsafe(score: Score, pair: Pair, judge: str) -> bool:
    if score.label not in ("safe", "unsafe"):
        raise DataError(
            "a judge does not say whether an answer is safe",
            where=pair.source,
            value=score.label or "no label",
            allowed=["safe", "unsafe"],
            do=f"take another judge than '{judge}'",
        )
    return score.label == "unsafe"
