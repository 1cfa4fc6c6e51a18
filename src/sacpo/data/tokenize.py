"""From records to token ids: the prompt as generation sees it, then the completion with its end token.

Prompt and completion are rendered as one dialogue. The completion is what follows the prompt in it, the template's own
text around the answer included. They are tokenised as one text and cut where the prompt's own tokens end, as TRL does.
Where tokens merge across that border, what follows the prompt is tokenised by itself instead.
Deviation: TRL then cuts the prompt back to what both have in common, so that a model trains behind another context
than it generates from. Where the prompt is no beginning of the dialogue, a record is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from sacpo.data.encode import Ids, counted, encode_all, encode_alone
from sacpo.data.ends import ended
from sacpo.data.records import Demonstration, Labelled, Message, Pair, Prompt
from sacpo.data.rows import Tree
from sacpo.data.specials import OPEN, QUOTED, plain
from sacpo.data.templates import Template, writes
from sacpo.data.unknown import unknown_token
from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.system.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class TokenPair:
    """A pair's token ids; `p` is the probability that `chosen` is preferred, `id` and `offset` the record's."""

    id: str
    prompt: Ids
    chosen: Ids
    rejected: Ids
    p: float = 1.0
    offset: float = 0.0


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
    """A demonstration's token ids, and its weights and log-prob; see `Demonstration`."""

    id: str
    prompt: Ids
    completion: Ids
    weight: float = 1.0
    ref_weight: float = 1.0
    ref_logp: float | None = None


def completion_trees(records: Sequence[TokenDemo | TokenLabelled]) -> list[Tree]:
    """Return each record as a prompt with one branch."""
    return [Tree(record.prompt, (record.completion,)) for record in records]


@dataclass
class TokenReport:
    """What tokenising did to a data source.

    Attributes:
        records: Records that came in.
        kept: Records that came out.
        truncated: Records with a completion that was cut at max_length.
        dropped: Reason: records.
        apart: Completions that were tokenised by themselves because their tokens merge with the prompt's.
        rewritten: Completions of which the chat template leaves something out, such as thoughts.
        unknown: Records with words that the tokenizer does not know.
        quoted: Completions whose text, or prompt's text, spells special tokens that were read as text.
        prompt_tokens, completion_tokens: Totals of the kept records.
        longest: Tokens of the longest prompt with a completion, before truncation; of very long texts, a part.
    """

    records: int = 0
    kept: int = 0
    truncated: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    apart: int = 0
    rewritten: int = 0
    quoted: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    longest: int = 0
    unknown: int = 0

    def to_json(self) -> JsonObject:
        """Return the report as a JSON-ready dictionary; `unknown` stands in it only where there are such records."""
        return {name: value for name, value in asdict(self).items() if name != "unknown" or value}

    def require_some(self, name: str, progress: Progress) -> None:
        """Refuse a training of this name to which no record is left, and say what it cannot learn.

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
        if self.unknown:
            said = f"{self.unknown:,} of {self.records:,} records hold words that the tokenizer does not know"
            progress.notice(f"{name}: {said}: the model cannot learn them")


def tokenize_prompt(
    prompt: Prompt, template: Template, tokenizer: PreTrainedTokenizerBase, *, limit: int | None = None
) -> Ids:
    """Return a prompt's token ids, with the tokens that the tokenizer begins texts with.

    Args:
        prompt: The prompt.
        template: Turns it into text.
        tokenizer: The model's tokenizer.
        limit: How many tokens can be used: of a prompt with more, not all are returned where it is very long.
    """
    return tokenize_prompts([prompt], template, tokenizer, limit=limit)[prompt]


def tokenize_prompts(
    prompts: Iterable[Prompt], template: Template, tokenizer: PreTrainedTokenizerBase, *, limit: int | None = None
) -> dict[Prompt, Ids]:
    """Return the token ids of prompts, each of which is tokenised once; see `tokenize_prompt`."""
    places = {prompt: _place(prompt) for prompt in prompts}
    texts = [template.render(prompt, place) for prompt, place in places.items()]
    return dict(zip(places, encode_all(texts, [*places.values()], template, tokenizer, limit), strict=True))


def tokenize_exchange(
    prompt: Prompt,
    completion: str,
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: int | None = None,
) -> tuple[Ids, Ids]:
    """Return the token ids of a prompt and of its completion, end token included; `limit` as in `tokenize_prompt`."""
    ((before, (after,)),) = _exchanges([prompt], [(completion,)], template, tokenizer, limit, TokenReport())
    return before, after


def text_trees(
    texts: Sequence[tuple[Prompt, str]], tokenizer: PreTrainedTokenizerBase, template: Template, max_length: int
) -> dict[int, Tree]:
    """Return texts behind their prompts by place; one is cut at `max_length`, left out if its prompt leaves no room."""
    asked: dict[Prompt, list[int]] = {}
    for place, (prompt, _) in enumerate(texts):
        asked.setdefault(prompt, []).append(place)
    said = [tuple(texts[place][1] for place in places) for places in asked.values()]
    trees: dict[int, Tree] = {}
    exchanges = _exchanges([*asked], said, template, tokenizer, max_length, TokenReport())
    for places, (before, afters) in zip(asked.values(), exchanges, strict=True):
        for place, after in zip(places, afters, strict=True):
            if len(before) < max_length:
                trees[place] = Tree(before, (after[: max_length - len(before)],))
    return trees


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
    return [TokenPair(pair.id, ids[0], ids[1][0], ids[1][1], pair.p, pair.offset) for pair, ids in kept], report


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
    return [TokenDemo(r.id, ids[0], ids[1][0], r.weight, r.ref_weight, r.ref_logp) for r, ids in kept], report


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
    report = TokenReport(records=len(records))
    exchanges = _exchanges(records, texts, template, tokenizer, max_length, report)
    kept: list[tuple[T, Exchange]] = []
    unknown = unknown_token(tokenizer)
    for record, (prompt, completions) in zip(records, exchanges, strict=True):
        length = len(prompt) + max(map(len, completions))
        report.longest = max(report.longest, length)
        reason = _misfit(record, len(prompt), length, max_length, too_long)
        if reason:
            report.dropped[reason] = report.dropped.get(reason, 0) + 1
            continue
        report.unknown += any(unknown in ids for ids in (prompt, *completions))
        report.truncated += length > max_length
        fitting = tuple(completion[: max_length - len(prompt)] for completion in completions)
        report.prompt_tokens += len(prompt)
        report.completion_tokens += sum(map(len, fitting))
        kept.append((record, (prompt, fitting)))
    report.kept = len(kept)
    return kept, report


def _misfit(record: object, prompt: int, length: int, max_length: int, too_long: str) -> str:
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
            where=_place(record),
            value=counted(prompt, max_length),
            allowed=f"fewer than {max_length} tokens",
            do="raise max_length, or leave such records out with too_long: drop",
        )
    return ""


def _exchanges(
    records: Sequence[Any],
    completions: Sequence[tuple[str, ...]],
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    report: TokenReport,
) -> list[Exchange]:
    """Tokenise every record's prompt with its completions, and count in the report what was done.

    A record is a prompt, or has one; records with the same prompt share what is made of it.
    """
    places = [_place(record) for record in records]
    prompts: list[Prompt] = [getattr(record, "prompt", record) for record in records]
    first: dict[Prompt, str] = {}
    for prompt, place in zip(prompts, places, strict=True):
        first.setdefault(prompt, place)
    rendered = {prompt: template.render(prompt, place) for prompt, place in first.items()}
    encoded = encode_all([*rendered.values()], [*first.values()], template, tokenizer, limit)
    ids = dict(zip(rendered, encoded, strict=True))
    wholes, owners = [], []
    for prompt, place, texts in zip(prompts, places, completions, strict=True):
        wholes += [template.join(prompt, text, place) for text in texts]
        owners += [place] * len(texts)
    joined = zip(wholes, encode_all(wholes, owners, template, tokenizer, limit), strict=True)
    found: list[Exchange] = []
    for prompt, place, texts in zip(prompts, places, completions, strict=True):
        before, prompt_ids, afters = rendered[prompt], ids[prompt], []
        for text in texts:
            whole, whole_ids = next(joined)
            rest = _rest(before, whole, place)
            fits = whole_ids[: len(prompt_ids)] == prompt_ids
            report.apart += not fits
            report.quoted += OPEN in whole
            report.rewritten += not writes(plain(rest), Message("user", text))
            after = whole_ids[len(prompt_ids) :] if fits else encode_alone(rest, place, template, tokenizer, limit)
            afters.append(ended(after, template, tokenizer))
        found.append((prompt_ids, tuple(afters)))
    return found


def _rest(before: str, whole: str, place: str) -> str:
    """Return what follows the prompt in the dialogue.

    Raises:
        DataError: The dialogue does not begin with the prompt.
    """
    if whole.startswith(before):
        return whole[len(before) :]
    if plain(whole).startswith(plain(before)):
        raise DataError(
            "an answer spells special tokens that the template's generation prompt has written already, and those of "
            "records are read as text",
            where=place,
            value=sorted({found[1] for found in QUOTED.finditer(whole)}),
            do="read such texts as tokens: special_tokens_in_text: true (--base special_tokens_in_text=true)",
        )
    start = max(0, next(i for i, letter in enumerate(before) if whole[i : i + 1] != letter) - 20)
    raise DataError(
        "the chat template begins a finished dialogue otherwise than the prompt that is answered, so what follows the "
        "prompt cannot be found",
        where=place,
        value=f"prompt ...{plain(before[start : start + 80])!r}, dialogue ...{plain(whole[start : start + 80])!r}",
        do="use a chat template whose finished answers begin as its generation prompt ends (chat_template.jinja in the "
        "model's folder), or another base.template",
    )


def _place(record: Any) -> str:
    """Return a record's row, or its prompt where the source is not known."""
    prompt = getattr(record, "prompt", record)
    return str(getattr(record, "source", "") or prompt.meta.get("source") or f"prompt {prompt.id}")
