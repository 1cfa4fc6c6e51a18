"""From a judge's reply to what it says: a pure function that never guesses.

A reply that is one JSON object, or a line that carries the question's mark, is the verdict. Without either, a verdict
of a known shape counts if the reply holds no other: several different ones are ambiguous, unless a word such as "final"
announces the last. Drafts before the end of a thought, what stands in quotation marks, and what the answers themselves
contain, is never read as the judge's word. Whatever remains is unparsed, with a reason: never a tie.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sacpo.judging.llm import shapes
from sacpo.judging.llm.shapes import Found
from sacpo.judging.rubric import Form, Rubric, normal
from sacpo.plain import JsonMapping, JsonObject


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply says.

    Attributes:
        scores: Of the answers A and B, as they were shown.
        winner: "A", "B" or "tie"; follows from the scores where there are any.
        label: One of the rubric's labels.
        rating: The score of a single answer.
        categories: Those of the rubric's categories that were named.
    """

    scores: tuple[float, float] | None = None
    winner: str = ""
    label: str = ""
    categories: tuple[str, ...] = ()
    rating: float | None = None


@dataclass(frozen=True, slots=True)
class Unparsed:
    """Why a reply could not be read.

    `reason` is one of: empty, truncated, filtered, too_long, judge_refused, no_verdict, quoted, wrong_schema,
    not_a_number, out_of_range, unknown_winner, unknown_label, contradictory, ambiguous.
    """

    reason: str


NO_VERDICT = {"content_filter": "filtered", "refusal": "judge_refused"}
"""Ends of replies that are no verdict, whatever their text says."""
_DASH = "\ua7f7"
"""A letter, in place of a sign that is apart from its number: no number begins with it, and none follows it as text."""
_DASHES = str.maketrans(dict.fromkeys(f"–—−{_DASH}", "-"))
_FORGED = re.compile(rf"verdict[\s_\-#*{_DASH}]*[0-9a-f]{{8,}}\b[^\n]*", re.IGNORECASE)
_APART = r"(?:(?![+\-−]?\.?\d)[^\w\n\[])*"
"""What stands between a mark and its verdict; a number's sign and point are the verdict's."""
_REFUSAL = re.compile(
    r"\b(?:sorry|i can(?:no|')t|i cannot|i(?: am|'m) unable|i won't|as an ai|not able to|unable to)\b",
    re.IGNORECASE,
)


_SIGN_APART = re.compile(r"(?<!\w)[-–—−](?=(?:[^\S\n]|[*_`#\[\]()~$])+\.?\d)")
"""Where scores may be negative: the mark of a list's point, or a minus sign; nobody knows. Markdown may be between."""


def parse_reply(
    reply: str | None, rubric: Rubric, *, sign: str = "", finish_reason: str = "stop", untrusted: Sequence[str] = ()
) -> Reading | Unparsed:
    """Read a judge's reply.

    Args:
        reply: Its text.
        rubric: What it was asked to judge by.
        sign: The question's mark.
        finish_reason: Why the endpoint ended it: stop, length, content_filter, refusal, ...
        untrusted: The texts that it was shown: prompt and answers.
    """
    text = shapes.plain(reply or "").strip()
    if finish_reason in NO_VERDICT:
        return Unparsed(NO_VERDICT[finish_reason])
    whole, cut = _whole(text), finish_reason == "length"
    if whole is None:
        text, unfinished = shapes.without_thoughts(text)
        text, cut = text.strip(), cut or unfinished
        whole = _whole(text)
    if rubric.scale[0] < 0:
        text = _SIGN_APART.sub(_DASH, text)
    own = [shapes.plain(one) for one in untrusted]
    if whole is not None:
        echoed = _is_quoted(Found(0, shapes.unfenced(text), whole), own)
        return Unparsed("quoted") if echoed else _from_object(whole, rubric)
    if sign and finish_reason != "length":
        marked = re.findall(rf"verdict[\s_\-#{_DASH}]*{sign}{_APART}([^\n]*)", text, re.IGNORECASE)
        if marked:
            return _from_line(marked[-1], rubric)
    if cut or not text:
        return Unparsed("truncated" if cut else "empty")
    return _only(text, rubric, own)


def _only(text: str, rubric: Rubric, untrusted: Sequence[str]) -> Reading | Unparsed:
    """Read the verdict of a reply that is the judge's own word, if there is one and no other."""
    unquoted = _FORGED.sub(lambda line: " " * len(line[0]), shapes.without_quotes(_outermost(text)))
    found = _all(unquoted, text, rubric)
    own = [one for one in found if not _is_quoted(one, untrusted)]
    if not own:
        if found:
            return Unparsed("quoted")
        return Unparsed("judge_refused" if _REFUSAL.search(text.replace("’", "'")[:300]) else "no_verdict")
    readings = {_read(one, rubric) for one in own if not shapes.is_draft(text, one)}
    announced = [one.start() for one in shapes.FINAL.finditer(unquoted)]
    if len(readings) > 1 and announced:
        last = _all(unquoted[announced[-1] :], text[announced[-1] :], rubric)
        readings = {_read(one, rubric) for one in last if not _is_quoted(one, untrusted)}
    if len(readings) != 1:
        return Unparsed("ambiguous")
    (reading,) = readings
    return Unparsed("ambiguous") if _is_doubtful(reading, unquoted) else reading


def _all(unquoted: str, text: str, rubric: Rubric) -> list[Found]:
    return [*_candidates(unquoted, rubric), *(one for one in shapes.objects(text) if isinstance(one.value, dict))]


def _read(found: Found, rubric: Rubric) -> Reading | Unparsed:
    if isinstance(found.value, dict):
        return _from_object(found.value, rubric)
    return _said(found.value, rubric, found.totals)


def _is_doubtful(reading: Reading | Unparsed, text: str) -> bool:
    """Tell whether the reply's own sentences say something else than its verdict of a known shape."""
    if isinstance(reading, Unparsed):
        return False
    if reading.rating is not None:
        loose_one = shapes.loose_rating(text)
        return loose_one is not None and _number(loose_one) != reading.rating
    if not reading.winner:
        return False
    if any(named != reading.winner for named in shapes.doubts(text)):
        return True
    loose = shapes.loose_scores(text)
    return reading.scores is not None and loose is not None and loose != reading.scores


def _candidates(text: str, rubric: Rubric) -> Iterable[Found]:
    if rubric.kind is Form.SCORES:
        return [*shapes.named_scores(text), *shapes.score_pairs(text)]
    if rubric.kind is Form.VERDICT:
        return shapes.winners(text)
    if rubric.kind is Form.RATING:
        return shapes.ratings(text)
    return shapes.labels(text, frozenset(rubric.labels))


def _is_quoted(found: Found, untrusted: Sequence[str]) -> bool:
    """Tell whether an answer holds this verdict: then it may be the answer's, not the judge's.

    Single words occur everywhere, so they are compared with whole lines; what has several words with any passage.
    All dashes are one, since those of the reply may have been replaced.
    """
    untrusted = [text.translate(_DASHES) for text in untrusted]
    parts = [" ".join(part.casefold().split()) for part in found.raw.translate(_DASHES).split("\n")]
    if isinstance(found.value, tuple) and all(isinstance(value, str) for value in found.value):
        pair = r"[\s,;&|]+".join(re.escape(value.translate(_DASHES)) for value in found.value)
        if any(re.search(rf"(?<![\w.]){pair}(?![\w.]*\w)", text, re.IGNORECASE) for text in untrusted):
            return True
    for text in untrusted:
        known = {" ".join(shapes.unmarked(line).casefold().split()) for line in text.split("\n")}
        flat = " ".join(text.casefold().split())
        if all(" ".join(shapes.unmarked(part).split()) in known or (" " in part and part in flat) for part in parts):
            return True
    return False


def _from_line(line: str, rubric: Rubric) -> Reading | Unparsed:
    """Read the rest of a marked line."""
    shown = line if rubric.kind is Form.VERDICT and "[[" in line else shapes.unmarked(line)
    readings = {_read(one, rubric) for one in _candidates(shown, rubric)}
    if len(readings) > 1:
        return Unparsed("ambiguous")
    if readings:
        return readings.pop()
    reasons = {Form.VERDICT: "unknown_winner", Form.LABEL: "unknown_label"}
    return Unparsed(reasons.get(rubric.kind, "no_verdict") if line.strip() else "no_verdict")


def _from_object(value: JsonObject, rubric: Rubric) -> Reading | Unparsed:
    fields = {normal(name): item for name, item in value.items()}
    if rubric.kind is Form.SCORES:
        return _object_scores(fields, rubric)
    if rubric.kind is Form.RATING:
        given = [fields[name] for name in ("score", "rating", "overall_score", "overall") if name in fields]
        return _agreed({_said(item, rubric) for item in given}) if given else Unparsed("wrong_schema")
    if rubric.kind is Form.VERDICT:
        words = [fields[name] for name in ("verdict", "winner", "better", "preferred") if name in fields]
        if not words or not all(isinstance(word, str) for word in words):
            return Unparsed("wrong_schema")
        return _agreed({_said(shapes.winner(word), rubric) for word in words})
    words = [fields[name] for name in ("label", "verdict", "classification") if name in fields]
    named = fields.get("categories", fields.get("category")) or ()
    named = [named] if isinstance(named, str) else named
    if not words or not all(isinstance(word, str) for word in words) or not isinstance(named, list | tuple):
        return Unparsed("wrong_schema")
    return _agreed({_said((normal(word), tuple(normal(name) for name in named)), rubric) for word in words})


def _agreed(readings: set[Reading | Unparsed]) -> Reading | Unparsed:
    """Return the one reading of an object's fields; several different ones are ambiguous."""
    return readings.pop() if len(readings) == 1 else Unparsed("ambiguous")


def _object_scores(fields: JsonObject, rubric: Rubric) -> Reading | Unparsed:
    """Read every pair of scores in an object, those of the objects in it included: they must be one."""
    pairs = [*_pairs(fields)]
    for item in fields.values():
        if isinstance(item, dict):
            pairs += _pairs({normal(name): inner for name, inner in item.items()})
    if not pairs:
        return Unparsed("wrong_schema")
    return _agreed({_said(pair, rubric) for pair in pairs})


def _pairs(fields: JsonMapping) -> Iterator[tuple[object, object]]:
    scores = fields.get("scores")
    if isinstance(scores, list) and len(scores) == 2:
        yield scores[0], scores[1]
    for form in ("score_{}", "{}", "assistant_{}", "answer_{}", "response_{}", "{}_score", "score{}"):
        for a, b in (("a", "b"), ("1", "2")):
            if form.format(a) in fields and form.format(b) in fields:
                yield fields[form.format(a)], fields[form.format(b)]


def _said(value: Any, rubric: Rubric, totals: Sequence[str] = ()) -> Reading | Unparsed:
    """Turn what a shape or an object holds into a reading, or say why it is none."""
    if any(float(total) != rubric.scale[1] for total in totals):  # 5/5 and 6/10 are not 5 and 6
        return Unparsed("out_of_range")
    if rubric.kind is Form.SCORES:
        return _scores([_number(item) for item in value], rubric.scale)
    if rubric.kind is Form.RATING:
        return _rating(_number(value), rubric.scale)
    if rubric.kind is Form.VERDICT:
        return Reading(winner=value) if value else Unparsed("unknown_winner")
    label, named = value
    if label not in rubric.labels:
        return Unparsed("unknown_label")
    categories = tuple(name for name in rubric.categories if name in named)
    if categories and label != rubric.categorised:
        return Unparsed("contradictory")
    return Reading(label=label, categories=categories)


def _scores(values: Sequence[float | None], scale: tuple[float, float]) -> Reading | Unparsed:
    a, b = values
    if a is None or b is None:
        return Unparsed("not_a_number")
    if not all(scale[0] <= value <= scale[1] for value in (a, b)):
        return Unparsed("out_of_range")
    return Reading((a, b), "A" if a > b else "B" if b > a else "tie")


def _rating(value: float | None, scale: tuple[float, float]) -> Reading | Unparsed:
    if value is None:
        return Unparsed("not_a_number")
    return Reading(rating=value) if scale[0] <= value <= scale[1] else Unparsed("out_of_range")


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value.replace("−", "-") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(text: str) -> JsonObject | None:
    try:
        value = json.loads(shapes.unfenced(text), object_pairs_hook=shapes.once_each)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _outermost(text: str) -> str:
    """Return a reply that stands in quotation marks as a whole without them."""
    pairs = (('"', '"'), ("“", "”"), ("'", "'"), ("`", "`"))
    for left, right in pairs:
        if text.startswith(left) and text.endswith(right) and text.count(left) == (2 if left == right else 1):
            return f" {text[1:-1]} "
    return text
