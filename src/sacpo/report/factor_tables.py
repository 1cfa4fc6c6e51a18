"""The page's section on factors that the run chose: what each promised before a training, and which was taken."""

from __future__ import annotations

from collections.abc import Mapping

from sacpo.recipe.metrics import metric_key
from sacpo.report.factors import FactorChoice, FactorsTried
from sacpo.report.lookup import label, number
from sacpo.report.results import Results
from sacpo.report.search_tables import Story
from sacpo.report.tables import Cell, Row, Table

SHOWN = 12
"""Choices in the table: those with the highest scores that meet the bounds first; results.json has all."""
RATES = ("unsafe_rate", "over_refusal_rate")


def factor_stories(results: Results) -> list[Story]:
    """Return how the factors of each step's weights were chosen."""
    return [Story(tuple(sentences(step, found)), _table(step, found)) for step, found in results.factors.items()]


def sentences(step: str, found: FactorChoice) -> list[str]:
    """Say what was looked at, what was taken and why."""
    taken = _words(found.factors)
    why = (
        f"of those that meet every bound they promise the highest mean score of {found.objective}"
        if found.met
        else "none meets every bound, and they come nearest"
    )
    return [
        f"{found.samples} answers of the SFT model to each of {found.prompts} tuning prompts were judged, and weighed "
        f"with {len(found.tried)} choices of factors of the weights of {step}, before it was trained.",
        f"{taken} was taken: {why}. A training adds its own error to what weights promise.",
        *(f"{note[:1].upper()}{note[1:]}." for note in found.notes),
    ]


def _table(step: str, found: FactorChoice) -> Table:
    rates = [name for name in RATES if getattr(found.tried[0], name) is not None]
    score = metric_key("mean_score", found.objective)
    means = [metric_key("mean_score", name) for name in found.tried[0].means if name != found.objective]
    head = ["factors", *map(label, (score, *rates, *means)), "KL", "effective samples", "bounds"]
    places = sorted(range(len(found.tried)), key=lambda place: _order(found.tried[place], place == found.chosen))
    rows = [_row(found.tried[place], rates, means, place == found.chosen) for place in places[:SHOWN]]
    more = f"; {SHOWN} of {len(places)}" if len(places) > SHOWN else ""
    caption = f"What weights with these factors promise of {step}, on tuning prompts{more}"
    return Table(caption, tuple(head), tuple(rows))


def _words(factors: Mapping[str, float]) -> str:
    return ", ".join(f"{number(factor)} \u00d7 {name}" for name, factor in factors.items())


def _order(one: FactorsTried, taken: bool) -> tuple[bool, bool, float]:
    return not taken, not (one.met and one.enough), -one.objective.value


def _row(one: FactorsTried, rates: list[str], means: list[str], taken: bool) -> Row:
    figures = [(name, getattr(one, name)) for name in rates]
    mark, mood = ("✓", "good") if one.met else ("✗", "bad")
    return Row(
        _words(one.factors),
        (
            Cell(number(one.objective.value)),
            *(Cell(number(figure.value, name)) for name, figure in figures),
            *(Cell(number(one.means[name.partition("/")[2]])) for name in means),
            Cell(number(one.kl.value)),
            Cell(number(one.ess)),
            Cell(mark if one.enough else f"{mark}, too few samples", "", mood if one.enough else "bad"),
        ),
        taken,
    )
