"""Every verdict that was paid for, kept in an SQLite file under the content of what was asked.

A content key stands for one request: rubric, judge and settings, prompt, both answers' texts, order and repeat. What
was said under a key never changes: the first write wins, unless what could not be read is asked again (see `Store`).
Several questions may share a key (two models gave the same text); each has a row of its own, so that `verdicts` names
all of them. Replies that could not be read are kept beside the verdicts, because they were paid for too: a resumed run
goes on after them.

The file is in write-ahead mode and every write is its own transaction: a killed process loses none that returned.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from sacpo.data.records import Verdict, text_hash
from sacpo.errors import MachineError, RunError
from sacpo.plain import JsonMapping, JsonObject
from sacpo.stats.verdicts import question as asked_by
from sacpo.system.machine import machine_errors

STORE = "verdicts.sqlite"
"""The file's name."""
SCHEMA = 1
WAIT_SECONDS = 30.0
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS verdicts (
    key TEXT NOT NULL, asked TEXT NOT NULL, verdict TEXT NOT NULL, reply TEXT NOT NULL, usage TEXT NOT NULL,
    question TEXT NOT NULL, PRIMARY KEY (key, asked)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unread (
    key TEXT NOT NULL, attempt INTEGER NOT NULL, reason TEXT NOT NULL, reply TEXT NOT NULL, usage TEXT NOT NULL,
    PRIMARY KEY (key, attempt)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """One verdict with what belongs to it.

    Attributes:
        key: The content key.
        verdict: The verdict.
        reply: The judge's reply, as it came.
        usage: Tokens that the reply cost: `prompt_tokens`, `completion_tokens`.
        question: What else the writer kept: categories, the reason why a reply could not be read.
    """

    key: str
    verdict: Verdict
    reply: str
    usage: dict[str, int]
    question: JsonObject


@dataclass(frozen=True, slots=True)
class UnreadReply:
    """A reply that was paid for and could not be read; `attempt` counts from 0."""

    attempt: int
    reason: str
    reply: str
    usage: dict[str, int]


class Store:
    """The verdicts of one SQLite file; use it as a context manager.

    Args:
        path: The file; made if absent.
        again: What `unparsed` returned, to ask these once more: a verdict is as unknown until another one takes its
            place, and its key then leaves the mapping. Nothing is dropped before.

    Raises:
        RunError: The file is no store, or one of another version.
        MachineError: The file cannot be opened or written.
    """

    def __init__(self, path: str | Path, again: dict[str, int] | None = None) -> None:
        self.path = Path(path)
        self._again = {} if again is None else again
        with machine_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors():
            self._db = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)
        try:
            with self._errors():
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def put(
        self,
        key: str,
        verdict: Verdict,
        *,
        reply: str = "",
        usage: Mapping[str, int] | None = None,
        question: JsonMapping | None = None,
    ) -> None:
        """Keep a verdict; what was said first under the key stays.

        Args:
            key: The content key.
            verdict: The verdict. If the key is known, only the question that it answers is new.
            reply: The judge's reply.
            usage: Tokens that the reply cost.
            question: Anything else worth keeping, JSON-ready.
        """
        asked = _asked(verdict)
        with self._errors(), self._transaction():
            old = self._take(key) if key in self._again else []
            known = self._first(key)
            if known is not None:
                verdict = said_of(known.verdict, verdict)
                reply, usage, question = known.reply, {}, known.question
            beside = _json(reply), _json(question or {})
            self._insert(key, asked, verdict, beside, usage or {})
            for row in old:
                self._insert(key, _asked(row.verdict), said_of(verdict, row.verdict), beside, {})
        self._again.pop(key, None)

    def get(self, key: str) -> Verdict | None:
        """Return what was said under the key; None when it was never asked, or is asked again."""
        with self._errors():
            known = self._first(key)
        return None if known is None or key in self._again else known.verdict

    def keys(self) -> set[str]:
        """Return every key that has a verdict."""
        with self._errors():
            return {key for (key,) in self._db.execute("SELECT DISTINCT key FROM verdicts")} - self._again.keys()

    def verdicts(self) -> list[Verdict]:
        """Return every verdict, in an order that does not depend on when they were written."""
        return [row.verdict for row in self.rows()]

    def rows(self) -> list[Stored]:
        """Return every verdict with what belongs to it, in the order of `verdicts`."""
        with self._errors():
            found = self._db.execute(f"SELECT {_COLUMNS} FROM verdicts ORDER BY key, asked").fetchall()
        return [_stored(row) for row in found if row[0] not in self._again]

    def put_unread(self, key: str, attempt: int, reason: str, reply: str, usage: Mapping[str, int]) -> None:
        """Keep a reply that could not be read; the first write of an attempt wins.

        Of a key that is asked again attempts count from 0 anew, and stand behind those that were there.
        """
        with self._errors():
            self._db.execute(
                "INSERT OR IGNORE INTO unread VALUES (?, ?, ?, ?, ?)",
                (key, attempt + self._again.get(key, 0), reason, _json(reply), _json(dict(usage))),
            )

    def unread(self, key: str) -> list[UnreadReply]:
        """Return the key's replies that could not be read, oldest first; of one that is asked again those since."""
        sql = "SELECT attempt, reason, reply, usage FROM unread WHERE key = ? AND attempt >= ? ORDER BY attempt"
        start = self._again.get(key, 0)
        with self._errors():
            found = self._db.execute(sql, (key, start)).fetchall()
        return [UnreadReply(attempt - start, reason, json.loads(r), json.loads(u)) for attempt, reason, r, u in found]

    def unparsed(self) -> dict[str, int]:
        """Return the keys of unparsed verdicts, each with how many unread replies it has."""
        sql = "SELECT DISTINCT key FROM verdicts WHERE json_extract(verdict, '$.outcome') = 'unparsed' ORDER BY key"
        with self._errors():
            return {key: self._attempts(key) for (key,) in self._db.execute(sql).fetchall()}

    def _attempts(self, key: str) -> int:
        (n,) = self._db.execute("SELECT coalesce(max(attempt) + 1, 0) FROM unread WHERE key = ?", (key,)).fetchone()
        return int(n)

    def _take(self, key: str) -> list[Stored]:
        """Take a key's unparsed verdicts out; a reply that was paid for with them stays among the unread ones."""
        sql = f"SELECT {_COLUMNS} FROM verdicts WHERE key = ? ORDER BY asked"
        old = [_stored(row) for row in self._db.execute(sql, (key,)).fetchall()]
        for row in old:
            if row.usage:
                kept = key, self._attempts(key), row.verdict.reason, _json(row.reply), _json(row.usage)
                self._db.execute("INSERT INTO unread VALUES (?, ?, ?, ?, ?)", kept)
        self._db.execute("DELETE FROM verdicts WHERE key = ?", (key,))
        return old

    def _insert(
        self, key: str, asked: str, verdict: Verdict, beside: tuple[str, str], usage: Mapping[str, int]
    ) -> None:
        reply, question = beside
        self._db.execute(
            "INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?, ?)",
            (key, asked, _json(verdict.to_json()), reply, _json(dict(usage)), question),
        )

    def _first(self, key: str) -> Stored | None:
        sql = f"SELECT {_COLUMNS} FROM verdicts WHERE key = ? ORDER BY asked LIMIT 1"
        row = self._db.execute(sql, (key,)).fetchone()
        return None if row is None else _stored(row)

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "meta" not in tables:
            raise RunError(
                "this SQLite file is no store of verdicts",
                where=self.path,
                value=sorted(tables),
                do="name another file; a new one is made where there is none",
            )
        self._db.executescript(_TABLES)
        self._db.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
        (found,) = self._db.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
        if found != str(SCHEMA):
            raise RunError(
                "the store of verdicts has another version of the schema",
                where=self.path,
                value=found,
                allowed=SCHEMA,
                do="use the version of sacpo that wrote it, or name another file",
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise MachineError(
                f"the store of verdicts cannot be used: {error}",
                where=self.path,
                do="check the disk's space and the folder's permissions, and that no other process holds the file",
            ) from error
        except sqlite3.DatabaseError as error:
            raise RunError(
                f"the store of verdicts cannot be read: {error}",
                where=self.path,
                do="restore it from a copy, or move it away to start afresh",
            ) from error


def _asked(verdict: Verdict) -> str:
    return text_hash(*(str(part) for part in asked_by(verdict)))


def said_of(known: Verdict, asked: Verdict) -> Verdict:
    """Return the verdict on what `asked` is about, saying what `known` says."""
    names = ("outcome", "score", "label", "probability", "reason")
    return replace(asked, **{name: getattr(known, name) for name in names})


_COLUMNS = "key, verdict, reply, usage, question"


def _stored(row: tuple[str, ...]) -> Stored:
    key, *texts = row
    verdict, reply, usage, question = (json.loads(text) for text in texts)
    unread = question.get("reason", "")  # stores of earlier versions keep the reason beside the verdict alone
    return Stored(key, Verdict.from_json({"reason": unread, **verdict}), reply, usage, question)


def _json(value: object) -> str:
    # ASCII: a reply may hold lone surrogates, which SQLite's texts cannot
    return json.dumps(value, ensure_ascii=True, allow_nan=False, sort_keys=True)
