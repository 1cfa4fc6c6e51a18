"""Language models as judges, in a recipe and in a panel's file: endpoints, prices, how they are asked, budgets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from sacpo.errors import RecipeError
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.address import ALLOWED, fault_of, is_local
from sacpo.recipe.section import MANY, Positive, Section

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
KEYS = re.compile(r"(?:[A-Z0-9_]+_)?API_KEY")
"""Variables that hold the key of some endpoint by their name."""
OWN_FIELDS = ("model", "messages", "stream", "n")
"""Fields of a request that `extra` may not set: every reply would be read wrongly, or not at all."""
Text = Annotated[str, Field(min_length=1)]


class PriceSpec(Section):
    """What a model costs, in any currency."""

    prompt: float = Field(ge=0, description="per million prompt tokens")
    completion: float = Field(ge=0, description="per million completion tokens")


class LlmSpec(Section):
    """A language model behind an endpoint that speaks OpenAI's chat completions.

    The key itself stands in no file: `api_key_env` names the environment variable that holds it.
    """

    model: Text = Field(description="the model's name at the endpoint")
    name: Text | None = Field(None, description="how verdicts name the judge; the model's name by default")
    base_url: str = Field("", description="the endpoint, such as http://localhost:8000/v1; OpenAI's by default")
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="the environment variable that holds the key; '': the endpoint needs none"
    )
    send_key_anyway: bool = Field(
        False,
        description="send the key though its variable is not called ..._API_KEY, or though base_url is plain http "
        "to another machine",
    )
    temperature: float | None = Field(0.0, ge=0, description="null: the endpoint's default")
    max_tokens: int = Field(1024, ge=1, le=MANY, description="longest reply")
    seed: int | None = Field(None, description="sent with each request, plus the repeat's number")
    structured: bool = Field(True, description="ask for JSON by a schema; for text where the endpoint refuses that")
    extra: JsonObject = Field({}, description="more fields of the request, as the endpoint knows them")
    rereads: int = Field(2, ge=0, le=MANY, description="how often an unreadable reply is asked for again")
    retries: int = Field(8, ge=0, le=MANY, description="how often a failed request is sent again")
    backoff: float = Field(0.5, ge=0, description="seconds until a failed request is sent again, doubled each time")
    timeout: Positive = Field(120.0, description="seconds until a reply must be complete")
    longest_pause: float = Field(600.0, ge=0, description="seconds that the endpoint may ask to wait (Retry-After)")
    requests_per_minute: Positive | None = Field(None, description="rate limit")
    tokens_per_minute: Positive | None = Field(None, description="rate limit")
    price: PriceSpec | None = Field(None, description="for estimates and `max_cost`")

    @field_validator("api_key_env")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if value and not VARIABLE.fullmatch(value):
            raise RecipeError(  # without the value: it may be the key
                "api_key_env does not name an environment variable",
                where="api_key_env",
                allowed="capital letters, digits and '_', such as OPENAI_API_KEY; '' for an endpoint without keys",
                do="put the key into an environment variable and write the variable's name here",
            )
        return value

    @field_validator("base_url")
    @classmethod
    def _plain(cls, value: str) -> str:
        fault = fault_of(value) if value else None
        if fault is not None:
            raise RecipeError(
                f"base_url is no plain address of an endpoint: {fault}",
                where="base_url",
                allowed=ALLOWED,
                do="write the address up to /v1; a key goes into the variable that api_key_env names",
            )
        return value

    @field_validator("extra")
    @classmethod
    def _more_fields(cls, value: JsonObject) -> JsonObject:
        own = [name for name in OWN_FIELDS if value.get(name) not in (None, False)]
        if own:
            raise RecipeError(
                "extra sets a field of the request that is not its own",
                where="extra",
                value=own,
                allowed=f"any field but {', '.join(OWN_FIELDS)}",
                do="leave it out; the model is named by 'model', and 'repeats' asks several times",
            )
        return value

    @model_validator(mode="after")
    def _keys_stay_home(self) -> Self:
        if self.api_key_env and not self.send_key_anyway and not KEYS.fullmatch(self.api_key_env):
            raise RecipeError(
                "this variable may hold a secret that is not this endpoint's key",
                where="api_key_env",
                value=self.api_key_env,
                allowed="a name that ends in API_KEY; '' for an endpoint without keys",
                do="name such a variable; if this one does hold the key, say send_key_anyway: true",
            )
        named = "api_key_env" in self.model_fields_set and self.api_key_env
        if named and not self.send_key_anyway and self.base_url.startswith("http:") and not is_local(self.base_url):
            raise plain_key(self.api_key_env, "base_url")
        return self

    @property
    def title(self) -> str:
        """How verdicts name the judge."""
        return self.name or self.model


class BudgetSpec(Section):
    """Limits on what LLM judges may use in one command; running it again goes on with a new allowance."""

    max_requests: int | None = Field(None, ge=0, description="requests sent, failed and repeated ones included")
    max_tokens: int | None = Field(None, ge=0, description="prompt and completion tokens together")
    max_cost: float | None = Field(None, ge=0, description="in the currency of the prices; needs every judge's price")


class AskingSpec(Section):
    """Which language models are asked, and how often.

    A criterion with several judges is a panel. A prompt's value is the mean over the judges, and it counts only when
    every judge was read in every order. An answer has a label (unsafe, refusal) when at least half of the judges give
    it, and it counts only when all were read.
    """

    panel: LlmSpec | tuple[LlmSpec, ...] = Field((), description="llm: one judge or a list of them")
    orders: tuple[Literal["ab", "ba"], ...] = Field(
        ("ab", "ba"), min_length=1, description="llm: which answer is shown first; ab: the model's, ba: the baseline's"
    )
    repeats: int = Field(1, ge=1, le=MANY, description="llm: how often each question is asked in each order")
    concurrency: int = Field(16, ge=1, le=MANY, description="llm: requests at once, for each judge and rubric")

    @property
    def judges(self) -> tuple[LlmSpec, ...]:
        """The panel as a tuple."""
        return (self.panel,) if isinstance(self.panel, LlmSpec) else self.panel


class PanelSpec(AskingSpec):
    """A panel's file for `sacpo judge --panel`: the judges, what they judge by, and what that may cost."""

    rubrics: tuple[Text, ...] = Field((), description="names of built-in rubrics, or files")
    budget: BudgetSpec = Field(BudgetSpec(), description="limits on one command")


Panel = str | Path | JsonMapping | Sequence[JsonMapping]
"""A panel's file or what would stand in it (`PanelSpec`), or one language model's settings or several's (`LlmSpec`)."""


def plain_key(variable: str, where: str) -> RecipeError:
    """Return the error of a key that would go over the network in clear."""
    return RecipeError(
        "the key would go to another machine over plain http, readable on the way",
        where=where,
        value=variable,
        allowed="https, or this machine (localhost, 127.0.0.1)",
        do="use https, set api_key_env to '' for an endpoint without keys, or say send_key_anyway: true",
    )
