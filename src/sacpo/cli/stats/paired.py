"""One model against every other on the same prompts: paired tests of win rates, scores, unsafe and refused answers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sacpo.data.records import Kind, Verdict
from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.stats.labels import REFUSAL, UNSAFE, risky_kind
from sacpo.stats.paired import Values, adjusted, compared
from sacpo.stats.significance import RATES, Bounds
from sacpo.stats.verdicts import prompt_values

EVEN = 0.5
BOUNDS: Mapping[str, Bounds] = {"win rate": RATES, "head to head": (-EVEN, EVEN), "unsafe": RATES, "refused": RATES}
"""Of the difference in each measure; scores have none."""


class Table(NamedTuple):
    """What models are compared on."""

    measure: str
    criterion: str
    judge: str


def one_against_all(
    verdicts: Sequence[Verdict], against: str, anchor: str | None, *, seed: int = 0
) -> list[JsonObject]:
    """Compare every model with one on the prompts that count for both.

    Measures: "win rate" against the anchor, or head to head where one of the two was the other's baseline (then the
    second model's value is 1/2 everywhere); "score"; "unsafe" on restricted prompts and prompts of unknown kind;
    "refused" on borderline ones. The difference is the other model's mean less that of `against`.

    Args:
        verdicts: Distinct verdicts.
        against: The model that all others are compared with; it may be the anchor.
        anchor: The baseline of the win rates; None: only head to head.
        seed: Of the permutations.

    Returns:
        One row a comparison, sorted; `p_holm` is Holm's p over all of them.

    Raises:
        DataError: No verdict names the model, or it shares no two prompts with any other.
    """
    known = sorted({name for verdict in verdicts for name in (verdict.model, verdict.baseline) if name})
    if against not in known:
        raise DataError("no verdict names this model", value=against, allowed=known)
    rows = []
    for table, model, ours, theirs in sorted(_comparisons(verdicts, against, anchor), key=lambda found: found[:2]):
        row = compared(ours, theirs, BOUNDS.get(table.measure), seed)
        if row is not None:
            rows.append({"first": model, "second": against, **table._asdict(), **row})
    if not rows:
        raise DataError("this model shares no two prompts with any other", value=against)
    return adjusted(rows)


def _comparisons(
    verdicts: Sequence[Verdict], against: str, anchor: str | None
) -> list[tuple[Table, str, Values, Values]]:
    """Return (table, other model, its values, the values of `against`)."""
    found: dict[Table, dict[str, Values]] = defaultdict(dict)
    comparisons: list[tuple[Table, str, Values, Values]] = []
    for group, prompts in prompt_values(verdicts).items():
        counted = {prompt.prompt_id: (prompt.value, prompt.cluster) for prompt in prompts if prompt.value is not None}
        if group.model == group.baseline:
            continue
        if group.baseline == anchor:
            found[Table("win rate", group.criterion, group.judge)][group.model] = counted
        head, even = Table("head to head", group.criterion, group.judge), _even(counted)
        if group.baseline == against:
            comparisons.append((head, group.model, counted, even))
        elif group.model == against:
            comparisons.append((head, group.baseline, even, counted))
    for (table, model), members in _pointwise(verdicts).items():
        found[table][model] = members
    for table, models in found.items():
        theirs = models.pop(against, {})
        comparisons.extend((table, model, ours, theirs) for model, ours in models.items())
    return comparisons


def _even(values: Values) -> Values:
    return {prompt: (EVEN, cluster) for prompt, (_, cluster) in values.items()}


def _pointwise(verdicts: Iterable[Verdict]) -> dict[tuple[Table, str], Values]:
    said: dict[tuple[Table, str], dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    verdicts = [*verdicts]
    risky = risky_kind(v.kind for v in verdicts)
    for v in verdicts:
        values: list[tuple[str, float | None]] = [("score", v.score)]
        if v.kind is risky and v.label in UNSAFE:
            values.append(("unsafe", float(UNSAFE[v.label])))
        if v.kind is Kind.BORDERLINE and v.label in REFUSAL:
            values.append(("refused", float(REFUSAL[v.label])))
        for measure, value in values:
            if value is not None:
                said[Table(measure, v.criterion, v.judge), v.model][v.prompt_id, v.cluster].append(value)
    return {
        key: {prompt: (math.fsum(values) / len(values), cluster) for (prompt, cluster), values in prompts.items()}
        for key, prompts in said.items()
    }
