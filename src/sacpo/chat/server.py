"""The local page on which a person talks to models; see `sacpo.serve` for what keeps others out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files

from sacpo.chat.setting import Setting
from sacpo.chat.talk import Asked, Talk
from sacpo.data.records import Message
from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.serve import LocalServer, check_host, ended_politely

WHAT = "the chat page"
LONGEST_POST = 4_000_000
ROLES = ("system", "user", "assistant")
HOTTEST = 10.0
MANY = 1_000_000
PAGE = files("sacpo.chat").joinpath("page.html").read_text(encoding="utf-8")


class ChatServer(LocalServer):
    """The chat page's server; use it as a context manager. Errors as of `LocalServer`."""

    def __init__(self, talk: Talk, host: str = "127.0.0.1", port: int = 0) -> None:
        self._talk = talk
        super().__init__(
            PAGE,
            {("GET", "/setting"): self._setting, ("POST", "/answer"): self._answer},
            host,
            port,
            what=WHAT,
            longest_post=LONGEST_POST,
            too_long="that conversation is too long",
        )

    def _setting(self, body: JsonObject) -> JsonObject:
        return {**self._talk.setting.shown(), "how": self._talk.how}

    def _answer(self, body: JsonObject) -> Iterator[JsonObject]:
        return self._talk.answer(read_asked(body))


def serve(
    setting: Setting, *, host: str = "127.0.0.1", port: int = 0, announce: Callable[[str], object] = print
) -> None:
    """Serve the chat page until interrupted (Ctrl-C) or ended.

    Args:
        setting: What is talked to.
        host: A name of this machine: 127.0.0.1, localhost or ::1.
        port: 0 for any free one.
        announce: Told the page's address, which holds the session's token.

    Raises:
        UserError: A model cannot be loaded, others can reach the host, or the port cannot be had.
    """
    check_host(host, WHAT)  # before the models are loaded
    talk = Talk(setting)
    with ChatServer(talk, host, port) as server, ended_politely():
        announce(f"{server.url}\ntalk there; stop with Ctrl-C")
        server.serve_forever()


def read_asked(body: JsonObject) -> Asked:
    """Return a posted question.

    Raises:
        DataError: It is none.
    """
    turns = body.get("messages")
    if not isinstance(turns, list) or not all(_is_turn(turn) for turn in turns):
        raise DataError("a question needs messages, each with the texts role and content")
    if not isinstance(body.get("beside", False), bool):
        raise DataError("beside is true or false")
    sample = body.get("sample", 0)
    if not isinstance(sample, int) or isinstance(sample, bool) or not 0 <= sample < MANY:
        raise DataError("sample is a whole number of at least 0")
    messages = tuple(Message(turn["role"], turn["content"]) for turn in turns)
    q, temperature = _number(body, "q", 1.0), _number(body, "temperature", HOTTEST)
    return Asked(messages, q, body.get("beside", False), temperature, sample)


def _is_turn(turn: object) -> bool:
    return isinstance(turn, dict) and turn.get("role") in ROLES and isinstance(turn.get("content"), str)


def _number(body: JsonObject, name: str, most: float) -> float:
    value = body.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise DataError(f"{name} is a number from 0 to {most:g}")
    return float(value)
