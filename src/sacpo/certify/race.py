"""Dropping a model early: bounds that are clearly violated show it on the first prompts.

A model answers prompts in a random order, whole clusters at a time. After each round a gambler's capital says how much
speaks against "the bound is met": `K = sum_j w_j prod_i (1 + f_j s_i (x_i - b) / b)` over cluster means x_i, for a rate
of at most b; s_i are the cluster's prompts over those of the largest one, since a rate counts answers, not clusters.
Where the bound is met E[K] <= 1 at every round, and by Ville's inequality K ever reaches 1 / alpha with a chance of at
most alpha, however often one looks. So a model that meets all its bounds is dropped with a chance of at most
1 - confidence: every bound has an equal share of it. A reply that could not be read speaks for the model.

Which models are left is decided on tuning prompts. A certificate is of other prompts, so its level is what it was.

Source: Ville 1939; Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, arXiv 2010.09686.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from sacpo.certify.bounds import KINDS, Bound, of_kinds
from sacpo.data.records import Prompt, Verdict
from sacpo.measure.items import cluster_means, items_of
from sacpo.stats.certificates import Side, betting_p

OTHER: dict[Side, Side] = {"at_most": "at_least", "at_least": "at_most"}


def rounds(prompts: Sequence[Prompt], bounds: Sequence[Bound], first: int, seed: int) -> list[list[int]]:
    """Return the prompts of each round by their places: about `first` in the first, as many as before in the others.

    Clusters come in a random order and stay whole. Those with prompts that count in a bound come first; the last round
    has all others, which can drop nobody.

    Args:
        prompts: The prompt set.
        bounds: The bounds.
        first: Prompts of the first round, at least.
        seed: Of the order.
    """
    members: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        members.setdefault(prompt.cluster, []).append(place)
    counted = {one.cluster for bound in bounds for one in _counting(bound, prompts)}
    names = sorted(members)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    found: list[list[int]] = []
    for name in order:
        if name not in counted:
            continue
        if not found or len(found[-1]) >= max(first, sum(map(len, found[:-1]))):
            found.append([])
        found[-1] += members[name]
    rest = [place for name in order if name not in counted for place in members[name]]
    return [sorted(places) for places in (*found, rest) if places]


def _counting(bound: Bound, prompts: Sequence[Prompt]) -> Sequence[Prompt]:
    return of_kinds(bound, prompts) if bound.metric in KINDS else prompts


def violation_p(verdicts: Sequence[Verdict], bound: Bound, prompts: Sequence[Prompt]) -> float:
    """Return the p-value of "the bound is met" by verdicts so far, valid however often one looks.

    Args:
        verdicts: On one model's answers.
        bound: A rate, or a win rate, inside (0, 1).
        prompts: The whole set: where some of its prompts are restricted, only they count in an unsafe rate.
    """
    if bound.metric in KINDS:
        kinds = {prompt.kind for prompt in _counting(bound, prompts)}
        verdicts = [verdict for verdict in verdicts if verdict.kind in kinds]
    items = items_of(verdicts, bound.metric, bound.criterion)
    if not items:
        return 1.0
    means = np.array(cluster_means(items, unread=0.0 if bound.side == "at_most" else 1.0))
    sizes = Counter({prompt.id: prompt.cluster for prompt in _counting(bound, prompts)}.values())
    shares = np.array([sizes[name] for name in sorted({item.cluster for item in items})]) / max(sizes.values())
    return float(betting_p(shares * means + (1 - shares) * bound.value, bound.value, OTHER[bound.side]))


def violated(
    verdicts: Sequence[Verdict], bounds: Sequence[Bound], prompts: Sequence[Prompt], confidence: float
) -> list[dict[str, Any]]:
    """Return the bounds with their p-values so far, JSON-ready; `violated` at an equal share of 1 - confidence."""
    found = []
    for bound in bounds:
        p = violation_p(verdicts, bound, prompts)
        found.append({"bound": bound.key, "p": p, "violated": p <= (1 - confidence) / len(bounds)})
    return found
