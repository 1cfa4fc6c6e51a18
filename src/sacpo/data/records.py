"""The records that stages exchange: plain immutable values that read and write JSON lines.

Every stage meets the others only through these records and the manifests of `sacpo.system.runs`.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.system.files import sync
from sacpo.system.visible import json_text

R = TypeVar("R", bound="Record")
ATOMS = frozenset((str, int, float, bool, type(None)))


def text_hash(*parts: str) -> str:
    """Return 16 hexadecimal digits that identify a sequence of texts."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()[:16]


class Record:
    """A dataclass that turns into a JSON object, which lacks fields with their `unsaid` values, and back."""

    unsaid: ClassVar[dict[str, object]] = {}

    def to_json(self) -> JsonObject:
        """Return the record as a JSON-ready dictionary (enums as their values)."""
        found: JsonObject = _plain(self)
        for name in [name for name, usual in self.unsaid.items() if found[name] == usual]:
            del found[name]
        return found

    @classmethod
    def from_json(cls: type[R], data: JsonObject) -> R:
        """Build the record from what `to_json` returned."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Message(Record):
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str

    def __post_init__(self) -> None:
        _require_texts(self.role, self.content)


class Kind(enum.StrEnum):
    """What a prompt asks for: it decides which rates it counts in."""

    ORDINARY = "ordinary"  # harmless and sounds so
    RESTRICTED = "restricted"  # should not be complied with: counts in the unsafe rate
    BORDERLINE = "borderline"  # harmless but sounds risky: counts in the over-refusal rate
    UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Prompt(Record):
    """A prompt: a conversation that ends with a user's turn.

    Attributes:
        messages: The turns, oldest first.
        id: Content hash of the turns unless the source gives its own.
        cluster: Prompts with the same cluster are not independent (a task, a template); the id by default.
        category: A harm or task category, free text.
        kind: See `Kind`.
        meta: What the source knows beside it (the world keeps the task here).
    """

    messages: tuple[Message, ...]
    id: str = ""
    cluster: str = ""
    category: str = ""
    kind: Kind = Kind.UNKNOWN
    meta: JsonObject = field(default_factory=dict, compare=False, hash=False)

    def __post_init__(self) -> None:
        messages = tuple(m if isinstance(m, Message) else Message(**m) for m in self.messages)
        object.__setattr__(self, "messages", messages)
        object.__setattr__(self, "kind", Kind(self.kind))
        if not self.id:
            object.__setattr__(self, "id", text_hash(*(part for m in messages for part in (m.role, m.content))))
        if not self.cluster:
            object.__setattr__(self, "cluster", self.id)

    @classmethod
    def from_text(cls, text: str, **fields: Any) -> Prompt:
        """Return the single-turn prompt with this user text."""
        return cls(messages=(Message("user", text),), **fields)

    @property
    def text(self) -> str:
        """The last user turn's text."""
        return self.messages[-1].content


def _prompt(value: Prompt | JsonObject) -> Prompt:
    return value if isinstance(value, Prompt) else Prompt(**value)


@dataclass(frozen=True, slots=True)
class Pair(Record):
    """Two completions of one prompt with the probability that the first is preferred.

    Attributes:
        p: Probability in [0, 1] that `chosen` is preferred: 1 a hard label, .5 a tie.
        source: The data source's name and row, for messages.
        criterion: What the preference is about, if the source says so.
        offset: What the difference of the policy's rewards must reach before the label counts: by another criterion
            (MODPO), or for a safe answer beside an unsafe one (SafeDPO, BSO).
    """

    prompt: Prompt
    chosen: str
    rejected: str
    p: float = 1.0
    source: str = ""
    criterion: str = ""
    offset: float = 0.0
    unsaid: ClassVar[dict[str, object]] = {"offset": 0.0}

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", _prompt(self.prompt))

    @property
    def id(self) -> str:
        """Content hash of prompt and both completions, in order."""
        return text_hash(self.prompt.id, self.chosen, self.rejected)


@dataclass(frozen=True, slots=True)
class Labelled(Record):
    """One completion with a label: desirable or not (unpaired data, for KTO)."""

    prompt: Prompt
    completion: str
    label: bool
    source: str = ""
    criterion: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", _prompt(self.prompt))

    @property
    def id(self) -> str:
        """Content hash of prompt, completion and label."""
        return text_hash(self.prompt.id, self.completion, str(self.label))


@dataclass(frozen=True, slots=True)
class Demonstration(Record):
    """A prompt with the completion to imitate (SFT).

    Attributes:
        weight: How much its log-likelihood counts; 1 but for a bank's answers that are all learnt.
        ref_weight: What the same weight would be if the reference were learnt: the samples that it stands for.
        ref_logp: log pi_ref(completion | prompt), in nats, where it is known.
    """

    prompt: Prompt
    completion: str
    source: str = ""
    weight: float = 1.0
    ref_weight: float = 1.0
    ref_logp: float | None = None
    unsaid: ClassVar[dict[str, object]] = {"weight": 1.0, "ref_weight": 1.0, "ref_logp": None}

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", _prompt(self.prompt))

    @property
    def id(self) -> str:
        """Content hash of prompt and completion."""
        return text_hash(self.prompt.id, self.completion)


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """One model's answer to a prompt.

    Attributes:
        n_tokens: Completion tokens, the end token included when it was produced.
        truncated: The answer reached max_new_tokens without an end token.
        degenerate: "" or what is wrong with it: "empty" or "repeating".
        sample: Which of several samples of the prompt this is (0, 1, ...).
        tokens: The completion's token ids as they were decoded, the end token included; () when not known. The text
            tokenised again may give others.
    """

    prompt: Prompt
    model: str
    text: str
    n_tokens: int = 0
    truncated: bool = False
    degenerate: str = ""
    sample: int = 0
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _require_texts(self.model, self.text)
        object.__setattr__(self, "prompt", _prompt(self.prompt))
        object.__setattr__(self, "tokens", tuple(self.tokens))

    @classmethod
    def from_json(cls, data: JsonObject) -> Answer:
        """Build the record from what `to_json` returned, or did when answers had two log-probs that nothing filled."""
        return cls(**{name: value for name, value in data.items() if name not in ("logp", "base_logp") or value})

    @property
    def hash(self) -> str:
        """Content hash of the text."""
        return text_hash(self.text)


class Outcome(enum.StrEnum):
    """What a pairwise judge said of an answer against the baseline's; unparsed is not a tie."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"
    UNPARSED = "unparsed"


@dataclass(frozen=True, slots=True)
class Verdict(Record):
    """What a judge said of one answer, pairwise (`outcome`) or pointwise (`score`, `label`).

    Attributes:
        criterion: helpfulness, harmlessness, refusal, ...
        outcome: Against the baseline's answer; None for a pointwise judge; unparsed when a reply could not be read.
        score: Higher is better for the criterion; None when the judge gives none.
        label: "safe"/"unsafe", "refusal"/"compliance", ... ; "" when the judge gives none.
        probability: The judge's probability that this answer is better than the baseline's, when it gives one.
        order: "ab": this answer was shown first; "ba": second; "" when order means nothing.
        repeat: Which repetition of the same question (0, 1, ...).
        reason: Why a reply could not be read: truncated, filtered, ...; "" for others and where it is not known.
    """

    prompt_id: str
    cluster: str
    model: str
    criterion: str
    judge: str
    answer_hash: str
    category: str = ""
    kind: Kind = Kind.UNKNOWN
    baseline: str = ""
    baseline_hash: str = ""
    outcome: Outcome | None = None
    score: float | None = None
    label: str = ""
    probability: float | None = None
    order: str = ""
    repeat: int = 0
    sample: int = 0
    reason: str = ""
    unsaid: ClassVar[dict[str, object]] = {"reason": ""}

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.kind))
        if self.outcome is not None:
            object.__setattr__(self, "outcome", Outcome(self.outcome))


def write_jsonl(path: Path, records: Iterable[Record | JsonObject]) -> int:
    """Write records to a JSON-lines file, flushed to the disk; return how many."""
    n = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            data = record.to_json() if isinstance(record, Record) else record
            file.write(json_text(data) + "\n")
            n += 1
    sync(path)
    return n


def read_jsonl(path: Path, cls: type[R]) -> list[R]:
    """Read the records that `write_jsonl` wrote.

    Raises:
        DataError: A line is not a record of this class; the message names file and line.
    """
    return list(iter_jsonl(path, cls))


def iter_jsonl(path: Path, cls: type[R]) -> Iterator[R]:
    """Yield the records of a JSON-lines file, one `Prompt` for neighbours of the same; errors as in `read_jsonl`."""
    asked, prompt = "", None
    with path.open("rb") as file:
        for number, line in ((number, line) for number, line in enumerate(file, 1) if line.strip()):
            try:
                data = json.loads(line)
                if isinstance(data, dict) and isinstance(data.get("prompt"), dict):
                    said = repr(data["prompt"])  # equality would take 1 for true
                    if said != asked:
                        asked, prompt = said, Prompt(**data["prompt"])
                    data["prompt"] = prompt
                yield cls.from_json(data)
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise DataError(
                    f"not a record of the kind {cls.__name__}: {error}",
                    where=f"{path}, line {number}",
                    value=line[:80].decode("utf-8", "replace"),
                    do="give a file that sacpo wrote, or make it again",
                ) from error


def _require_texts(*values: object) -> None:
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{value!r} stands where a text is to be")


@functools.cache
def _names(kind: Any) -> tuple[str, ...] | None:
    """Return the names of a dataclass's fields; None for another type."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def _plain(value: object) -> Any:
    """Return a value with dataclasses, tuples and enums in it as JSON has them."""
    kind: Any = type(value)
    if kind in ATOMS:
        return value
    if isinstance(value, list | tuple):
        return [*value] if ATOMS.issuperset(map(type, value)) else [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, enum.Enum):
        return value.value
    names = _names(kind)
    return value if names is None else {name: _plain(getattr(value, name)) for name in names}
