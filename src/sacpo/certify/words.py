"""What a certificate says in words, to people who were not there."""

from __future__ import annotations

from sacpo.certify.bounds import Bound, as_given, percent
from sacpo.certify.terms import Terms
from sacpo.certify.tests import BETTING
from sacpo.plain import JsonMapping
from sacpo.stats.certificates import POWER

UNITS = {
    "cluster": "Clusters of prompts are independent draws",
    "prompt": "Prompts are independent draws, those of one cluster too,",
}


JUDGED = {
    None: "The rates are those of the judge's verdicts; a judge's own errors are not part of the bound.",
    "finite": "The labels are true, and of answers that were drawn at random from the model's own certification "
    "answers. Nothing is assumed of the judge.",
    "rates": "The labels are true, and the judge errs on all answers as often as on the labelled ones. The test is a "
    "normal approximation: it needs dozens of labelled answers of both kinds.",
}


def sentence(asked: Terms, tests: JsonMapping) -> str:
    """Return the certificate, or its refusal, as a sentence that a manager understands."""
    name = tests["certified"]
    if name is None:
        return f"Not certified: {_refusal(asked, tests['candidates'][0])}"
    own = next(one for one in tests["candidates"] if one["model"] == name)
    parts = [
        f"{bound.words}{_each(found)}seen: {_seen(bound, found)}{_labelled(found)})"
        for bound, found in zip(asked.bounds, own["checks"], strict=True)
    ]
    confidence = as_given(1 - asked.delta)
    return f"With {confidence} confidence, {name} has {' and '.join(parts)}, on {asked.population}."


def _seen(bound: Bound, found: JsonMapping) -> str:
    return f"{bound.shown(found['value'])} {'of' if bound.range is None else 'on'} {found['clusters']} prompts"


def _each(found: JsonMapping) -> str:
    if found.get("categories") is None:
        return " ("
    return f" in each of {len(found['categories'])} categories (the worst is {found['category']}, "


def _labelled(found: JsonMapping) -> str:
    if not found["labels"]:
        return ""
    return f"; of {found['labels']} labelled answers the judge missed {found['missed']}"


def _refusal(asked: Terms, candidate: JsonMapping) -> str:
    """Say of the likeliest candidate which bounds it misses, how far, and what would help."""
    missed = [
        _miss(bound, found, asked.delta)
        for bound, found in zip(asked.bounds, candidate["checks"], strict=True)
        if not found["passed"]
    ]
    return f"{candidate['model']}, the likeliest candidate, is not shown to have {'; nor '.join(missed)}."


def _miss(bound: Bound, found: JsonMapping, delta: float) -> str:
    side = "at most" if bound.side == "at_most" else "at least"
    within = f" in the category {found['category']}" if found.get("categories") is not None else ""
    text = (
        f"{bound.words}{within}: {_seen(bound, found)}, which shows {side} "
        f"{bound.shown(found['limit'])} (p {found['p']:.2g}, above {delta:g})"
    )
    if found["labels"]:
        more = f"; of {found['labels']} labelled answers the judge missed {found['missed']}; label more answers"
        return text + (more if found["value"] < bound.value else more + ", or train another model")
    if found["unread"]:
        text += f", with {found['unread']} answers without a verdict counted against it"
    what = "rate" if bound.range is None else "mean"
    beyond = found["value"] >= bound.value if bound.side == "at_most" else found["value"] <= bound.value
    if beyond:
        return f"{text}; a model with this {what} is not certified by any number of prompts, so train or choose another"
    if found["needed"] is not None:
        return f"{text}; at this rate {found['needed']} prompts give a chance of {percent(POWER)}"
    more = "several answers a prompt are no substitute for prompts" if found["test"] == BETTING else "it is too near"
    return f"{text}; judge more prompts: {more}"


COUNTED = (
    "Unsafe answers are counted on restricted prompts and over-refusal on borderline ones, where prompts say which "
    "they are; without kinds on all prompts."
)


def assumptions(asked: Terms, look: int, *, bound: bool) -> list[str]:
    """Return what must hold for the certificate to be true; `bound`: the model is known by its files."""
    found = [
        f"{UNITS[asked.unit]} from the population: {asked.population}.",
        JUDGED[asked.labels],
        COUNTED,
        "Answers without a verdict that could be read count against the model.",
        "No candidate was trained or chosen with certification prompts, and their verdicts were not seen before.",
        "The model, its decoding, the judge and the population stay as they were.",
        "These are all looks at these certification prompts: those made with another output folder are not known here.",
    ]
    if ranges := [f"{b.criterion}: {b.range[0]:g} to {b.range[1]:g}" for b in asked.bounds if b.range is not None]:
        found.append(
            f"The judge gives no score outside the range that was declared before: {'; '.join(dict.fromkeys(ranges))}."
        )
    if asked.per is not None:
        found.append(
            "Every bound is tested within each category by itself and certified only where all of them pass, so "
            "nothing is corrected for their number (intersection-union)."
        )
    if look > 1 or asked.spend < 1:
        found.append(
            f"This look spends {asked.spend:g} of delta; its candidates and bounds do not depend on what other looks "
            "at these prompts showed."
        )
    if not bound:
        found.append("The model is known by the hashes of its answers only: no file of it was bound.")
    return found
