"""One model against one bound, and all candidates in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sacpo.certify.bounds import Bound
from sacpo.certify.labels import METHODS, Method, counts_of
from sacpo.data.records import Verdict
from sacpo.errors import DataError
from sacpo.measure.items import cluster_means, items_of
from sacpo.stats.certificates import (
    betting_bound,
    betting_p,
    binomial_bound,
    binomial_p,
    fixed_sequence,
    prompts_needed,
)

EXACT, BETTING = "exact binomial", "betting on cluster means"


@dataclass(frozen=True, slots=True)
class Tested:
    """A model against one bound.

    Attributes:
        bound: `Bound.key`.
        test: EXACT or BETTING.
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


def check(verdicts: Sequence[Verdict], bound: Bound, delta: float) -> Tested:
    """Test one model against one bound.

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
    if bound.metric == "win_rate" or not once:
        return float(betting_p(np.full(clusters, float(clean)), bound.value, bound.side))
    return float(binomial_p(clusters * clean, clusters, bound.value, bound.side))


def run_tests(
    plan: Mapping[str, Any],
    bounds: Sequence[Bound],
    said: Mapping[str, list[Verdict]],
    truth: Mapping[str, list[Verdict]] | None = None,
) -> dict[str, Any]:
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
            [check_labelled(own, known, b, delta, method) if method else check(own, b, delta) for b in bounds]
        )
        passed = fixed_sequence(np.array([[found.p for found in of_one] for of_one in checks]), delta).tolist()
        if not passed[-1]:
            break
    tested = [
        {"model": one["model"], "certified": holds, "checks": [asdict(found) for found in of_one]}
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
