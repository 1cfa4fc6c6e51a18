"""The certificate as results.json has it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sacpo.report.part import Part


class CertifiedBound(Part):
    """One candidate against one bound, on certification prompts."""

    bound: str = Field(description="METRIC or METRIC/CRITERION")
    test: str = Field(description="the test's name")
    p: float = Field(description="p-value of 'the bound is violated'")
    passed: bool
    value: float = Field(description="mean over clusters; what could not be read counts against the model")
    limit: float = Field(description="the bound that these data alone would certify")
    clusters: int = Field(description="independent units")
    items: int = Field(description="judged answers")
    unread: int = Field(description="answers without a verdict that could be read")
    needed: int | None = Field(None, description="prompts at which a model of this rate passes with 80 %; null: none")
    labels: int = Field(0, description="answers with a true label")
    missed: int = Field(0, description="bad ones among them that the judge did not call bad")
    estimate: tuple[float, float] | None = Field(
        None, description="with labels: prediction-powered mean and standard error, an estimate, no bound"
    )


class CertifiedCandidate(Part):
    """One candidate that was tested."""

    model: str
    certified: bool = Field(description="it and all before it meet every bound")
    checks: tuple[CertifiedBound, ...] = ()


class Certificate(Part):
    """What is certified on prompts that the choice has not seen, or why nothing is."""

    certified: str | None = Field(description="the most helpful certified model; it is the chosen one; null: none is")
    sentence: str = Field(description="the certificate, or its absence with what would help, in words")
    point_choice: str | None = Field(None, description="the model that point estimates alone would choose")
    bounds: tuple[dict[str, Any], ...] = ()
    confidence: float = Field(description="of the sentence")
    population: str = Field("", description="what the certification prompts stand for")
    assumptions: tuple[str, ...] = Field((), description="what must hold for it to be true")
    look: int | None = Field(None, description="the look at these prompts; null: they stayed closed")
    all_certified: tuple[str, ...] = Field((), description="certified models, in the order of the tests")
    candidates: tuple[CertifiedCandidate, ...] = Field((), description="those that were tested, in their order")
    not_tested: tuple[str, ...] = Field((), description="candidates behind the first that failed")
    sha256: str | None = Field(None, description="digest of the certificate's file")
