"""The local page on which a person labels: standard library only, this machine only, nothing loaded from elsewhere.

A page elsewhere that the person visits at the same time can neither read nor post: requests must carry a token that
only the printed address holds (in its fragment, which browsers do not send on), name this server in their Host header
(a foreign name that resolves to this machine is refused), and come from this origin.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import re
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from sacpo.errors import DataError, MachineError, UserError
from sacpo.judging.llm.store import Store
from sacpo.judging.people.items import read_items
from sacpo.judging.people.session import Session

HOSTS = ("127.0.0.1", "localhost", "::1")
LONGEST_POST = 4096
SLOWEST_REQUEST = 30  # seconds


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
    with LabelServer(session, host, port) as server, _ended_politely():
        announce(f"{server.url}\nlabel there; stop with Ctrl-C, which saves the last; go on with the same command")
        server.serve_forever()
    return session.progress


@contextlib.contextmanager
def _ended_politely() -> Iterator[None]:
    """Let Ctrl-C, a closed terminal and a polite kill end what is inside, so that the last label is stored."""
    ends = (signal.SIGTERM, signal.SIGHUP)
    former = {}
    if threading.current_thread() is threading.main_thread():
        former = {number: signal.signal(number, signal.default_int_handler) for number in ends}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class LabelServer:
    """An HTTP server for one session; use it as a context manager.

    Attributes:
        token: What every request but that for the bare page must carry as X-Sacpo-Token.
        address: Without the token, "http://127.0.0.1:8000".
        url: What the person opens.

    Raises:
        DataError: A host that others can reach.
        MachineError: The port cannot be had.
    """

    def __init__(self, session: Session, host: str = "127.0.0.1", port: int = 0) -> None:
        if host not in HOSTS:
            raise DataError("the labelling page is for this machine only", value=host, allowed=HOSTS)
        # A secret, not a result: the one random number here that no seed may give away.
        self.token = secrets.token_urlsafe(24)
        self._session, self._lock = session, threading.Lock()
        handler = type("Handler", (_Handler,), {"session": session, "token": self.token, "lock": self._lock})
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._http = type("Server", (_Server,), {"address_family": family})((host, port), handler)
        except OSError as error:
            raise MachineError(
                f"no server on this port: {error.strerror}", value=port, do="choose another port, or 0 for any free one"
            ) from error
        port = self._http.server_address[1]
        self.address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self.url = f"{self.address}/#{self.token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.server_close()
        with self._lock:
            self._session.close()

    def serve_forever(self) -> None:
        """Answer requests until `shutdown`."""
        self._http.serve_forever(poll_interval=0.1)

    def shutdown(self) -> None:
        """End `serve_forever`, which must run in another thread."""
        self._http.shutdown()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away: the page asks for its question when it is opened again."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    session: Session
    token: str
    lock: threading.Lock
    timeout = SLOWEST_REQUEST
    server_version, sys_version = "sacpo", ""

    def do_GET(self) -> None:
        """Answer with the page or the current question."""
        self._answer({"/item": self._item})

    def do_POST(self) -> None:
        """Take a label or an undo; answer with the question that is current then."""
        self._answer({"/label": self._label, "/undo": self._undo})

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log: the terminal is the annotator's."""

    def _answer(self, routes: dict[str, Callable[[], dict[str, Any]]]) -> None:
        try:
            self._check_host()
            if self.command == "GET" and self.path == "/":
                self._send(HTTPStatus.OK, PAGE, "text/html")
                return
            self._check_token()
            if self.path not in routes:
                raise _Refused(HTTPStatus.NOT_FOUND, "no such page")
            with self.lock:
                body = routes[self.path]()
            self._send_json(HTTPStatus.OK, body)
        except _Refused as refused:
            self._send_json(refused.status, {"error": str(refused)})
        except DataError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": error.what})
        except UserError as error:
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": error.what})

    def _item(self) -> dict[str, Any]:
        return self.session.state()

    def _label(self) -> dict[str, Any]:
        body = self._body()
        if not isinstance(body.get("id"), str) or not isinstance(body.get("label"), str):
            raise _Refused(HTTPStatus.BAD_REQUEST, "a label needs the texts id and label")
        self.session.label(body["id"], body["label"])
        return self.session.state()

    def _undo(self) -> dict[str, Any]:
        self.session.undo(self._body().get("id"))
        return self.session.state()

    def _check_host(self) -> None:
        port = self.connection.getsockname()[1]
        hosts = {f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in HOSTS}
        if self.headers.get("Host", "").lower() not in hosts:
            raise _Refused(HTTPStatus.FORBIDDEN, "this server answers to its own name only")
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() not in {f"http://{host}" for host in hosts}:
            raise _Refused(HTTPStatus.FORBIDDEN, "requests of other pages are refused")

    def _check_token(self) -> None:
        given = self.headers.get("X-Sacpo-Token", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self.token.encode()):
            raise _Refused(HTTPStatus.FORBIDDEN, "open the address that the command printed")

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "only JSON is taken")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length):
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "a length is needed")
        if int(length) > LONGEST_POST:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "that is no label")
        try:
            raw = self.rfile.read(int(length))
            if len(raw) < int(length):
                raise ConnectionAbortedError("the client went away before its request was complete")
            body = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, "not JSON") from error
        if not isinstance(body, dict):
            raise _Refused(HTTPStatus.BAD_REQUEST, "not a JSON object")
        return body

    def _send_json(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": f"{kind}; charset=utf-8"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _source(page: str, tag: str) -> str:
    """Return the policy that allows the page's own inline element and no other."""
    inside = page.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"


_TEXT = files("sacpo.judging.people").joinpath("page.html").read_text(encoding="utf-8")
PAGE = _TEXT.encode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_source(_TEXT, 'script')}; style-src {_source(_TEXT, 'style')}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
