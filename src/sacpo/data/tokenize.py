"""From records to token ids: the prompt as generation sees it, then the completion with its end token.

Prompt and completion are tokenised as one text and cut where the prompt's own tokens end, as TRL does. Where tokens
merge across that border, the completion is tokenised by itself instead.
Deviation: TRL then cuts the prompt back to what both have in common, so that a model trains behind another context
than it generates from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from sacpo.data.records import Demonstration, Labelled, Pair, Prompt
from sacpo.data.templates import Template
from sacpo.errors import DataError

T = TypeVar("T")
Ids = tuple[int, ...]


@dataclass(frozen=True)
class TokenPair:
    """A pair's token ids; `p` is the probability that `chosen` is preferred, `id` the record's."""

    id: str
    prompt: Ids
    chosen: Ids
    rejected: Ids
    p: float = 1.0


@dataclass(frozen=True)
class TokenLabelled:
    """A labelled completion's token ids; records with the same `prompt_id` have the same prompt."""

    id: str
    prompt_id: str
    prompt: Ids
    completion: Ids
    label: bool


@dataclass(frozen=True)
class TokenDemo:
    """A demonstration's token ids."""

    id: str
    prompt: Ids
    completion: Ids


@dataclass
class TokenReport:
    """What tokenising did to a data source.

    Attributes:
        records: Records that came in.
        kept: Records that came out.
        truncated: Records with a completion that was cut at max_length.
        dropped: Reason: records.
        apart: Completions that were tokenised by themselves because their tokens merge with the prompt's.
        prompt_tokens, completion_tokens: Totals of the kept records.
        longest: Tokens of the longest prompt with a completion, before truncation.
    """

    records: int = 0
    kept: int = 0
    truncated: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    apart: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    longest: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON-ready dictionary."""
        return asdict(self)

    def require_some(self, name: str) -> None:
        """Refuse a training of this name to which no record is left.

        Raises:
            DataError: No record is left; the message says why each was dropped.
        """
        if self.kept == 0:
            raise DataError(
                "no records are left to train on",
                where=f"training of {name}",
                value=f"{self.records} records; dropped: {self.dropped}",
                do="raise max_length, or give other records",
            )


def tokenize_prompt(prompt: Prompt, template: Template, tokenizer: PreTrainedTokenizerBase) -> Ids:
    """Return a prompt's token ids, with the tokenizer's beginning token where it adds one."""
    return _encode([template.render(prompt)], template, tokenizer)[0]


def tokenize_exchange(
    prompt: Prompt, completion: str, template: Template, tokenizer: PreTrainedTokenizerBase
) -> tuple[Ids, Ids]:
    """Return the token ids of a prompt and of its completion, end token included."""
    ((before, (after,)),), _ = _exchanges([prompt], [(completion,)], template, tokenizer)
    return before, after


def tokenize_pairs(
    records: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, template: Template, *, max_length: int, too_long: str
) -> tuple[list[TokenPair], TokenReport]:
    """Tokenise pairs.

    Args:
        records: Pairs.
        tokenizer: The policy's tokenizer.
        template: Turns a prompt into text.
        max_length: Most tokens of a prompt with one completion.
        too_long: "truncate" cuts completions at max_length, "drop" leaves longer pairs out, "cut" does as TRL: it cuts
            completions and leaves out what has no room for one.

    Raises:
        DataError: A prompt leaves no room for a completion within max_length, and `too_long` is "truncate".
    """
    texts = [(pair.chosen, pair.rejected) for pair in records]
    kept, report = _fitted(records, texts, tokenizer, template, max_length, too_long)
    return [TokenPair(pair.id, ids[0], ids[1][0], ids[1][1], pair.p) for pair, ids in kept], report


def tokenize_labelled(
    records: Sequence[Labelled],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    *,
    max_length: int,
    too_long: str,
) -> tuple[list[TokenLabelled], TokenReport]:
    """Tokenise labelled completions; see `tokenize_pairs`."""
    texts = [(record.completion,) for record in records]
    kept, report = _fitted(records, texts, tokenizer, template, max_length, too_long)
    return [TokenLabelled(r.id, r.prompt.id, ids[0], ids[1][0], r.label) for r, ids in kept], report


def tokenize_demonstrations(
    records: Sequence[Demonstration],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    *,
    max_length: int,
    too_long: str,
) -> tuple[list[TokenDemo], TokenReport]:
    """Tokenise demonstrations; see `tokenize_pairs`."""
    texts = [(record.completion,) for record in records]
    kept, report = _fitted(records, texts, tokenizer, template, max_length, too_long)
    return [TokenDemo(r.id, ids[0], ids[1][0]) for r, ids in kept], report


Exchange = tuple[Ids, tuple[Ids, ...]]
"""A prompt's tokens and those of its completions."""


def _fitted(
    records: Sequence[T],
    texts: Sequence[tuple[str, ...]],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    max_length: int,
    too_long: str,
) -> tuple[list[tuple[T, Exchange]], TokenReport]:
    exchanges, apart = _exchanges([r.prompt for r in records], texts, template, tokenizer)  # type: ignore[attr-defined]
    report = TokenReport(records=len(records), apart=apart)
    kept: list[tuple[T, Exchange]] = []
    for record, (prompt, completions) in zip(records, exchanges, strict=True):
        length = len(prompt) + max(map(len, completions))
        report.longest = max(report.longest, length)
        reason = _misfit(record, len(prompt), length, max_length, too_long)
        if reason:
            report.dropped[reason] = report.dropped.get(reason, 0) + 1
            continue
        report.truncated += length > max_length
        fitting = tuple(completion[: max_length - len(prompt)] for completion in completions)
        report.prompt_tokens += len(prompt)
        report.completion_tokens += sum(map(len, fitting))
        kept.append((record, (prompt, fitting)))
    report.kept = len(kept)
    return kept, report


def _misfit(record: Any, prompt: int, length: int, max_length: int, too_long: str) -> str:
    """Return why a record is dropped, or "" when it is kept."""
    if length <= max_length:
        return ""
    if too_long == "drop":
        return "longer than max_length"
    if too_long == "cut" and prompt >= max_length:
        return "prompt fills max_length"
    if prompt >= max_length:
        raise DataError(
            "a prompt leaves no room for a completion within max_length",
            where=getattr(record, "source", "") or f"prompt {record.prompt.id}",
            value=f"{prompt} tokens",
            allowed=f"fewer than {max_length} tokens",
            do="raise max_length, or leave such records out with too_long: drop",
        )
    return ""


def _exchanges(
    prompts: Sequence[Prompt],
    completions: Sequence[tuple[str, ...]],
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[list[Exchange], int]:
    """Tokenise every prompt with its completions; also return how many completions were tokenised by themselves."""
    befores = _encode([template.render(prompt) for prompt in prompts], template, tokenizer)
    joined = _encode(
        [template.join(prompt, text) for prompt, texts in zip(prompts, completions, strict=True) for text in texts],
        template,
        tokenizer,
    )
    wholes, apart = iter(joined), 0
    found: list[Exchange] = []
    for before, texts in zip(befores, completions, strict=True):
        afters = []
        for text in texts:
            whole = next(wholes)
            fits = whole[: len(before)] == before
            apart += not fits
            after = whole[len(before) :] if fits else _ids(tokenizer(text, add_special_tokens=False))
            afters.append(_ended(after, tokenizer.eos_token_id))
        found.append((before, tuple(afters)))
    return found, apart


def _ended(completion: Ids, end: int) -> Ids:
    """Return the completion up to its last end token, which is added where the template writes none."""
    if end in completion:
        return completion[: len(completion) - completion[::-1].index(end)]
    return (*completion, end)


def _encode(texts: Sequence[str], template: Template, tokenizer: PreTrainedTokenizerBase) -> list[Ids]:
    if not texts:
        return []
    begin = () if template.special else _beginning(tokenizer)
    return [(*begin, *ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def _beginning(tokenizer: PreTrainedTokenizerBase) -> Ids:
    """Return the beginning token where the tokenizer adds one by itself; an end token that it adds is left out."""
    ids = _ids(tokenizer("a"))
    return (ids[0],) if tokenizer.bos_token_id is not None and ids[:1] == (tokenizer.bos_token_id,) else ()


def _ids(encoded: Any) -> Ids:
    return tuple(encoded["input_ids"])
