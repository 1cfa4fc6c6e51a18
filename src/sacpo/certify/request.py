"""A certificate of judged folders: what a user asks, and the plan that follows from the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sacpo.certify.bounds import KINDS, Bound, by_category, of_kinds
from sacpo.certify.judged import Asked, asked_in, folders_of, hashes, verdicts_by_model
from sacpo.certify.plan import SHOWN, Sample, check_apart, check_enough, plan_of
from sacpo.certify.terms import Terms
from sacpo.certify.tests import check_range_of
from sacpo.errors import DataError
from sacpo.plain import JsonObject


@dataclass(frozen=True)
class Request:
    """What a user asks to be certified.

    Attributes:
        terms: What is to be certified.
        tuning, certification: Folders of `judge`.
        bind: Other files and folders whose change voids the certificate.
        labels: Folders with true labels of some certification answers.
    """

    terms: Terms
    tuning: tuple[Path, ...]
    certification: tuple[Path, ...]
    bind: tuple[Path, ...]
    labels: tuple[Path, ...] = ()

    def files(self) -> dict[str, dict[str, str]]:
        """Return every file's hash, by role and path."""
        roles = {"tuning": self.tuning, "certification": self.certification, "bound": self.bind}
        roles |= {"labels": self.labels} if self.labels else {}
        return {role: hashes(paths) for role, paths in roles.items()}


def request(
    asked: Terms,
    tuning: Sequence[str | Path],
    certification: Sequence[str | Path],
    bind: Sequence[str | Path] = (),
    labels: Sequence[str | Path] = (),
) -> Request:
    """Return a checked request; arguments as of `sacpo.certify.certify`."""
    return Request(
        terms=asked,
        tuning=tuple(folders_of(tuning, "tuning")),
        certification=tuple(folders_of(certification, "certification")),
        bind=tuple(Path(path) for path in bind),
        labels=tuple(folders_of(labels, "labels")) if labels else (),
    )


def make_plan(asked: Request, files: Mapping[str, Mapping[str, str]]) -> JsonObject:
    """Return the plan of judged folders.

    Of the certification verdicts only who was asked what is read, not what was said; of scores with a declared range
    also whether they lie in it.

    Raises:
        DataError: Tuning and certification share prompts, candidates differ in their prompts, or no model could ever
            be certified on so few.
    """
    own = asked.terms
    tuning, sealed = (asked_in(paths, own.unit) for paths in (asked.tuning, asked.certification))
    check_apart({one.prompt_id: one.cluster for one in tuning}, {one.prompt_id: one.cluster for one in sealed})
    names = sorted({one.model for one in tuning})
    _check_alike(names, sealed)
    check_enough(own.bounds, [_samples(bound, sealed, own) for bound in own.bounds], own.delta)
    _check_ranges(own.bounds, asked.certification, own.unit)
    if asked.labels:
        unlabelled = {*names} - {one.model for one in asked_in(asked.labels, own.unit)}
        if unlabelled:
            raise DataError(
                "candidates have no labelled certification answers",
                where="labels",
                value=sorted(unlabelled),
                do="label some of every candidate's answers, drawn at random",
            )
    said = verdicts_by_model(asked.tuning, own.unit)
    data = {role: [*found.values()] for role, found in files.items()}
    return plan_of(own, {name: said[name] for name in names}, {one.prompt_id for one in sealed}, data)


def _check_alike(names: Sequence[str], sealed: set[Asked]) -> None:
    """Refuse candidates that were judged on other certification prompts than the first, or not at all."""
    own = {
        name: {replace(one, model="") for one in sealed if one.model == name}
        for name in sorted({*names, *(one.model for one in sealed)})
    }
    for name, found in own.items():
        if not found or name not in names:
            role = "certification" if not found else "tuning"
            raise DataError(
                f"model '{name}' has no {role} verdicts", where=role, do="judge its answers, or leave it out"
            )
        if found != own[names[0]]:
            raise DataError(
                f"models '{names[0]}' and '{name}' were judged on different certification prompts or criteria",
                value=sorted({one.prompt_id for one in found ^ own[names[0]]})[:SHOWN],
                do="judge every candidate on the same prompts",
            )


def _check_ranges(bounds: Sequence[Bound], sealed: Sequence[Path], unit: str) -> None:
    """Refuse certification scores outside a declared range; only whether they lie inside is looked at."""
    ranged = [bound for bound in bounds if bound.range is not None]
    for verdicts in verdicts_by_model(sealed, unit).values() if ranged else ():
        for bound in ranged:
            check_range_of(verdicts, bound)


def _samples(bound: Bound, sealed: set[Asked], terms: Terms) -> list[Sample]:
    """Return what can count in a bound's metric: all that is of the right kind, or by the right criterion."""
    if bound.metric in KINDS:
        found = of_kinds(bound, [*sealed])
    else:
        found = [one for one in sealed if one.criterion == bound.criterion]
    groups = by_category(found) if terms.per is not None and found else {None: found}
    return [Sample(len({one.cluster for one in own}), _once(own), name) for name, own in groups.items()]


def _once(asked: Sequence[Asked]) -> bool:
    """Tell whether some criterion may have judged every cluster once, so that the exact test may be used."""
    for criterion in {one.criterion for one in asked}:
        own = [one for one in asked if one.criterion == criterion]
        if len({(one.prompt_id, one.question) for one in own}) == len({one.cluster for one in own}):
            return True
    return False
