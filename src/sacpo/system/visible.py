"""How texts that nobody can trust (names, answers) are shown: nothing in them acts on a terminal or a page."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator

SPELLED = frozenset(
    "\u200e\u200f\u061c\u2028\u2029\ufeff" + "".join(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
)

_HALF = re.compile("[\ud800-\udfff]")


def json_text(value: object, *, allow_nan: bool = False, indent: int | None = None) -> str:
    """Return a value as JSON that UTF-8 can hold: in escapes where a text has half of a surrogate pair."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=allow_nan, indent=indent)
    return json.dumps(value, allow_nan=allow_nan, indent=indent) if _HALF.search(text) else text


def visible(text: str) -> str:
    """Show what would hide or reorder text: control characters as pictures, direction marks spelled out."""
    return "".join(_spelled(text))


def _spelled(text: str) -> Iterator[str]:
    for char in text.replace("\r\n", "\n"):
        code = ord(char)
        if char in "\n\t":
            yield char
        elif code < 0x20:
            yield chr(0x2400 + code)
        elif code == 0x7F:
            yield "\u2421"
        elif char in SPELLED or unicodedata.category(char) in ("Cc", "Cs"):
            yield f"⟨U+{code:04X}⟩"
        else:
            yield char
