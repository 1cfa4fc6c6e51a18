"""What judging may cost: limits, prices, an estimate before the first request and a ledger of what was spent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from sacpo.errors import DataError
from sacpo.plain import JsonObject

BYTES_PER_TOKEN = 3
TOKENS_PER_MESSAGE = 4


@dataclass(frozen=True, slots=True)
class Price:
    """A model's price per million tokens, in any currency."""

    prompt: float
    completion: float

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


@dataclass(frozen=True)
class Budget:
    """Limits on one call of `judge_llm`; None means none. What was spent by earlier calls does not count.

    Attributes:
        max_requests: Requests sent, failed and repeated ones included.
        max_tokens: Prompt and completion tokens together.
        max_cost: In the currency of the prices; needs the price of every model.
        prices: By model name.
    """

    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)

    def check(self, models: Sequence[str]) -> None:
        """Check that the limits can be held for these models.

        Raises:
            DataError: A limit is negative, or the cost is limited and a model has no price.
        """
        for name in ("max_requests", "max_tokens", "max_cost"):
            limit = getattr(self, name)
            if limit is not None and not limit >= 0:
                raise DataError("a budget's limit is a number of at least 0", where=name, value=limit)
        unknown = sorted(set(models) - set(self.prices))
        if self.max_cost is not None and unknown:
            raise DataError(
                "the cost is limited, but models have no price",
                where="budget, prices",
                value=unknown,
                do="add their prices per million prompt and completion tokens",
            )

    def after(self, spent: Iterable[Usage]) -> Budget:
        """Return what is left of the budget after this use, at least 0 of each limit."""
        used = list(spent)
        requests = sum(one.requests for one in used)
        tokens = sum(one.prompt_tokens + one.completion_tokens for one in used)
        cost = math.fsum(one.cost or 0.0 for one in used)
        return replace(
            self,
            max_requests=None if self.max_requests is None else max(self.max_requests - requests, 0),
            max_tokens=None if self.max_tokens is None else max(self.max_tokens - tokens, 0),
            max_cost=None if self.max_cost is None else max(self.max_cost - cost, 0.0),
        )


@dataclass(slots=True)
class Usage:
    """What one judge has used.

    Attributes:
        requests: Sent, failed ones included.
        prompt_tokens, completion_tokens: As the endpoint counted them; estimated where it did not.
        cost: In the currency of the prices; None when the model has no price.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None

    def to_json(self) -> JsonObject:
        """Return the usage as a JSON-ready dictionary."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What one judge's open requests will cost if each is answered at once.

    Attributes:
        judge, criterion: Whose requests.
        kept: Requests whose verdict is known already.
        requests: Open requests.
        prompt_tokens: Estimated from the texts' length, rather too many than too few.
        completion_tokens: The most that the replies may have.
        cost: The most, in the currency of the prices; None when the model has no price.
    """

    judge: str
    criterion: str
    kept: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None

    def to_json(self) -> JsonObject:
        """Return the estimate as a JSON-ready dictionary."""
        return {name: getattr(self, name) for name in self.__slots__}

    def text(self) -> str:
        """Return the estimate as a sentence."""
        cost = "no price known" if self.cost is None else f"at most {self.cost:.4f} in the currency of the prices"
        return (
            f"{self.judge} on {self.criterion}: {self.requests} requests ({self.kept} known already), about "
            f"{self.prompt_tokens} prompt tokens, at most {self.completion_tokens} completion tokens, {cost}"
        )


class BudgetSpent(Exception):
    """The next request would exceed a limit, and no request is under way that could leave room."""


class Ledger:
    """Counts what is spent, and lets no request start that could exceed a limit."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.usage: dict[str, Usage] = {}
        self._held: dict[int, tuple[int, float]] = {}
        self._changed = asyncio.Condition()
        self._next = 0

    @asynccontextmanager
    async def request(self, judge: str, model: str, prompt_tokens: int, max_tokens: int) -> AsyncIterator[Spending]:
        """Count one request: room for its tokens is held while it is under way.

        Raises:
            BudgetSpent: There is no room for it.
        """
        price = self.budget.prices.get(model)
        hold = prompt_tokens + max_tokens, price.of(prompt_tokens, max_tokens) if price else 0.0
        async with self._changed:
            while not self._has_room(hold):
                if not self._held:
                    raise BudgetSpent
                await self._changed.wait()
            self._next += 1
            ticket = self._next
            self._held[ticket] = hold
            used = self.usage.setdefault(judge, Usage(cost=0.0 if price else None))
            used.requests += 1
        spending = Spending()
        try:
            yield spending
        finally:
            used.prompt_tokens += spending.prompt_tokens
            used.completion_tokens += spending.completion_tokens
            if price and used.cost is not None:
                used.cost += price.of(spending.prompt_tokens, spending.completion_tokens)
            async with self._changed:
                del self._held[ticket]
                self._changed.notify_all()

    def _has_room(self, hold: tuple[int, float]) -> bool:
        used, budget = list(self.usage.values()), self.budget
        requests = sum(one.requests for one in used)
        tokens = sum(one.prompt_tokens + one.completion_tokens for one in used)
        tokens += sum(held for held, _ in self._held.values()) + hold[0]
        cost = sum(one.cost or 0.0 for one in used) + sum(held for _, held in self._held.values()) + hold[1]
        return (
            (budget.max_requests is None or requests + 1 <= budget.max_requests)
            and (budget.max_tokens is None or tokens <= budget.max_tokens)
            and (budget.max_cost is None or cost <= budget.max_cost)
        )


@dataclass(slots=True)
class Spending:
    """What one request turned out to cost, in tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


def estimated_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """Return about how many tokens messages have, rather too many than too few."""
    size = sum(len(message["content"].encode("utf-8", "replace")) for message in messages)
    return math.ceil(size / BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * len(messages)
