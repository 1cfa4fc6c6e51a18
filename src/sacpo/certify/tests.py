"""One model against one bound, and all candidates in their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from sacpo.certify.bounds import KINDS, Bound, Per, by_category, of_kinds
from sacpo.certify.labels import METHODS, Method, counts_of
from sacpo.data.records import Verdict
from sacpo.errors import DataError
from sacpo.measure.items import Item, cluster_means, items_of
from sacpo.plain import JsonMapping, JsonObject
from sacpo.stats.bounded import cvar_bound, cvar_p, in_range, lowest_mean, mean_bound, mean_p
from sacpo.stats.certificates import (
    betting_bound,
    betting_p,
    binomial_bound,
    binomial_p,
    fixed_sequence,
    prompts_needed,
)

EXACT, BETTING = "exact binomial", "betting on cluster means"
TAIL = "the distribution function's band"
MOST_CLEAN = 2**20


@dataclass(frozen=True, slots=True)
class Tested:
    """A model against one bound.

    Attributes:
        bound: `Bound.key`.
        test: EXACT, BETTING or TAIL.
        p: The p-value of "the bound is violated".
        passed: p is at most delta.
        value: The mean over clusters; what could not be read counts against the model.
        limit: The one-sided bound that these data alone would certify at this level.
        clusters: Independent prompts or groups of prompts.
        items: Judged answers among them.
        unread: Answers without a verdict that could be read.
        needed: Prompts at which a model of this measured rate passes with 80 %; None: no number does.
        labels: Answers with a true label; 0: none was used.
        missed: Bad ones among them that the judge did not call bad.
        estimate: Prediction-powered mean and standard error, an estimate only; None without labels.
        category: The worst category, which all of this is of; None: all prompts together.
        categories: What each category shows, by its name; None: they were not told apart.
    """

    bound: str
    test: str
    p: float
    passed: bool
    value: float
    limit: float
    clusters: int
    items: int
    unread: int
    needed: int | None
    labels: int = 0
    missed: int = 0
    estimate: list[float] | None = None
    category: str | None = None
    categories: JsonObject | None = None

    def to_json(self) -> JsonObject:
        """Return the test JSON-ready; categories only where they were told apart."""
        found = asdict(self)
        return found if self.categories is not None else {k: v for k, v in found.items() if k not in OF_CATEGORIES}


OF_CATEGORIES = ("category", "categories")
SHOWN = ("p", "passed", "value", "limit", "clusters")
"""What is kept of each category."""


def check(verdicts: Sequence[Verdict], bound: Bound, delta: float, per: Per | None = None) -> Tested:
    """Test one model against one bound: over all prompts, or within each category.

    A bound holds within each category when every category's p-value is at most delta (intersection-union: nothing is
    divided by their number), so its p-value is that of the worst category.

    Raises:
        DataError: There is nothing to test.
    """
    if per is None:
        return _check(verdicts, bound, delta)
    counted = of_kinds(bound, verdicts) if bound.metric in KINDS else _of_criterion(bound, verdicts)
    if not counted:
        return _check(verdicts, bound, delta)  # which says that nothing counts
    found = {name: _check(own, bound, delta) for name, own in by_category(counted).items()}
    sign = 1 if bound.side == "at_most" else -1
    worst = max(found, key=lambda name: (found[name].p, sign * found[name].limit))  # of two hopeless ones the farther
    shown = {name: {key: getattr(one, key) for key in SHOWN} for name, one in found.items()}
    return replace(found[worst], category=worst, categories=shown)


def _of_criterion(bound: Bound, verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.criterion == bound.criterion]


def _check(verdicts: Sequence[Verdict], bound: Bound, delta: float) -> Tested:
    """Test one model against one bound on all of some verdicts.

    The exact test is used for a rate where every cluster has one judged answer, the betting test elsewhere. Which of
    them is used does not depend on what was said.

    Raises:
        DataError: There is nothing to test.
    """
    items = items_of(verdicts, bound.metric, bound.criterion)
    model = verdicts[0].model if verdicts else "?"
    if not items:
        raise DataError(
            f"no verdict of model '{model}' counts in '{bound.key}'",
            where=f"constraints: {bound.key}",
            do="judge its answers by such a judge, and tell the prompts' kinds (see docs/certificates.md)",
        )
    if bound.range is not None:
        return _check_scores(verdicts, items, bound, delta)
    means = np.array(cluster_means(items, unread=1.0 if bound.side == "at_most" else 0.0))
    n, value = len(means), float(means.mean())
    exact = bound.metric != "win_rate" and n == len(items)
    if exact:
        events = int(means.sum())
        p = float(binomial_p(events, n, bound.value, bound.side))
        limit = binomial_bound(events, n, 1 - delta, bound.side)
    else:
        p = float(betting_p(means, bound.value, bound.side))
        limit = betting_bound(means, 1 - delta, bound.side)
    needed = prompts_needed(bound.value, 1 - delta, bound.side, rate=value).expected if exact else None
    unread = sum(item.value is None for item in items)
    return Tested(bound.key, EXACT if exact else BETTING, p, p <= delta, value, limit, n, len(items), unread, needed)


def _check_scores(verdicts: Sequence[Verdict], items: Sequence[Item], bound: Bound, delta: float) -> Tested:
    """Test a mean of scores, or of the lowest of them, within the declared range.

    Raises:
        DataError: A score is outside; or the lowest are asked for and are not independent.
    """
    assert bound.range is not None
    check_range_of(verdicts, bound)
    low, high = bound.range
    scores = np.clip(cluster_means(items, unread=high if bound.side == "at_most" else low), low, high)
    n, unread = len(scores), sum(item.value is None for item in items)
    if bound.tail is None:
        p, value = mean_p(scores, bound.value, bound.range, bound.side), float(scores.mean())
        limit = mean_bound(scores, 1 - delta, bound.range, bound.side)
    else:
        if n < len(items):
            raise DataError(TAIL_ALONE, where=bound.key, value=f"{len(items)} of {n} clusters", do=TAIL_DO)
        losses, worst = -scores, (-high, -low)
        p, value = cvar_p(losses, -bound.value, bound.tail, worst), lowest_mean(scores, bound.tail)
        limit = -cvar_bound(losses, bound.tail, 1 - delta, worst)
    return Tested(
        bound=bound.key,
        test=BETTING if bound.tail is None else TAIL,
        p=p,
        passed=p <= delta,
        value=value,
        limit=limit,
        clusters=n,
        items=len(items),
        unread=unread,
        needed=None,
    )


TAIL_ALONE = "the lowest scores are certified only where every independent prompt has one judged answer"
TAIL_DO = "judge one answer a cluster, or say unit: prompt if prompts are independent draws"


def check_range_of(verdicts: Iterable[Verdict], bound: Bound) -> None:
    """Refuse scores outside a bound's declared range, or that are no numbers.

    Raises:
        DataError: There are some.
    """
    scores = [v.score for v in verdicts if v.criterion == bound.criterion and v.score is not None]
    if bound.range is not None and scores:
        in_range(scores, bound.range)


def check_labelled(
    verdicts: Sequence[Verdict], truth: Sequence[Verdict], bound: Bound, delta: float, method: Method
) -> Tested:
    """Test one model's true rate against one bound, by what a judge said and true labels of some answers.

    Raises:
        DataError: As of `counts_of`.
    """
    plain, counts = check(verdicts, bound, delta), counts_of(verdicts, truth, bound)
    p = counts.p(method, bound.value)
    return replace(
        plain,
        test=METHODS[method],
        p=p,
        passed=p <= delta,
        limit=counts.limit(method, delta),
        needed=None,
        labels=counts.labels,
        missed=counts.missed,
        estimate=counts.estimate,
    )


def least_p(clusters: int, bound: Bound, *, once: bool) -> float:
    """Return the least p-value that so many clusters can give: all of them clean; `once`: one answer each."""
    if clusters == 0:
        return 1.0
    clean = bound.side == "at_least"
    if bound.range is not None:
        low, high = bound.range
        best = np.full(clusters, high if clean else low)
        if bound.tail is not None:
            return cvar_p(-best, -bound.value, bound.tail, (-high, -low))
        return mean_p(best, bound.value, bound.range, bound.side)
    if bound.metric == "win_rate" or not once:
        return float(betting_p(np.full(clusters, float(clean)), bound.value, bound.side))
    return float(binomial_p(clusters * clean, clusters, bound.value, bound.side))


def fewest(bound: Bound, delta: float) -> int | None:
    """Return the least number of prompts, one answer each, that can certify a bound; None: more than `MOST_CLEAN`."""
    if bound.range is None:
        return prompts_needed(bound.value, 1 - delta, bound.side, betting=bound.metric == "win_rate").clean
    low, high = 0, 1
    while least_p(high, bound, once=True) > delta:
        low, high = high, 2 * high
        if high > MOST_CLEAN:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if least_p(middle, bound, once=True) <= delta else (middle, high)
    return high


def run_tests(
    plan: JsonMapping,
    bounds: Sequence[Bound],
    said: Mapping[str, list[Verdict]],
    truth: Mapping[str, list[Verdict]] | None = None,
) -> JsonObject:
    """Test candidates in the plan's order until the first that fails; those after it are not looked at.

    Args:
        plan: The plan; its `labels` say how true labels are used.
        bounds: Its bounds.
        said: The judge's verdicts on certification answers, by model.
        truth: True labels of some of them, by model; None: the judge is taken at its word.

    Returns:
        `certified`: the chosen one or None; `all_certified`: in order; `candidates`: each tested one with its checks;
        `not_tested`: the others.
    """
    order, delta = plan["order"], plan["delta"]
    checks: list[list[Tested]] = []
    passed: list[bool] = []
    for one in order:
        own, known = said[one["model"]], (truth or {}).get(one["model"], [])
        method = plan.get("labels")
        checks.append(
            [
                check_labelled(own, known, b, delta, method) if method else check(own, b, delta, plan.get("per"))
                for b in bounds
            ]
        )
        passed = fixed_sequence(np.array([[found.p for found in of_one] for of_one in checks]), delta).tolist()
        if not passed[-1]:
            break
    tested = [
        {"model": one["model"], "certified": holds, "checks": [found.to_json() for found in of_one]}
        for one, holds, of_one in zip(order, passed, checks, strict=False)
    ]
    certified = [one for one, holds in zip(order, passed, strict=False) if holds]
    chosen = max(certified, key=lambda one: one["objective"] or 0.0, default=None)  # of equals the first
    return {
        "certified": None if chosen is None else chosen["model"],
        "all_certified": [one["model"] for one in certified],
        "candidates": tested,
        "not_tested": [one["model"] for one in order[len(tested) :]],
    }
