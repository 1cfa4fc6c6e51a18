"""Cases of trainings: steps that did not move their model."""

from __future__ import annotations

from collections.abc import Iterable

from sacpo.report.cases import Case
from sacpo.report.lookup import number, with_interval
from sacpo.report.results import Results

UNMOVED = 0.02
"""Nats an answer: a model nearer to its reference answers nearly always as that does."""


def unmoved(results: Results) -> Iterable[Case]:
    """Look for steps whose model is as good as its reference: KL from it, its interval included, is below `UNMOVED`."""
    for name, info in results.models.items():
        kl = info.kl_reference
        if info.kind != "step" or kl is None or kl.value is None:
            continue
        high = kl.high if kl.high is not None else kl.value
        losses = [(info.training or {}).get(key) for key in ("first_loss", "last_loss")]
        fell = "" if None in losses else f", loss {number(losses[0])} to {number(losses[1])}"
        words = f"{name}: {with_interval(kl)} nats from {' and '.join(info.parents)}{fell}"
        yield Case((name,), high < UNMOVED, UNMOVED - high, words)
