"""A judge: a model behind an endpoint, with a rubric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sacpo.judging.rubric import Rubric
from sacpo.plain import JsonObject
from sacpo.recipe.address import OPENAI, endpoint_of
from sacpo.recipe.explain import checked
from sacpo.recipe.llm import LlmSpec

ASKED = {"model", "base_url", "temperature", "max_tokens", "seed", "structured", "extra", "rereads"}
"""What a language model's verdicts depend on."""


@dataclass(frozen=True)
class LlmJudgeConfig:
    """A language model that judges by a rubric.

    Attributes:
        spec: The model, its endpoint and how it is asked.
        rubric: What it judges by.
    """

    spec: LlmSpec
    rubric: Rubric

    @classmethod
    def of(cls, rubric: Rubric, **settings: object) -> Self:
        """Return the judge of a rubric; settings are those of `LlmSpec`, and errors as of `checked`."""
        return cls(checked(LlmSpec, **settings), rubric)

    @property
    def name(self) -> str:
        """How verdicts name it."""
        return self.spec.title

    @property
    def criterion(self) -> str:
        """What it judges by, as verdicts record it."""
        return self.rubric.criterion

    @property
    def endpoint(self) -> str:
        """The endpoint, as a verdict's identity has it; "" stands for OpenAI's own."""
        return endpoint_of(self.spec.base_url)

    @property
    def address(self) -> str:
        """The endpoint's address."""
        return self.endpoint or OPENAI

    def settings(self) -> JsonObject:
        """Return what makes two judges' verdicts differ: model, endpoint and what is sent with each request."""
        return asked_of(self.spec)


def asked_of(spec: LlmSpec) -> JsonObject:
    """Return what a language model's verdicts depend on, JSON-ready; the environment may name the endpoint."""
    return {**spec.model_dump(mode="json", include=ASKED), "base_url": endpoint_of(spec.base_url)}
