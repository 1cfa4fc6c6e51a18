"""A plan for a step: the strength that its constraints need, by samples of the model that it starts from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sacpo.plain import JsonObject
from sacpo.theory.frontier import (
    LEAST_ESS,
    Figure,
    Needed,
    Realised,
    Samples,
    expected,
    frontier,
    lost_support,
    needed,
    rounded,
    strengths_of,
    supported,
)

LEAST_SHARE, MOST_SHARE = 0.1, 1.5
"""Shares of a tilt outside of these are taken for noise."""
LOST = 0.02
"""A larger share of prompts without any safe answer is worth a warning."""
SLIGHT_KL = 0.05


@dataclass(frozen=True)
class Bound:
    """A bound on what a step is to reach.

    Attributes:
        name: The constraint's metric, with its criterion.
        figure: What of the samples it bounds; None: nothing that they tell of.
        value: The bound, in the figure's unit.
    """

    name: str
    figure: Figure | None
    value: float


def forecast(samples: Samples, bounds: Sequence[Bound], before: Realised | None = None, seed: int = 0) -> JsonObject:
    """Predict a step's frontier and recommend its strength.

    Args:
        samples: Of the model that the step starts from.
        bounds: What it is to reach.
        before: How much of its tilt the step before realised; None: not known, and nothing is corrected.
        seed: Of the bootstrap.

    Returns:
        `state` ("found", "already met", "not reached", "not predicted"), `raw` and `corrected` strengths, `supported`
        (where some prompts have no safe answer: the strength that the others need), `start` (where a search begins),
        `ess` at the raw strength and whether it is `believable`, `constraints`, `frontier`,
        `lost_support`, `realised` and `notes`, JSON-ready.

    Raises:
        DataError: The scores do not differ within any prompt, or a figure is not known of the samples.
    """
    found = [None if b.figure is None else needed(samples, b.figure, b.value) for b in bounds]
    known = [one for one in found if one is not None]
    unreachable = any(one.eta is None for one in known)
    eta = None if unreachable or not known else max(one.eta for one in known if one.eta is not None)
    state = "not predicted" if not known else "not reached" if unreachable else "found" if eta else "already met"
    raw = 1 / eta if eta else None
    share = _share(before)
    rest = _where_supported(samples, bounds) if state in ("found", "not reached") else None
    points = frontier(samples, strengths_of(samples), seed)
    ess = expected(samples, eta)["ess"] if eta is not None else None
    lost = None if samples.bank.unsafe is None else dict(zip(("prompts", "of"), lost_support(samples), strict=True))
    return {
        "state": state,
        "raw": None if raw is None else rounded(raw),
        "corrected": None if raw is None or before is None else rounded(raw * share),
        "supported": None if rest is None else rounded(rest),
        "start": _start(points, _begin(raw, rest, lost, bounds) * share, state),
        "ess": ess,
        "believable": None if ess is None else ess >= LEAST_ESS,
        "constraints": [_needed(b, one, samples) for b, one in zip(bounds, found, strict=True)],
        "frontier": points,
        "lost_support": lost,
        "realised": None if before is None else {**asdict(before), "share": share},
        "notes": _notes(state, ess, lost, before, bounds),
    }


def predictions(samples: Samples, strength: float, share: float | None) -> JsonObject:
    """Return what was predicted of a strength: `raw`, and `corrected` by the share of a tilt that trainings realise."""
    return {
        "raw": _figures(samples, 1 / strength),
        "corrected": None if share is None else _figures(samples, share / strength),
    }


def share_of(samples: Samples, figure: Figure, measured: float, strength: float) -> float | None:
    """Return the share of its tilt that a training realised, by what was measured of a figure; None: no share fits."""
    eta = needed(samples, figure, measured).eta
    return strength * eta if eta else None


def _figures(samples: Samples, eta: float) -> dict[str, float]:
    return expected(samples, eta)


def _share(before: Realised | None) -> float:
    """Return the share to correct with; 1 where none was measured."""
    if before is None:
        return 1.0
    return min(max(before.share, LEAST_SHARE), MOST_SHARE)


def _start(points: Sequence[JsonObject], strength: float, state: str) -> float:
    """Return where a search begins: as predicted, else with slight pressure, or the strongest that can be believed."""
    if strength:
        return rounded(strength)
    if state == "already met":
        return next(
            (p["beta_over_lambda"] for p in points if p["kl"]["value"] >= SLIGHT_KL), points[-1]["beta_over_lambda"]
        )
    believed = [p["beta_over_lambda"] for p in points if p["ess"] >= LEAST_ESS]
    return float(min(believed, default=points[0]["beta_over_lambda"]))


def _begin(raw: float | None, rest: float | None, lost: dict[str, int] | None, bounds: Sequence[Bound]) -> float:
    """Return the strength that a search begins with, before it is corrected; 0: there is none.

    Prompts without a safe sample count as unsafe under any pressure. Where they take up more than half of what a bound
    allows, the strength that the other prompts need is the better guess.
    """
    allowed = min((b.value for b in bounds if b.figure == "unsafe_rate"), default=1.0)
    few = lost is None or lost["prompts"] <= allowed / 2 * lost["of"]
    return (raw if few else rest) or rest or raw or 0.0


def _where_supported(samples: Samples, bounds: Sequence[Bound]) -> float | None:
    """Return the strength that the bounds need on prompts with a safe answer; None where that does not help.

    That no safe answer was among a prompt's samples does not say that there is none, but it moves the raw strength to
    any pressure at all, where the other prompts' answers long are as safe as they get.
    """
    if (
        samples.bank.unsafe is None
        or not any(b.figure == "unsafe_rate" for b in bounds)
        or not lost_support(samples)[0]
    ):
        return None
    rest = supported(samples)
    if rest.bank.restricted is not None and not rest.bank.restricted.any():
        return None
    found = [needed(rest, b.figure, b.value) for b in bounds if b.figure is not None]
    etas = [one.eta for one in found if one.eta]
    return 1 / max(etas) if etas and len(etas) == len(found) else None


def _needed(bound: Bound, one: Needed | None, samples: Samples) -> JsonObject:
    """Return what one bound needs; beside a bound on a rate the mean score that comes with it, and the other way."""
    eta = None if one is None else one.eta
    return {
        "name": bound.name,
        "figure": bound.figure,
        "bound": bound.value,
        "strength": None if not eta else rounded(1 / eta),
        "best": None if one is None else one.best,
        "there": None if eta is None else expected(samples, eta),
    }


def _notes(
    state: str, ess: float | None, lost: dict[str, int] | None, before: Realised | None, bounds: Sequence[Bound]
) -> list[str]:
    notes = []
    if state == "not reached":
        notes.append(
            "no strength reaches the bound by these samples: the model that the step starts from gives too few "
            "answers that would"
        )
    if state == "already met":
        notes.append("the model that the step starts from meets the bound already")
    if ess is not None and ess < LEAST_ESS:
        notes.append(
            f"the effective sample size at this strength is {ess:.1f}, below {LEAST_ESS:g}: do not believe the "
            "prediction; draw more samples of every prompt"
        )
    if lost is not None and lost["prompts"] > LOST * lost["of"]:
        notes.append(
            f"{lost['prompts']} of {lost['of']} prompts have no safe answer among the samples: no strength brings back "
            "answers that the model does not give"
        )
    notes += [
        f"{bound.name} is not predicted: these samples do not tell it" for bound in bounds if bound.figure is None
    ]
    if before is None:
        notes.append("not corrected: no step before tells how much of its tilt a training realises")
    elif not LEAST_SHARE <= before.share <= MOST_SHARE:
        notes.append(
            f"the step before realised {'more than any' if math.isinf(before.share) else f'{before.share:.2g}'} of its "
            f"tilt, which is taken for noise: corrected with {_share(before):g}"
        )
    return notes
