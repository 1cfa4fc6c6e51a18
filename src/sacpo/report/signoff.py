"""The first screen, for the person who signs off: the bound, the answer, the certificate, the cost, three examples.

No code name of a model stands here: there is the model before alignment, and the chosen one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sacpo.report.certified import Certificate, CertifiedBound
from sacpo.report.lookup import bound_words, known, label, measure_of, number, shown_model, with_interval
from sacpo.report.results import Constraint, Results, Selection, ShownAnswer, ShownPrompt

KINDS = ("restricted", "borderline", "ordinary")
ASKS = {
    "restricted": "should not be complied with",
    "borderline": "sounds risky, is harmless",
    "ordinary": "harmless",
}
SHOWN = 3
UNCERTIFIED = (
    "None: the figures are estimates, and no prompts were kept unseen to test the bound on (role: certification)."
)
FAILED = "None: the bound was tested on prompts kept unseen, and no model passed. The figures are estimates."
CLOSED = "None: prompts were kept unseen to test the bound on, and were not looked at. The figures are estimates."
REFUSED = "over_refusal_rate"
OF_KIND = {"unsafe_rate": "restricted", "refusal_rate": "restricted", REFUSED: "borderline"}
"""The kind of prompts that a rate is of, where prompts have kinds."""
EVEN = " (50 %: as helpful as before)"


@dataclass(frozen=True)
class Line:
    """One statement: what it is about, in words, and whether it is good or bad news ("" for neither)."""

    about: str
    text: str
    mood: str = ""


@dataclass(frozen=True)
class Example:
    """A prompt with the answers before alignment and of the chosen model."""

    prompt: str
    kind: str
    before: ShownAnswer
    after: ShownAnswer


@dataclass(frozen=True)
class SignOff:
    """The first screen.

    Attributes:
        lines: The statements.
        chosen: What the model that is shown is called: "the chosen model", or the nearest where none was chosen.
        before: What the baseline is called.
        examples: The first prompt of each kind.
    """

    lines: tuple[Line, ...]
    chosen: str
    before: str
    examples: tuple[Example, ...]


def sign_off(results: Results, answers: Sequence[ShownPrompt]) -> SignOff | None:
    """Return the first screen; None where nothing was selected."""
    selection, model = results.selection, shown_model(results)
    if selection is None or model is None:
        return None
    chosen = "the chosen model" if selection.chosen is not None else "the nearest model (none was chosen)"
    lines = [*_bound(results, selection), *_answer(results, selection, model), *_cost(results, selection, model)]
    before = "before alignment" if results.models[results.baseline].kind == "base" else "the baseline"
    return SignOff(tuple(lines), chosen, before, tuple(_examples(answers, results.baseline, model)))


def _bound(results: Results, selection: Selection) -> Iterator[Line]:
    words = " and ".join(bound_words(constraint) + _asked(results, constraint) for constraint in selection.constraints)
    yield Line("The bound", words or "none was set: the model was chosen for helpfulness alone")


def _asked(results: Results, constraint: Constraint) -> str:
    """Say which prompts a rate is of, where not all of the set are."""
    kind = OF_KIND.get(constraint.metric)
    known = results.prompts.get(constraint.prompts)
    return f" (of answers to {kind} prompts)" if kind is not None and known is not None and kind in known.kinds else ""


def _answer(results: Results, selection: Selection, model: str) -> Iterator[Line]:
    n, feasible = len(selection.models), sum(candidate.feasible for candidate in selection.models.values())
    if selection.chosen is None:
        yield Line("The answer", f"No: none of {n} models meets the bound. What follows is of the nearest one.", "bad")
    elif selection.constraints and not selection.models[model].feasible:  # one of `certify.candidates`
        yield Line(
            "The answer",
            f"Only by the certificate: on the prompts that models were chosen with, {feasible} of {n} models meet the "
            "bound, and the chosen one is not among them.",
        )
    elif selection.constraints:
        certified = results.certificate is not None and results.certificate.certified == model
        which = "the certified one" if certified else "the one"
        yield Line(
            "The answer",
            f"Yes, on the prompts that models were chosen with: {feasible} of {n} models meet the bound there, and of "
            f"these {which} with the best {label(selection.objective.key)} was chosen.",
            "good",
        )
    else:
        yield Line("The answer", f"Of {n} models the one with the best {label(selection.objective.key)} was chosen.")
    yield from (_checked(results, model, constraint) for constraint in selection.constraints)
    if selection.constraints:
        yield _certificate(results.certificate, model)


def _checked(results: Results, model: str, constraint: Constraint) -> Line:
    """Say what new prompts, which nothing was chosen with, say of a bound."""
    found = measure_of(results, model, constraint.key)
    about, ends = "On new prompts", known(found)
    if ends is None:
        return Line(about, f"{label(constraint.key)}: not measured.", "bad")
    value, low, high = ends
    words = f"{label(constraint.key)} {with_interval(found, constraint.key)}, 95 % interval"
    most = constraint.at_most is not None
    if (value > constraint.bound) if most else (value < constraint.bound):
        return Line(about, f"{words}: the bound is broken.", "bad")
    if (high > constraint.bound) if most else (low < constraint.bound):
        return Line(about, f"{words}: within the bound, but the interval reaches beyond it.")
    return Line(about, f"{words}: the whole interval is within the bound.", "good")


def _certificate(certificate: Certificate | None, model: str) -> Line:
    """Say whether prompts that the choice has not seen certify the bound; the sentence with its figures is below."""
    about = "The certificate"
    if certificate is None:
        return Line(about, UNCERTIFIED)
    if certificate.certified != model:
        return Line(about, FAILED if certificate.candidates else CLOSED, "bad")
    on = f" on {certificate.population}" if certificate.population else ""
    tested = [one for one in certificate.candidates if one.model == model]
    seen = "; ".join(_seen(check) for one in tested for check in one.checks)
    text = f"Yes: with {100 * certificate.confidence:.10g} % confidence the bound holds{on}."
    return Line(about, f"{text} Seen on these prompts: {seen}." if seen else text, "good")


def _seen(check: CertifiedBound) -> str:
    value, limit = (number(one, check.bound) for one in (check.value, check.limit))
    return f"{label(check.bound)} {value}, {check.clusters:,} independent units; alone they would allow to say {limit}"


def _cost(results: Results, selection: Selection, model: str) -> Iterator[Line]:
    """Say what the bound costs in the objective, and in refusals of harmless prompts."""
    key = selection.objective.key
    values = {
        name: candidate.objective.value
        for name, candidate in selection.models.items()
        if candidate.objective is not None and candidate.objective.value is not None
    }
    own = measure_of(results, model, key)
    about = "What it costs"
    what = label(key)
    even = ""
    if key.startswith("win_rate/") and results.models[results.baseline].kind == "base":
        what, even = f"{what} against the model before alignment", EVEN
    if selection.constraints and values and own is not None:
        free = max(values, key=lambda name: values[name])
        best = measure_of(results, free, key)
        if free == model:
            yield Line(about, f"Nothing: {what} {with_interval(own, key)}{even}; no model without the bound has more.")
        elif best is not None:
            without = with_interval(best, key)
            text = f"{what} {with_interval(own, key)}{even}; the best model without the bound has {without}."
            yield Line(about, text)
    refused = measure_of(results, model, REFUSED)
    if refused is not None:
        before = measure_of(results, results.baseline, REFUSED)
        was = "" if before is None else f"; before alignment {number(before.value, REFUSED)}"
        rate = with_interval(refused, REFUSED)
        yield Line("Refused needlessly", f"{rate} of harmless prompts that sound risky{was}.")


def _examples(answers: Sequence[ShownPrompt], baseline: str, model: str) -> Iterator[Example]:
    """Give the first prompt of each kind, whatever was answered; the first ones where kinds are not known."""
    both = [prompt for prompt in answers if baseline in prompt.answers and model in prompt.answers]
    first = [next((prompt for prompt in both if prompt.kind == kind), None) for kind in KINDS]
    for prompt in [prompt for prompt in first if prompt is not None] or both[:SHOWN]:
        yield Example(prompt.prompt, ASKS.get(prompt.kind, ""), prompt.answers[baseline], prompt.answers[model])
