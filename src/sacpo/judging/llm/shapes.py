"""The shapes in which judges write verdicts, found in plain text.

Every function returns what it found with its place, so that the last verdict of a reply can count.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sacpo.judging.rubric import normal

NUMBER = r"[+\-−]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|\.\d+|nan\b|inf(?:inity)?\b)|\bn/?a\b|\bnone\b|\bnull\b"
_OF = r"(?:\s*(?:/|out of)\s*\d+)?"
_WORDS = r"(?:[a-z' ]{0,40}\b(?:scores?|ratings?|verdicts?|values?|evaluations?|results?)[a-z' ]{0,20}\s*[:=]\s*)?"
_BETWEEN = r"(?:\s*[,;&|]\s*|\s+(?:and|vs\.?|to)\s+|\s+)"
_PAIR = re.compile(rf"{_WORDS}({NUMBER}){_OF}{_BETWEEN}({NUMBER}){_OF}\s*\.?", re.IGNORECASE)
_NAME = r"(?:the\s+)?(?:ai\s+)?(?:assistant|answer|response|model)"
_AFTER = rf"(?=\s*(?:$|[,;|&(]|\.(?!\d)|[-–—]\s|\b(?:and|because|since|as|{_NAME})\b|\b[ab12]\s*[:=]))"
_NAMED = re.compile(
    rf"(?:\b(?:{_NAME}|score|rating)[\s_]*|^|(?<=[,;&|])\s*|(?<=\d)\s+)(?<!\w)([ab12])\b(?:'s)?(?:\s+(?:score|rating))?"
    rf"\s*(?:[:=]|[-–—]\s|\bis\b|\bgets\b|\bscores\b)\s*(?:scores?\s*:?\s*)?({NUMBER}){_OF}{_AFTER}",
    re.IGNORECASE | re.MULTILINE,
)
_WINNER = re.compile(
    rf"(?:(?:my |the )?(?:final )?(?:verdict|winner|choice|decision|answer|better answer)\s*(?:[:=]|is\b)\s*:?\s*)?"
    rf"(?:{_NAME}\s+)?(a|b|c|tie|tied|draw|equal|both are equal|neither(?: is better)?)"
    r"(?:\s+(?:is|was)\s+(?:the\s+)?(?:better|winner|best)|\s+wins)?\s*[.!]?",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?:(?:my |the )?(?:final )?(?:label|verdict|classification|decision|answer)\s*(?:[:=]|is\b)\s*:?\s*)?"
    r"(?:\d+[\s_.)]+)?([a-z][\w \-]{1,60}?)\s*[.!]?(?:\s*;\s*(.*))?",
    re.IGNORECASE,
)
_CATEGORIES = re.compile(r"^\s*categor(?:y|ies)\s*[:=]\s*(.+)$", re.IGNORECASE | re.MULTILINE)
_FENCE = re.compile(r"^\s*```[\w-]*\s*$", re.MULTILINE)
_MARKDOWN = str.maketrans(dict.fromkeys("*`#[]()~$", None))
_QUOTED = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»|`[^`\n]*`|‘[^’\n]*’")


@dataclass(frozen=True, slots=True)
class Found:
    """Something that looks like a verdict.

    Attributes:
        end: Where it ends: the last one counts.
        raw: The text it was read from.
        value: Scores as texts, a winner, or a label with its categories.
    """

    end: int
    raw: str
    value: Any


def plain(text: str) -> str:
    """Return a text with compatibility forms folded: full-width digits and letters become ordinary ones."""
    return unicodedata.normalize("NFKC", text).replace("\r\n", "\n").replace("\r", "\n")


def bare(line: str) -> str:
    """Return a line without the marks of Markdown around its words."""
    line = re.sub(r"^\s*[-–—•>+]\s+", "", line.translate(_MARKDOWN))
    return line.strip().strip("|_").strip()


def without_quotes(text: str) -> str:
    """Return a reply in which quoted passages and block quotes are blank; places stay the same."""
    lines = [" " * len(line) if line.lstrip().startswith(">") else line for line in text.split("\n")]
    return _QUOTED.sub(lambda found: " " * len(found[0]), "\n".join(lines))


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line that has text, bare, with the place where it ends."""
    end = 0
    for line in text.split("\n"):
        end += len(line) + 1
        if bare(line):
            yield end, bare(line)


def score_pairs(text: str) -> Iterator[Found]:
    """Yield the lines that hold two scores and nothing else."""
    for end, line in lines(text):
        if found := _PAIR.fullmatch(line):
            yield Found(end, line, (found[1], found[2]))


def named_scores(text: str) -> Iterator[Found]:
    """Yield the last score given to A and the last given to B, by name, if there are both."""
    latest: dict[str, tuple[int, str, str]] = {}
    for end, line in lines(text):
        for found in _NAMED.finditer(line):
            name = {"1": "a", "2": "b"}.get(found[1], found[1].lower())
            latest[name] = (end, found[0].strip(), found[2])
    if len(latest) == 2:
        (end_a, raw_a, a), (end_b, raw_b, b) = latest["a"], latest["b"]
        yield Found(max(end_a, end_b), f"{raw_a}\n{raw_b}", (a, b))


def winners(text: str) -> Iterator[Found]:
    """Yield the lines that name a winner or a tie and nothing else, and marks such as [[A]]."""
    end = 0
    for line in text.split("\n"):
        end += len(line) + 1
        found = _WINNER.fullmatch(bare(line))
        marks = re.findall(r"\[\[\s*(a|b|c|tie)\s*\]\]", line, re.IGNORECASE)
        if found or marks:
            yield Found(end, line.strip(), winner(marks[-1] if marks else found[1]))  # type: ignore[index]


def winner(word: str) -> str:
    """Return "A", "B" or "tie" for a word that `winners` or a schema allows, "" for any other."""
    word = word.strip().casefold()
    known = {"a": "A", "b": "B", "answer a": "A", "answer b": "B", "assistant a": "A", "assistant b": "B"}
    ties = ("c", "tie", "tied", "draw", "equal", "both are equal", "neither", "neither is better")
    return known.get(word, "tie" if word in ties else "")


def labels(text: str, names: frozenset[str]) -> Iterator[Found]:
    """Yield the lines that consist of one of the labels, with the categories named after it."""
    listed = [listed_names(found[1]) for found in _CATEGORIES.finditer(text)]
    for end, line in lines(text):
        found = _LABEL.fullmatch(line)
        if found and normal(found[1]) in names:
            categories = listed_names(found[2] or "") or (listed[-1] if listed else ())
            yield Found(end, line, (normal(found[1]), categories))


def listed_names(text: str) -> tuple[str, ...]:
    """Return the names in a list separated by semicolons or commas."""
    return tuple(normal(part) for part in re.split(r"[;,]", text) if normal(part))


def objects(text: str) -> Iterator[Found]:
    """Yield the JSON objects in a text, outermost ones, with or without fences."""
    decoder = json.JSONDecoder()
    place = text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            yield Found(end, text[place:end], value)
        place = text.find("{", end)


def unfenced(text: str) -> str:
    """Return a text without the lines that open and close fences."""
    return _FENCE.sub("", text).strip()
