"""The page's section on the certificate: candidates in the order of their tests, each with every bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sacpo.report.certified import Certificate, CertifiedBound, CertifiedCandidate, CertifiedCategory
from sacpo.report.lookup import as_given, bound_words, number
from sacpo.report.results import Constraint, Results
from sacpo.report.tables import Cell, Row, Table

NOT_TESTED = "not tested: one before it failed"


@dataclass(frozen=True)
class Section:
    """What the page shows of a certificate.

    Attributes:
        sentence: The certificate, or why there is none.
        table: Candidates against bounds; None: none was tested.
        categories: Each category of a candidate, where bounds hold within categories.
        assumptions: What must hold for it to be true.
    """

    sentence: str
    table: Table | None
    categories: tuple[Table, ...]
    assumptions: tuple[str, ...]


def certificate_section(results: Results) -> Section | None:
    """Return the section; None where no certificate was asked for."""
    certificate = results.certificate
    if certificate is None:
        return None
    bounds = [_bound(bound) for bound in certificate.bounds]
    table = _table(certificate, bounds) if certificate.candidates else None
    return Section(certificate.sentence, table, tuple(_by_category(certificate, bounds)), certificate.assumptions)


def _bound(given: dict[str, Any]) -> tuple[Constraint, str]:
    """Return a certified bound as a constraint, and in words."""
    known = {name: value for name, value in given.items() if name in Constraint.model_fields}
    constraint = Constraint.model_validate({**known, "prompts": ""})
    if given.get("tail") is None:
        return constraint, bound_words(constraint)
    share = as_given(given["tail"], "unsafe_rate")
    return constraint, (
        f"mean of the lowest {share} of {constraint.criterion} scores at least {as_given(constraint.bound)}"
    )


def _table(certificate: Certificate, bounds: list[tuple[Constraint, str]]) -> Table:
    rows = [_row(one, bounds, one.model == certificate.certified) for one in certificate.candidates]
    empty = [Cell("–")] * len(bounds)
    rows += [Row(name, (*empty, Cell(NOT_TESTED))) for name in certificate.not_tested]
    population = f", on {certificate.population}" if certificate.population else ""
    caption = (
        f"Candidates in the order of their tests, with what was seen and the limit that it shows with "
        f"{as_given(certificate.confidence, 'unsafe_rate')} confidence{population}"
    )
    return Table(caption, ("model", *(words for _, words in bounds), "verdict"), tuple(rows))


def _row(candidate: CertifiedCandidate, bounds: list[tuple[Constraint, str]], chosen: bool) -> Row:
    cells = [_cell(one, constraint) for one, (constraint, _) in zip(candidate.checks, bounds, strict=True)]
    verdict = Cell("certified", "chosen", "good") if chosen else Cell("certified", "", "good")
    return Row(candidate.model, (*cells, verdict if candidate.certified else Cell("not certified", "", "bad")), chosen)


def _cell(one: CertifiedBound | CertifiedCategory, constraint: Constraint) -> Cell:
    """Write what was seen, and below it the limit and on how many independent prompts."""
    mark, mood = ("✓", "good") if one.passed else ("✗", "bad")
    side = "at most" if constraint.at_most is not None else "at least"
    small = f"{side} {number(one.limit, constraint.key)}; {one.clusters} prompts"
    if isinstance(one, CertifiedBound):
        small += f" of {one.category}, the worst" if one.category is not None else ""
        small += f"; {one.unread} unread" if one.unread else ""
        small += f"; {one.labels} labels, {one.missed} missed" if one.labels else ""
    return Cell(f"{mark} {number(one.value, constraint.key)}", small, mood)


def _by_category(certificate: Certificate, bounds: list[tuple[Constraint, str]]) -> list[Table]:
    """Show every category of every tested candidate, one table a candidate."""
    tables = []
    for candidate in certificate.candidates:
        pairs = zip(candidate.checks, bounds, strict=True)
        found = [(one.categories, constraint) for one, (constraint, _) in pairs if one.categories is not None]
        names = sorted({name for categories, _ in found for name in categories})
        rows = [
            Row(name, tuple(_cell(c[name], constraint) if name in c else Cell("–") for c, constraint in found))
            for name in names
        ]
        head = ("category", *(words for _, words in bounds))
        tables += [Table(f"{candidate.model} by category", head, tuple(rows))] if rows else []
    return tables
