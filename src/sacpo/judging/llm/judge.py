"""A language model behind an endpoint; a judge is one with a rubric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from sacpo.judging.rubric import Rubric
from sacpo.plain import JsonObject
from sacpo.recipe.address import OPENAI, endpoint_of
from sacpo.recipe.explain import checked
from sacpo.recipe.llm import LlmSpec

ASKED = {"model", "base_url", "temperature", "max_tokens", "seed", "structured", "extra", "rereads"}
"""What a language model's verdicts depend on."""


@dataclass(frozen=True)
class LlmModel:
    """A language model behind an endpoint.

    Attributes:
        spec: The model, its endpoint and how it is asked.
    """

    role: ClassVar[str] = "model"
    """What messages call it."""

    spec: LlmSpec

    @property
    def name(self) -> str:
        """How verdicts and messages name it."""
        return self.spec.title

    @property
    def title(self) -> str:
        """What it is, and its name."""
        return f"{self.role} {self.name}"

    @property
    def endpoint(self) -> str:
        """The endpoint, as a verdict's identity has it; "" stands for OpenAI's own."""
        return endpoint_of(self.spec.base_url)

    @property
    def address(self) -> str:
        """The endpoint's address."""
        return self.endpoint or OPENAI

    def settings(self) -> JsonObject:
        """Return what makes two models' replies differ: model, endpoint and what is sent with each request."""
        return asked_of(self.spec)


@dataclass(frozen=True)
class LlmJudgeConfig(LlmModel):
    """A language model that judges by a rubric.

    Attributes:
        rubric: What it judges by.
    """

    role: ClassVar[str] = "judge"

    rubric: Rubric

    @classmethod
    def of(cls, rubric: Rubric, **settings: object) -> Self:
        """Return the judge of a rubric; settings are those of `LlmSpec`, and errors as of `checked`."""
        return cls(checked(LlmSpec, **settings), rubric)

    @property
    def criterion(self) -> str:
        """What it judges by, as verdicts record it."""
        return self.rubric.criterion


def asked_of(spec: LlmSpec) -> JsonObject:
    """Return what a language model's verdicts depend on, JSON-ready; the environment may name the endpoint."""
    return {**spec.model_dump(mode="json", include=ASKED), "base_url": endpoint_of(spec.base_url)}
