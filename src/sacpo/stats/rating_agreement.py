"""How far judges that score the same single answers are apart."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from sacpo.data.records import Verdict
from sacpo.plain import JsonObject
from sacpo.stats.intervals import mean_interval
from sacpo.stats.labels import ratings

Item = tuple[str, str, int, str]
Scores = dict[Item, list[float]]


def rating_agreement(verdicts: Sequence[Verdict]) -> list[JsonObject]:
    """Compare every two judges that score single answers by one criterion; repeats of a judge are averaged.

    Args:
        verdicts: Distinct ones.

    Returns:
        One table a criterion with two judges or more that score the same answer, sorted: `criterion`, `kind` "rating",
        `raters` and `pairs`, each `first`, `second`, `difference`, the mean of the first's score minus the second's,
        and `distance`, the mean of its absolute value, in units of the scale. Answers that one of the two gave no
        score are left out and counted. Intervals are clustered by prompt cluster.
    """
    said: dict[str, dict[str, Scores]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    clusters: dict[str, str] = {}
    for v in ratings(verdicts):
        own = said[v.criterion][v.judge][v.prompt_id, v.model, v.sample, v.answer_hash]
        own += [] if v.score is None else [v.score]
        clusters[v.prompt_id] = v.cluster
    tables = []
    for criterion, judges in sorted(said.items()):
        found = [_pair(one, other, judges, clusters) for one, other in combinations(sorted(judges), 2)]
        pairs = [pair for pair in found if pair["difference"]["n"]]
        if pairs:
            tables.append({"criterion": criterion, "kind": "rating", "raters": sorted(judges), "pairs": pairs})
    return tables


def _pair(first: str, second: str, judges: Mapping[str, Scores], clusters: Mapping[str, str]) -> JsonObject:
    shared = sorted(judges[first].keys() & judges[second].keys())
    read = [item for item in shared if judges[first][item] and judges[second][item]]
    gaps = [_mean(judges[first][item]) - _mean(judges[second][item]) for item in read]
    names, unread = [clusters[item[0]] for item in read], len(shared) - len(read)
    return {
        "first": first,
        "second": second,
        "difference": mean_interval(gaps, names, unparsed=unread).to_json(),
        "distance": mean_interval([abs(gap) for gap in gaps], names, unparsed=unread).to_json(),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
