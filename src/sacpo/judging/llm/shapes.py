"""The shapes in which judges write verdicts, found in plain text.

Every function returns what it found with its place, so that a draft can be told from what counts.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sacpo.judging.rubric import normal
from sacpo.plain import JsonObject

NUMBER = r"[+\-−]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|\.\d+|nan\b|inf(?:inity)?\b)|\bn/?a\b|\bnone\b|\bnull\b"
_OF = r"(?:\s*(?:/|out of)\s*(\d+))?"
_WORDS = r"(?:[a-z' ]{0,40}\b(?:scores?|ratings?|verdicts?|values?|evaluations?|results?)[a-z' ]{0,20}\s*[:=]\s*)?"
_BETWEEN = r"(?:\s*[,;&|]\s*|\s+(?:and|vs\.?|to)\s+|\s+)"
_PAIR = re.compile(rf"{_WORDS}({NUMBER}){_OF}{_BETWEEN}({NUMBER}){_OF}\s*\.?", re.IGNORECASE)
_RATING = re.compile(
    rf"(?:(?:[a-z' ]{{0,40}}\b(?:score|rating|verdict|evaluation|grade)[a-z' ]{{0,20}}?"
    rf"\s*(?:[:=]|[-–—]\s|\bis\b\s*:?)|overall\s*[:=])\s*)?({NUMBER}){_OF}\s*\.?",
    re.IGNORECASE,
)
_LISTED = re.compile(r"\s*\(?\d+[.)]\s*")
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
_THOUGHT = r"(?:\w+:)?(?:think|thinking|thought|reasoning|reflection|scratchpad)"
_OPENED = re.compile(rf"(?:<{_THOUGHT}(?:\s[^<>\n]{{0,40}})?>|\[think\]|◁think▷)", re.IGNORECASE)
_CLOSED = re.compile(rf"(?:</{_THOUGHT}\s*>|\[/think\]|◁/think▷|<\|channel\|>final<\|message\|>)", re.IGNORECASE)
FINAL = re.compile(
    r"\b(?:final(?:ly)?|overall|totals?|in summary|conclusion|on (?:second thought|reflection|balance))\b",
    re.IGNORECASE,
)
"""Words after which a judge says what counts."""
_DRAFT = re.compile(
    r"\b(?:draft|tentative(?:ly)?|initial(?:ly)?|at first|first impression|for (?:example|instance)|e\.g\.|such as|"
    r"(?:could|might|may|would) be)\b",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    rf"(?:^|(?<=[.!?:;\n]))[^.!?;\n]{{0,40}}?\b{_NAME}\s+([ab])\s+(?:is|was)\s+(?:\w+ly\s+|much\s+|the\s+|slightly\s+)*"
    rf"(?:better|best|winner|superior)(?:\s+(?:one|answer|response))?(?=\s*(?:$|[.!,;:\n]|overall\b|than\b|because\b|since\b|as\b))",
    re.IGNORECASE | re.MULTILINE,
)
_UNSURE = re.compile(r"\b(?:not|n't|neither|nor|whether|if|or|either|would|could|might|may|at first)\b", re.IGNORECASE)
_LOOSE = re.compile(r"\bA\b[^\d\n]{0,20}?(\d+(?:\.\d+)?)[^\d\n]{0,25}?\bB\b[^\d\n]{0,20}?(\d+(?:\.\d+)?)")
_LOOSE_RATING = re.compile(
    rf"\b(?:scor|rat|giv|gave|deserv|award|earn|grad)\w*\b[^\d\n]{{0,25}}?(?<![\w.+\-−])({NUMBER}){_OF}"
    r"(?=\s*(?:$|[,;:!?)]|\.(?!\d)))",
    re.IGNORECASE | re.MULTILINE,
)
_CATEGORIES = re.compile(r"^\s*categor(?:y|ies)\s*[:=]\s*(.+)$", re.IGNORECASE | re.MULTILINE)
_FENCE = re.compile(r"^\s*```[\w-]*\s*$", re.MULTILINE)
_MARKDOWN = str.maketrans(dict.fromkeys("*`#[]()~$", None))
_QUOTED = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»|`[^`\n]*`|‘[^’\n]*’")


@dataclass(frozen=True, slots=True)
class Found:
    """Something that looks like a verdict.

    Attributes:
        end: Where it ends.
        raw: The text it was read from.
        value: Scores as texts, one score as a text, a winner, or a label with its categories.
        totals: What the scores are out of, as far as it is said.
    """

    end: int
    raw: str
    value: Any
    totals: tuple[str, ...] = ()


def plain(text: str) -> str:
    """Return a text with compatibility forms folded: full-width digits and letters become ordinary ones."""
    return unicodedata.normalize("NFKC", text).replace("\r\n", "\n").replace("\r", "\n")


def unmarked(line: str) -> str:
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
        if unmarked(line):
            yield end, unmarked(line)


def without_thoughts(text: str) -> tuple[str, bool]:
    """Return a reply without what the judge thought before it, and whether a thought was left unfinished.

    What stands before the last end of a thought is a draft, whether its beginning is there or not. A beginning without
    an end is a thought where it begins a line, and a word elsewhere.
    """
    ends = [found.end() for found in _CLOSED.finditer(text)]
    text = text[ends[-1] :] if ends else text
    for found in _OPENED.finditer(text):
        if not text[: found.start()].rpartition("\n")[2].strip():
            return text[: found.start()], True
    return text, False


def score_pairs(text: str) -> Iterator[Found]:
    """Yield the lines that hold two scores and nothing else."""
    for end, line in lines(text):
        if found := _PAIR.fullmatch(line):
            yield Found(end, line, (found[1], found[3]), tuple(filter(None, (found[2], found[4]))))


def ratings(text: str) -> Iterator[Found]:
    """Yield the lines that hold one score and nothing else; the number of a list's point is none."""
    shown = [(end, line) for end, line in lines(text)]
    for end, line in shown:
        found = _RATING.fullmatch(line)
        raw = text[:end].rstrip("\n").rpartition("\n")[2]
        if found and (len(shown) == 1 or not _LISTED.fullmatch(raw)):
            yield Found(end, line, found[1], tuple(filter(None, [found[2]])))


def named_scores(text: str) -> Iterator[Found]:
    """Yield the scores given to A and B by name, pair by pair; one given alone later joins the other's last."""
    latest: dict[str, tuple[int, re.Match[str]]] = {}
    fresh: set[str] = set()
    for end, line in lines(text):
        for found in _NAMED.finditer(line):
            name = {"1": "a", "2": "b"}.get(found[1], found[1].lower())
            if name in fresh and len(fresh) == 2:
                yield _named(latest)
                fresh = set()
            latest[name] = (end, found)
            fresh.add(name)
    if len(latest) == 2 and fresh:
        yield _named(latest)


def _named(given: Mapping[str, tuple[int, re.Match[str]]]) -> Found:
    (end_a, a), (end_b, b) = given["a"], given["b"]
    raw = f"{a[0].strip()}\n{b[0].strip()}"
    return Found(max(end_a, end_b), raw, (a[2], b[2]), tuple(filter(None, (a[3], b[3]))))


def winners(text: str) -> Iterator[Found]:
    """Yield the lines that name a winner or a tie and nothing else, and marks such as [[A]]."""
    start = 0
    for line in text.split("\n"):
        marks = [*re.finditer(r"\[\[\s*(a|b|c|tie)\s*\]\]", line, re.IGNORECASE)]
        for mark in marks:
            yield Found(start + mark.end(), line[: mark.end()].strip(), winner(mark[1]))
        if not marks and (found := _WINNER.fullmatch(unmarked(line))):
            yield Found(start + len(line), line.strip(), winner(found[1]))
        start += len(line) + 1


def doubts(text: str) -> Iterator[str]:
    """Yield the winners that sentences name in full ("Overall, answer B is better."), as "A" or "B"."""
    for found in _CHOSEN.finditer(text):
        if not _UNSURE.search(found[0]):
            yield found[1].upper()


def loose_scores(text: str) -> tuple[float, float] | None:
    """Return two scores in no known shape, behind the last word that announces what counts ("Final: A 3, B 8")."""
    announced = [found.end() for found in FINAL.finditer(text)]
    found = _LOOSE.search(text, announced[-1]) if announced else None
    return (float(found[1]), float(found[2])) if found else None


def loose_rating(text: str) -> str | None:
    """Return the score that a sentence gives behind the last word that announces what counts ("Overall I give a 3")."""
    announced = [found.end() for found in FINAL.finditer(text)]
    found = _LOOSE_RATING.search(text, announced[-1]) if announced else None
    return found[1] if found else None


def is_draft(text: str, found: Found) -> bool:
    """Tell whether the line of something found says that it is a draft or an example."""
    start = max(found.end - len(found.raw) - 1, 0)
    return _DRAFT.search(text[text.rfind("\n", 0, start) + 1 : found.end]) is not None


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
    decoder = json.JSONDecoder(object_pairs_hook=once_each)
    place = text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            yield Found(end, text[place:end], value)
        place = text.find("{", end)


def once_each(pairs: Sequence[tuple[str, object]]) -> JsonObject:
    """Return the object of these members.

    Raises:
        ValueError: One name stands for two values: which one counts would be a guess.
    """
    found = dict(pairs)
    if len(found) < len(pairs) and any(found[name] != value for name, value in pairs):
        raise ValueError("a name stands for two values")
    return found


def unfenced(text: str) -> str:
    """Return a text without the lines that open and close fences."""
    return _FENCE.sub("", text).strip()
