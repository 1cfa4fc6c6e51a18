"""The schema of `results.json` as a Markdown page."""

from __future__ import annotations

import re
from typing import Any

from sacpo.report import results
from sacpo.report.certified import Certificate, CertifiedBound, CertifiedCandidate, CertifiedCategory
from sacpo.report.factors import FactorBound, FactorChoice, FactorsTried
from sacpo.report.part import Measured, Part
from sacpo.report.paths import Fidelity, PathCheck, PathPoint, PathSearch
from sacpo.report.raced import RaceBound, RaceOutcome, RaceRound
from sacpo.report.results import (
    FORMAT,
    Candidate,
    Constraint,
    ConstraintCheck,
    Finding,
    JudgeFigures,
    Measures,
    ModelInfo,
    Objective,
    PromptSet,
    Reliability,
    Results,
    Selection,
)
from sacpo.report.searches import (
    Banded,
    BoundCheck,
    Forecast,
    ForecastBound,
    ForecastPoint,
    Predicted,
    RealisedTilt,
    Regret,
    Search,
    Trained,
)
from sacpo.report.theory import KlToOptimum, OptimumPoint, SupportPoint, Theory, TiltPoint


def results_document() -> str:
    """Return the schema as a Markdown page: one table a part, each field with its type and meaning."""
    parts: list[type[Part]] = [
        Results, ModelInfo, PromptSet, Measures, JudgeFigures, Measured, Reliability, Selection, Objective, Constraint,
        Candidate, ConstraintCheck, Certificate, CertifiedCandidate, CertifiedBound, CertifiedCategory, Theory,
        OptimumPoint, KlToOptimum, TiltPoint, SupportPoint, Search, Forecast, ForecastPoint, Banded, ForecastBound,
        RealisedTilt, Trained, BoundCheck, Predicted, Regret, FactorChoice, FactorsTried, FactorBound,
        PathSearch, PathPoint, PathCheck, Fidelity, RaceOutcome, RaceRound, RaceBound, Finding,
    ]  # fmt: skip
    return f"# results.json ({FORMAT})\n\n{results.__doc__}\n" + "\n".join(_document(part) for part in parts)


def _document(part: type[Part]) -> str:
    rows = [
        f"| `{name}` | `{_type_name(field.annotation)}` | {field.description or ''} |"
        for name, field in part.model_fields.items()
    ]
    about = "\n".join(line.strip() for line in (part.__doc__ or "").splitlines()).strip()
    return "\n".join([f"## {part.__name__}", "", about, "", "| field | type | meaning |", "|---|---|---|", *rows, ""])


def _type_name(annotation: Any) -> str:
    if annotation is type(None):
        return "null"
    text = annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else None
    text = text or str(annotation).replace("typing.", "").replace("NoneType", "null")
    text = re.sub(r"sacpo\.report\.\w+\.", "", text)
    return text.replace("|", "or").replace("None", "null")
