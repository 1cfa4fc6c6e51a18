"""Answers to label, and a browser's part in labelling them."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sacpo.data.records import Answer, Prompt
from sacpo.judging.llm.store import Store
from sacpo.judging.people import LabelServer, Session
from sacpo.judging.people.items import items_of


def answers(model: str, n: int = 6, text: str = "{model} says {i}") -> list[Answer]:
    return [
        Answer(Prompt.from_text(f"question {i}", id=f"p{i}", cluster=f"c{i}"), model, text.format(model=model, i=i))
        for i in range(n)
    ]


def pair_session(store: Path, annotator: str = "ann", n: int = 6, seed: int = 0) -> Session:
    items = items_of(answers("tuned", n), answers("sft", n), annotator=annotator, seed=seed)
    return Session(items, lambda: Store(store), annotator, "helpfulness")


@contextmanager
def served(session: Session) -> Iterator[Browser]:
    with LabelServer(session) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Browser(server.address, server.token)
        finally:
            server.shutdown()
            thread.join()


class Browser:
    """What the page's script does, in Python."""

    def __init__(self, address: str, token: str) -> None:
        self.address, self.token = address, token

    def send(self, path: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON of a reply; a body makes it a POST."""
        given = {"X-Sacpo-Token": self.token, "Content-Type": "application/json", **(headers or {})}
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data=raw, headers=given)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def state(self) -> dict[str, Any]:
        status, state = self.send("/item")
        assert status == 200
        return state

    def label(self, name: str, label: str) -> dict[str, Any]:
        status, state = self.send("/label", {"id": name, "label": label})
        assert status == 200
        return state
