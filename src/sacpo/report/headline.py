"""The answer in plain words: which model was chosen under which bounds, and what it does on report prompts."""

from __future__ import annotations

from dataclasses import dataclass

from sacpo.report.judges import judge_findings
from sacpo.report.lookup import axes, bound_words, known, label, measure_of, number, set_of, shown_model, with_interval
from sacpo.report.part import Measured
from sacpo.report.results import Candidate, Constraint, Results, Selection

SHOWN_RATES = ("unsafe_rate", "over_refusal_rate")


@dataclass(frozen=True)
class Headline:
    """What a reader should take away.

    Attributes:
        answer: One sentence.
        figures: The shown model's figures on report prompts, one sentence each.
        notes: What the figures do not show: misses, bounds that are not certified.
    """

    answer: str
    figures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it as one paragraph."""
        return " ".join([self.answer, *self.figures, *self.notes])


def headline(results: Results) -> Headline:
    """Return the run's answer, from the selection on tuning prompts and the figures on report prompts."""
    model = shown_model(results)
    if results.selection is None or model is None:
        return Headline(_without_choice(results))
    figures = tuple(_sentence(results, model, key) for key in _keys(results) if measure_of(results, model, key))
    notes = [note for constraint in results.selection.constraints for note in _kept(results, model, constraint)]
    if not figures:
        notes.append(f"{model} was not measured on report prompts.")
    if n := len(judge_findings(results)):
        notes.append(f"Read the {'finding' if n == 1 else f'{n} findings'} about the judges beside these figures.")
    return Headline(_certified(results) or _answer(results, results.selection, model), figures, tuple(notes))


def count_words(measured: Measured | None, what: str) -> str:
    """Say a rate as a count with the bound that it supports, such as "0 of 83 unsafe: at most 4.3 %".

    The bound is the upper end of the 95 % interval. "" where the rate is no share of the items or has no interval.
    """
    ends = known(measured)
    if measured is None or ends is None or not measured.n:
        return ""
    count = ends[0] * measured.n
    if abs(count - round(count)) > 1e-6:
        return ""
    return f"{round(count)} of {measured.n} {what}: at most {100 * ends[2]:.1f} %"


def _without_choice(results: Results) -> str:
    models = f"{len(results.models)} model" + ("s" if len(results.models) != 1 else "")
    if results.selection is None:
        return f"No model was chosen, because the recipe sets no objective; {models} to compare."
    why = sorted({candidate.note for candidate in results.selection.models.values() if candidate.note})
    because = f" ({'; '.join(why)})" if why else ""
    return f"No model was chosen: none of {models} could be measured{because}."


def _certified(results: Results) -> str:
    """Return the certificate, or its absence and what was chosen without it; "" where none was asked for."""
    certificate, selection = results.certificate, results.selection
    if certificate is None or selection is None:
        return ""
    if certificate.certified is None:
        name = selection.chosen or selection.nearest or ""
        return f"{certificate.sentence} {_answer(results, selection, name)}"
    n, objective = len(certificate.all_certified), label(selection.objective.key)
    best = f" Of {n} certified models it has the best {objective} on tuning prompts." if n > 1 else ""
    return certificate.sentence + best


def _answer(results: Results, selection: Selection, model: str) -> str:
    bounds = " and ".join(bound_words(constraint) for constraint in selection.constraints)
    objective, n = label(selection.objective.key), len(selection.models)
    if selection.chosen is not None:
        under = f"With {bounds}" if bounds else "Without a constraint"
        return f"{under}, {model} has the best {objective} of {n} models on tuning prompts."
    return f"No model of {n} has {bounds} on tuning prompts; {model} comes nearest{_misses(selection, model)}."


def _misses(selection: Selection, model: str) -> str:
    candidate = selection.models.get(model, Candidate(feasible=False))
    missed = [
        f"{label(constraint.key)} {number(check.value.value, constraint.key)}"
        for constraint, check in zip(selection.constraints, candidate.checks, strict=False)
        if check.met is False and check.value is not None
    ]
    return f" with {' and '.join(missed)}" if missed else ""


def _keys(results: Results) -> list[str]:
    assert results.selection is not None
    keys = [results.selection.objective.key, *(constraint.key for constraint in results.selection.constraints)]
    return list(dict.fromkeys([*keys, *(f"win_rate/{criterion}" for criterion in axes(results)), *SHOWN_RATES]))


def _sentence(results: Results, model: str, key: str) -> str:
    measured = measure_of(results, model, key)
    against = f" against {results.baseline}" if key.startswith("win_rate/") else ""
    words = f"{label(key)}{against} {with_interval(measured, key)}"
    n = f"n = {measured.n}" if measured is not None and measured.n else ""
    counted = count_words(measured, "unsafe") if key == "unsafe_rate" else ""
    detail = ", ".join(part for part in (counted or n, f"prompts: {set_of(results, key)}") if part)
    return f"{words[0].upper()}{words[1:]} [{detail}]."


def _kept(results: Results, model: str, constraint: Constraint) -> list[str]:
    """Compare the report figure and its interval with the bound, which was checked on tuning prompts."""
    ends = known(measure_of(results, model, constraint.key))
    if ends is None:
        return [f"Whether {bound_words(constraint)} holds on report prompts was not measured."]
    value, low, high = ends
    most = constraint.at_most is not None
    if (value > constraint.bound) if most else (value < constraint.bound):
        return [f"On report prompts {model} misses the bound ({bound_words(constraint)})."]
    if (high > constraint.bound) if most else (low < constraint.bound):
        end = number(high if most else low, constraint.key)
        if results.certificate is not None and results.certificate.certified == model:
            words = f"The interval on report prompts reaches {end}, beyond the bound ({bound_words(constraint)})"
            return [f"{words}; the certificate rests on the certification prompts, not on these."]
        return [f"The interval reaches {end}, beyond the bound ({bound_words(constraint)}): it is met, not certified."]
    return [f"The whole interval meets the bound ({bound_words(constraint)})."]
