"""A judge: a model behind an endpoint, with a rubric and settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from sacpo.errors import DataError
from sacpo.judging.rubric import Rubric
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.address import OPENAI, endpoint_of


@dataclass(frozen=True)
class LlmJudgeConfig:
    """A language model that judges by a rubric, on any endpoint that speaks OpenAI's chat completions.

    Attributes:
        model: The model's name at the endpoint.
        rubric: What it judges by.
        name: How verdicts name it; the model's name when "".
        base_url: The endpoint, such as http://localhost:8000/v1; when "" that of OPENAI_BASE_URL, else OpenAI's.
        api_key_env: The environment variable that holds the key; "": the endpoint needs none.
        send_key_anyway: Send it over plain http to another machine.
        temperature: None: the endpoint's default.
        max_tokens: Longest reply.
        seed: Sent with each request, plus the repeat's number; None: not sent.
        structured: Ask for a reply that follows a JSON schema; if the endpoint refuses that, for text.
        extra: More fields of the request, as the endpoint knows them.
        rereads: How often an unreadable reply is asked for again.
        retries: How often a failed request is sent again.
        backoff: First wait before that, in seconds; it doubles each time, up to `longest_backoff`.
        longest_backoff: In seconds.
        longest_pause: Longest wait that the endpoint may ask for (Retry-After), in seconds.
        timeout: A reply must be complete after so many seconds.
        requests_per_minute, tokens_per_minute: Rate limits; None: none.
    """

    model: str
    rubric: Rubric
    name: str = ""
    base_url: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    send_key_anyway: bool = False
    temperature: float | None = 0.0
    max_tokens: int = 1024
    seed: int | None = None
    structured: bool = True
    extra: JsonMapping = field(default_factory=dict)
    rereads: int = 2
    retries: int = 8
    backoff: float = 0.5
    longest_backoff: float = 30.0
    longest_pause: float = 600.0
    timeout: float = 120.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.model)
        positive = ("max_tokens", "timeout", "requests_per_minute", "tokens_per_minute")
        for name in (*positive, "rereads", "retries", "backoff", "longest_backoff", "longest_pause"):
            value = getattr(self, name)
            if value is not None and not (value > 0 if name in positive else value >= 0):
                raise DataError(f"a judge's {name} must be {'above' if name in positive else 'at least'} 0",
                                where=f"judge {self.name}", value=value)  # fmt: skip

    @property
    def criterion(self) -> str:
        """What it judges by, as verdicts record it."""
        return self.rubric.criterion

    @property
    def endpoint(self) -> str:
        """The endpoint, as a verdict's identity has it; "" stands for OpenAI's own."""
        return endpoint_of(self.base_url)

    @property
    def address(self) -> str:
        """The endpoint's address."""
        return self.endpoint or OPENAI

    def settings(self) -> JsonObject:
        """Return what makes two judges' verdicts differ: model, endpoint and what is sent with each request."""
        names = ("temperature", "max_tokens", "seed", "structured", "rereads")
        asked = {"model": self.model, "base_url": self.endpoint, **{name: getattr(self, name) for name in names}}
        return {**asked, "extra": dict(self.extra)}
