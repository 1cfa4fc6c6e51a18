"""The local page on which a person labels; see `sacpo.serve` for what keeps others out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from sacpo.errors import DataError
from sacpo.judging.llm.store import Store
from sacpo.judging.people.items import read_items
from sacpo.judging.people.session import Session
from sacpo.plain import JsonObject
from sacpo.serve import LocalServer, ended_politely

LONGEST_POST = 4096
PAGE = files("sacpo.judging.people").joinpath("page.html").read_text(encoding="utf-8")


def serve(
    answers_a: Path,
    answers_b: Path | None,
    store: Path,
    *,
    annotator: str,
    criterion: str,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 0,
    announce: Callable[[str], object] = print,
) -> dict[str, int]:
    """Serve the labelling page until interrupted (Ctrl-C) or ended; each label is stored when the next is given.

    Args:
        answers_a: Answers to judge.
        answers_b: The baseline's answers to the same prompts; None: each answer is judged alone.
        store: The verdict store, made if absent; several annotators and judges may share it.
        annotator: Who labels; verdicts name the judge "human:ANNOTATOR".
        criterion: What is judged; alone: harmlessness or safety (safe, unsafe), refusal.
        host: A name of this machine: 127.0.0.1, localhost or ::1.
        port: 0 for any free one.
        seed: Of the questions' order and of which answer is shown first.
        announce: Told the page's address, which holds the session's token.

    Returns:
        The progress: `total`, `done` and `skipped`.

    Raises:
        DataError: See `read_items` and `Session`; a host that others can reach.
        MachineError: The port cannot be had.
    """
    items = read_items(answers_a, answers_b, annotator=annotator, seed=seed)
    session = Session(items, lambda: Store(store), annotator, criterion)
    with LabelServer(session, host, port) as server, ended_politely():
        announce(f"{server.url}\nlabel there; stop with Ctrl-C, which saves the last; go on with the same command")
        server.serve_forever()
    return session.progress


class LabelServer(LocalServer):
    """The labelling page's server for one session; use it as a context manager. Errors as of `LocalServer`."""

    def __init__(self, session: Session, host: str = "127.0.0.1", port: int = 0) -> None:
        self._session, self._lock = session, threading.Lock()
        routes = {("GET", "/item"): self._item, ("POST", "/label"): self._label, ("POST", "/undo"): self._undo}
        super().__init__(
            PAGE,
            routes,
            host,
            port,
            what="the labelling page",
            longest_post=LONGEST_POST,
            too_long="that is no label",
        )

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        with self._lock:
            self._session.close()

    def _item(self, body: JsonObject) -> JsonObject:
        with self._lock:
            return self._session.state()

    def _label(self, body: JsonObject) -> JsonObject:
        if not isinstance(body.get("id"), str) or not isinstance(body.get("label"), str):
            raise DataError("a label needs the texts id and label")
        with self._lock:
            self._session.label(body["id"], body["label"])
            return self._session.state()

    def _undo(self, body: JsonObject) -> JsonObject:
        with self._lock:
            self._session.undo(body.get("id"))
            return self._session.state()
