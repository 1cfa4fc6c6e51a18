"""Special tokens that texts spell: read as tokens where a template wrote them, and as text where a record did.

A template quotes what a record's text spells: OPEN and CLOSE stand around it. What is quoted is encoded as text by a
copy of the tokenizer that does not know its special tokens by their names; stand-ins take their place where the
template wrote them. So the whole text is still encoded in one call, and nothing else of it changes.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import cast

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from sacpo.errors import DataError

OPEN, CLOSE = "\ufdd0", "\ufdd1"  # no characters: Unicode keeps them for a program's own use
QUOTED = re.compile(f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}")
STAND_IN = "\ufdd2{}\ufdd3"


class Specials:
    """A tokenizer's special tokens by name.

    One that is a single character, or blank, is left to the tokenizer: it cannot be told from text.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._added = {token.content: token for token in tokenizer.added_tokens_decoder.values() if token.special}
        names = sorted({*self._added, *map(str, tokenizer.all_special_tokens)}, key=lambda name: (-len(name), name))
        self.ids = {name: cast(int, tokenizer.convert_tokens_to_ids(name)) for name in names if len(name.strip()) > 1}
        self.pattern = re.compile("|".join(map(re.escape, self.ids)) or "(?!)")

    def spelled(self, *texts: str) -> bool:
        """Tell whether one of these texts spells a special token."""
        return any(self.pattern.search(text) for text in texts)

    def quote(self, text: str) -> str:
        """Return the text with a mark on both sides of every special token that it spells."""
        return self.pattern.sub(f"{OPEN}\\g<0>{CLOSE}", text)

    def carried(self, text: str, marked: str) -> str | None:
        """Return a template's text with the quotes of the same text rendered from quoted messages.

        None where the two do not spell the same special tokens, because the template takes messages apart by them.
        """
        if plain(marked) == text:
            return marked
        found = list(self.pattern.finditer(marked))
        quoted = [marked[m.start() - 1 : m.start()] == OPEN and marked[m.end() : m.end() + 1] == CLOSE for m in found]
        if [m[0] for m in found] != self.pattern.findall(text):
            return None
        flags = iter(quoted)
        return self.pattern.sub(lambda m: f"{OPEN}{m[0]}{CLOSE}" if next(flags) else m[0], text)

    def encode(self, text: str, place: str) -> list[int]:
        """Return the token ids of a text with quotes.

        Raises:
            DataError: The tokenizer cannot read the name of a special token as text.
        """
        if not self._tokenizer.is_fast:
            raise self._unreadable("a tokenizer without a fast implementation reads it as a token", place, text)
        backend, real = self._literal
        names = re.compile(f"{QUOTED.pattern}|{self.pattern.pattern}")
        named = names.sub(lambda m: m[0][1:-1] if m[1] is not None else STAND_IN.format(self.ids[m[0]]), text)
        ids = backend.encode(named, add_special_tokens=False).ids
        control = {*self.ids.values()} - {self._tokenizer.unk_token_id}
        if control & {*ids} - {*real}:
            raise self._unreadable("the tokenizer has it in its vocabulary of text", place, text)
        return [real.get(i, i) for i in ids]

    @cached_property
    def _literal(self) -> tuple[Tokenizer, dict[int, int]]:
        """The tokenizer without the names of its special tokens; and their stand-ins' ids with the real ones."""
        backend = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True  # as text, that is
        real = {}
        for name, token_id in self.ids.items():
            stand_in, known = STAND_IN.format(token_id), self._added.get(name)
            flags = {key: getattr(known, key) for key in ("lstrip", "rstrip", "single_word")} if known else {}
            backend.add_tokens([AddedToken(stand_in, normalized=False, **flags)])
            real[cast(int, backend.token_to_id(stand_in))] = token_id
        return backend, real

    def _unreadable(self, why: str, place: str, text: str) -> DataError:
        return DataError(
            f"a text spells a special token that cannot be read as text: {why}",
            where=place,
            value=[found[1] for found in QUOTED.finditer(text)][:5],
            do="leave the record out, or read such texts as tokens: special_tokens_in_text: true",
        )


def plain(text: str) -> str:
    """Return a text without the marks of quotes."""
    return text.replace(OPEN, "").replace(CLOSE, "")


def check_marks(text: str, place: str) -> None:
    """Refuse a text that holds the marks themselves.

    Raises:
        DataError: It does.
    """
    if OPEN in text or CLOSE in text:
        raise DataError(
            "a text holds U+FDD0 or U+FDD1, which are no characters of any text",
            where=place,
            value=text[:60],
            do="remove them",
        )
