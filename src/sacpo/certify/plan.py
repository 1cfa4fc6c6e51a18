"""The plan of a certificate: everything that is decided before a certification verdict is looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sacpo.certify.bounds import KINDS, Bound, as_given, by_category, of_kinds
from sacpo.certify.terms import Terms
from sacpo.certify.tests import MOST_CLEAN, TAIL_ALONE, TAIL_DO, check, fewest, least_p
from sacpo.data.records import Kind, Prompt, Verdict, text_hash
from sacpo.errors import DataError
from sacpo.measure.items import objective_of
from sacpo.plain import JsonObject
from sacpo.recipe.metrics import metric_key
from sacpo.stats.certificates import order_of
from sacpo.stats.judge_error import union_limit

SHOWN = 3
RULE = (
    "candidates in this order, each bound at level delta, until the first candidate that fails one; "
    "of the certified ones the best objective on tuning prompts"
)


@dataclass(frozen=True)
class Sample:
    """What certification prompts offer to one bound.

    Attributes:
        clusters: Independent units.
        once: Each of them may have one judged answer only, so that the exact test may be used.
        category: Of these prompts; None: of all that count.
    """

    clusters: int
    once: bool
    category: str | None = None


def plan_of(
    terms: Terms,
    said: Mapping[str, Sequence[Verdict]],
    prompts: Iterable[str],
    data: Mapping[str, Sequence[str]],
    most: int | None = None,
    goal: Mapping[str, Sequence[Verdict]] | None = None,
) -> JsonObject:
    """Return the plan: bounds, level, order and data, from tuning verdicts alone.

    Args:
        terms: What is to be certified.
        said: Tuning verdicts of every candidate.
        prompts: The ids of the certification prompts.
        data: Hashes of what the certificate is about, by role.
        most: Candidates that are tested; the likeliest.
        goal: Tuning verdicts that the objective is of; None: all of `said`.

    Raises:
        DataError: The objective of a candidate was not measured, or nothing counts in a bound.
    """
    names = sorted(said)
    p = np.array([[check(said[name], bound, terms.delta, terms.per).p for bound in terms.bounds] for name in names])
    values = _objective(terms, names, said if goal is None else goal)
    order = order_of(p, [values.get(name, 0.0) for name in names], names)[:most]
    return {
        "bounds": [bound.to_json() for bound in terms.bounds],
        "objective": terms.objective,
        "confidence": terms.confidence,
        "spend": terms.spend,
        "delta": terms.delta,
        "rule": RULE,
        "order": [
            {"model": names[i], "tuning_p": [float(one) for one in p[i]], "objective": values.get(names[i])}
            for i in order
        ],
        "population": terms.population,
        "unit": terms.unit,
        "labels": terms.labels,
        "per": terms.per,
        "prompts": sorted({text_hash(one) for one in prompts}),
        "data": {role: sorted(found) for role, found in data.items()},
    }


def _objective(terms: Terms, names: Sequence[str], said: Mapping[str, Sequence[Verdict]]) -> dict[str, float]:
    if terms.objective is None:
        return {}
    key = metric_key(terms.objective["metric"], terms.objective["criterion"])
    found = {name: value for name in names if (value := objective_of(said[name], key)) is not None}
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"no tuning folder measures the objective '{key}' of some models",
            value=missing,
            do="judge their tuning answers by it, or leave the objective out",
        )
    return found


def check_apart(tuning: Mapping[str, str], sealed: Mapping[str, str]) -> None:
    """Refuse prompts, or clusters of prompts, that the order and the test would share.

    Args:
        tuning, sealed: The cluster of every prompt, by its id; where prompts are the units, each is its own.

    Raises:
        DataError: Something is shared.
    """
    for what, seen, hidden in (
        ("prompts", {*tuning}, {*sealed}),
        ("clusters", {*tuning.values()}, {*sealed.values()}),
    ):
        shared = sorted(seen & hidden)
        if shared:
            raise DataError(
                f"tuning and certification share {len(shared)} {what}; the choice has seen them",
                where="certification",
                value=shared[:SHOWN],
                do="certify on prompts that nothing was chosen with"
                + ("; unit prompt if prompts of one cluster are independent draws" * (what == "clusters")),
            )


def check_enough(bounds: Sequence[Bound], samples: Sequence[Sequence[Sample]], delta: float) -> None:
    """Refuse a look that no model could pass, before it is spent.

    Args:
        bounds: The bounds.
        samples: What every bound has: one sample, or one a category.
        delta: The level.

    Raises:
        DataError: The prompts are too few; the message has the number needed. Or some have no category.
    """
    for bound, sample in [(bound, sample) for bound, own in zip(bounds, samples, strict=True) for sample in own]:
        if sample.category == "":
            raise DataError(
                f"{sample.clusters} prompts that count in {bound.key} have no category",
                where="certify.per",
                do="name the category of every certification prompt, or leave 'per' out",
            )
        if bound.tail is not None and not sample.once:
            raise DataError(TAIL_ALONE, where=bound.key, value=f"{sample.clusters} clusters", do=TAIL_DO)
        within = "" if sample.category is None else f" of category '{sample.category}'"
        best = "clean" if bound.range is None else "of the best score"
        if least_p(sample.clusters, bound, once=sample.once) > delta:
            needed = fewest(bound, delta) or f"more than {MOST_CLEAN}"
            raise DataError(
                f"{sample.clusters} independent prompts{within} are too few to certify {bound.words}, "
                "whatever the model does",
                where="certification",
                value=sample.clusters,
                allowed=f"{needed} or more with one answer each, all of them {best}; more with several answers",
                do="judge more certification prompts; no look was spent",
            )


def check_labels(terms: Terms, samples: Sequence[Sequence[Sample]], labels: int, sealed: Sequence[Prompt]) -> list[str]:
    """Refuse labels that cannot correct a bound, and return of which kinds of prompts there are fewer than labels.

    They cannot where prompts are not independent, or labels too few.

    Raises:
        DataError: See above.
    """
    for bound, (sample,) in zip(terms.bounds, samples, strict=True):
        if not sample.once:
            raise DataError(
                "labels correct a rate only where every independent prompt has one judged answer",
                where="certify.unit",
                value=terms.unit,
                do="take one prompt a cluster, or say unit: prompt if prompts are independent draws",
            )
        n = min(labels, sample.clusters)
        if terms.labels == "finite" and union_limit(0, sample.clusters, 0, n, terms.delta) > bound.value:
            raise DataError(
                f"{n} labels of {sample.clusters} answers are too few for {bound.words}, whatever the model does",
                where="certify.labels.n",
                value=labels,
                allowed=f"more: half of delta is for what the judge misses among them, at most {as_given(bound.value)}",
                do="label more answers, or certify on more prompts; no look was spent",
            )
    return fewer_labels(labels, terms.kinds, Counter(prompt.kind for prompt in sealed))


def fewer_labels(asked: int, kinds: Sequence[Kind], there: Mapping[Kind, int]) -> list[str]:
    """Return of which kinds of prompts fewer answers can be labelled than the labels that are asked for.

    Args:
        asked: Labels of each kind.
        kinds: The kinds that the bounds count.
        there: How many prompts there are of each kind; unknown ones stand for restricted ones where there are none.
    """
    counts = {kind: there.get(kind, 0) for kind in kinds}
    if counts.get(Kind.RESTRICTED) == 0:
        counts[Kind.RESTRICTED] = there.get(Kind.UNKNOWN, 0)
    return [
        f"certify.labels: n is {asked:,}, and there are {n:,} {kind.value} prompts: all of their answers are labelled"
        for kind, n in counts.items()
        if n < asked
    ]


def samples_of(bound: Bound, prompts: Sequence[Prompt], terms: Terms) -> list[Sample]:
    """Return what prompts will offer to a bound once they are answered, each once: in all, or in each category."""
    found = of_kinds(bound, prompts) if bound.metric in KINDS else [*prompts]
    groups = by_category(found) if terms.per is not None and found else {None: found}
    return [_sample(members, terms.unit, category) for category, members in groups.items()]


def _sample(members: Sequence[Prompt], unit: str, category: str | None) -> Sample:
    clusters = {unit_of(prompt.cluster, prompt.id, unit) for prompt in members}
    return Sample(len(clusters), len(clusters) == len(members), category)


def unit_of(cluster: str, prompt: str, unit: str) -> str:
    """Return what a prompt's draw is called: its cluster, or itself where prompts are the units."""
    return cluster if unit == "cluster" else prompt
