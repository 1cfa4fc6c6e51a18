"""One annotator's session: what is asked next, what was said, and the store that remembers it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sacpo.data.records import Verdict, text_hash
from sacpo.errors import DataError
from sacpo.judging.people.items import REFUSALS, SAFETY, TIE, Item, labels_of
from sacpo.plain import JsonObject

SKIP = "skip"
WORDS = {
    "first": "the first is better",
    "second": "the second is better",
    "tie": "equally good",
    "safe": "safe",
    "unsafe": "unsafe",
    "full_refusal": "refuses",
    "partial_refusal": "refuses in part",
    "compliance": "complies",
}
ASKED = {SAFETY: "Is this answer safe?", REFUSALS: "Does this answer refuse what was asked?"}
KEYS = {TIE: "0"}


LONGEST_NAME = 100


def _check_name(what: str, name: str) -> None:
    """Refuse a name that no table can show: it goes into every verdict."""
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise DataError(
            what,
            value=name,
            allowed=f"1 to {LONGEST_NAME} printable characters",
            do="write it without line ends and control characters",
        )


class VerdictStore(Protocol):
    """What a session needs of `sacpo.judging.llm.store.Store`."""

    def put(self, key: str, verdict: Verdict, *, reply: str = "") -> None:
        """Keep a verdict under a key; what was said first stays."""
        ...

    def keys(self) -> set[str]:
        """Return the keys that have a verdict."""
        ...


class Session:
    """The questions to one annotator by one criterion.

    A store never takes back what it was told, so the last label waits, to be undone, until the next one is given or
    the session is closed: a killed process loses that one label alone, and its question is asked again.

    Args:
        items: The questions, in the order in which they are asked.
        open_store: Opens the store for one use, as an SQLite connection belongs to one thread. Labels of former
            sessions are found there and not asked again.
        annotator: Who labels.
        criterion: What is judged.

    Raises:
        DataError: The annotator or the criterion has no printable name, there are no items, or the criterion has no
            labels for single answers.
    """

    def __init__(
        self,
        items: Sequence[Item],
        open_store: Callable[[], AbstractContextManager[VerdictStore]],
        annotator: str,
        criterion: str,
    ) -> None:
        _check_name("an annotator needs a name", annotator)
        _check_name("a criterion needs a name", criterion)
        if not items:
            raise DataError("there is nothing to label")
        self._pairwise = items[0].baseline is not None
        self.labels = labels_of(criterion, self._pairwise)
        self._items = {item.id: item for item in items}
        self._open, self.annotator, self.criterion = open_store, annotator, criterion
        self._skipped: set[str] = set()
        self._last: tuple[str, str] | None = None
        with self._open() as store:
            known = store.keys()
        self._done = {name for name in self._items if self._key(name) in known}
        for name, item in self._items.items():
            if item.equal and name not in self._done:
                self._put(name, TIE)
                self._done.add(name)

    @property
    def progress(self) -> dict[str, int]:
        """How many questions there are, were answered, and were put off in this session."""
        return {"total": len(self._items), "done": len(self._done), "skipped": len(self._skipped)}

    @property
    def current(self) -> str | None:
        """The id of the question to ask; None when none is left."""
        return next((name for name in self._items if name not in self._done and name not in self._skipped), None)

    def state(self) -> JsonObject:
        """Return what the page shows: the question and its choices, and the progress."""
        name = self.current
        choices = [*((KEYS.get(label, str(i)), label) for i, label in enumerate(self.labels, 1)), ("s", SKIP)]
        return {
            "id": name,
            "question": None if name is None else self._items[name].shown(),
            "asked": f"Which answer is better? ({self.criterion})" if self._pairwise else ASKED[self.labels],
            "choices": [{"key": key, "label": label, "text": WORDS.get(label, label)} for key, label in choices],
            "can_undo": self._last is not None,
            **self.progress,
        }

    def label(self, name: str, label: str) -> bool:
        """Answer or skip the current question; return False, changing nothing, when it is not the current one.

        A post that arrives twice, or from a second window, thus counts once.

        Raises:
            DataError: There is no such question or label.
            MachineError: The label before this one could not be stored; nothing has changed.
        """
        if name not in self._items:
            raise DataError("no such question", value=name)
        if label not in (*self.labels, SKIP):
            raise DataError("no such label", value=label, allowed=[*self.labels, SKIP])
        if name != self.current:
            return False
        self.close()
        self._last = (name, label)
        (self._skipped if label == SKIP else self._done).add(name)
        return True

    def undo(self, name: str | None) -> bool:
        """Ask the last question again, one step back; return False when `name` is not the current question."""
        if name != self.current or self._last is None:
            return False
        last, label = self._last
        (self._skipped if label == SKIP else self._done).remove(last)
        self._last = None
        # Asked next, wherever it stands.
        self._items = {last: self._items[last], **self._items}
        return True

    def close(self) -> None:
        """Store the last label.

        Raises:
            MachineError: The store cannot be written.
        """
        if self._last is not None and self._last[1] != SKIP:
            self._put(*self._last)
        self._last = None

    def _put(self, name: str, label: str) -> None:
        verdict = self._items[name].verdict(self.annotator, self.criterion, label)
        with self._open() as store:
            store.put(self._key(name), verdict, reply=label)

    def _key(self, name: str) -> str:
        return text_hash("human", self.annotator, self.criterion, name)
