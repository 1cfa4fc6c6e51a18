"""How many prompts a certificate needs, before anything is judged."""

from __future__ import annotations

from collections.abc import Sequence

from sacpo.certify.bounds import Bound, as_given, percent
from sacpo.certify.terms import bounds_of, no_metric
from sacpo.errors import RecipeError
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.metrics import CERTIFIABLE, SCORES
from sacpo.stats.certificates import POWER, Needed, prompts_needed

RATES = [metric for metric in CERTIFIABLE if metric not in SCORES]
"""Metrics whose prompts can be counted before anything is judged."""


def prompts_for(
    constraints: Sequence[JsonMapping], confidence: float = 0.95, rate: float | None = None
) -> list[JsonObject]:
    """Return the independent prompts, with one answer each, that certifying each bound needs.

    Args:
        constraints: As of `certify`.
        confidence: Of the certificate.
        rate: The model's true rate; None: half the bound (of `at_least`: half way from the bound to 1).

    Returns:
        Each bound with `clean`, the prompts needed when nothing bad is seen; `expected`, those that give a model of
        this rate a chance of `power`, None when no number does; and `text`.

    Raises:
        UserError: A bound, the confidence or the rate is out of range.
    """
    if rate is not None and not 0 <= rate <= 1:
        raise RecipeError("a rate is a fraction", where="rate", value=rate, allowed="0 to 1", do="correct it")
    if scores := [metric for constraint in constraints if (metric := constraint.get("metric")) in SCORES]:
        raise RecipeError(
            "the power of a bound on scores depends on how they spread",
            where="constraints",
            value=scores,
            allowed=RATES,
            do="leave it out; certify says how many prompts it needs at least",
        )
    for constraint in constraints:
        if constraint.get("metric") not in RATES:
            raise no_metric(constraint.get("metric"), RATES)
    return [_row(bound, confidence, rate) for bound in bounds_of(constraints)]


def _row(bound: Bound, confidence: float, rate: float | None) -> JsonObject:
    half = bound.value / 2 if bound.side == "at_most" else (1 + bound.value) / 2
    at = half if rate is None else rate
    needed = prompts_needed(bound.value, confidence, bound.side, rate=at, betting=bound.metric == "win_rate")
    text = _text(bound, needed, confidence, at)
    row = {"clean": needed.clean, "rate": at, "power": POWER, "expected": needed.expected, "text": text}
    return {**bound.to_json(), "confidence": confidence, **row}


def _text(bound: Bound, needed: Needed, confidence: float, rate: float) -> str:
    text = (
        f"{bound.words} at {as_given(confidence)} confidence: {needed.clean} independent prompts with one answer each "
        "when all of them are clean"
    )
    if needed.expected is None:
        return f"{text}; a model with a true rate of {percent(rate)} is not certified by any number of prompts"
    return f"{text}; {needed.expected} for a chance of {percent(POWER)} with a true rate of {percent(rate)}"
