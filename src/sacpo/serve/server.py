"""A local server: standard library only, this machine only, nothing loaded from elsewhere.

A page elsewhere that the person visits at the same time can neither read nor post: requests must carry a token that
only the printed address holds (in its fragment, which browsers do not send on), name this server in their Host header
(a foreign name that resolves to this machine is refused), and come from this origin.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import secrets
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from sacpo.errors import DataError, MachineError, UserError
from sacpo.plain import JsonObject
from sacpo.serve.page import headers_of

HOSTS = ("127.0.0.1", "localhost", "::1")
SLOWEST_REQUEST = 30  # seconds

Reply = JsonObject | Iterator[JsonObject]
"""What a route answers: an object, or objects that are sent one a line as they come.

An empty object in a stream is not sent: it is a moment at which a client that went away is noticed. The stream of one
that did is closed.
"""
Route = Callable[[JsonObject], Reply]
"""Answers a request; it is given the posted object, {} where nothing was posted."""


@contextlib.contextmanager
def ended_politely() -> Iterator[None]:
    """Let Ctrl-C, a closed terminal and a polite kill end what is inside, so that what follows is still done."""
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


def check_host(host: str, what: str) -> None:
    """Refuse a host that others can reach.

    Raises:
        DataError: It is one.
    """
    if host not in HOSTS:
        raise DataError(f"{what} is for this machine only", value=host, allowed=HOSTS)


class LocalServer:
    """An HTTP server of one page and its routes; use it as a context manager.

    Args:
        page: The page's text, with one script and one style in it.
        routes: What it asks for, by method and path: {("GET", "/item"): item}.
        host: A name of this machine.
        port: 0 for any free one.
        what: The page in words, for messages.
        longest_post: Bytes that a request may post.
        too_long: What is said of a longer one.

    Attributes:
        token: What every request but that for the bare page must carry as X-Sacpo-Token.
        address: Without the token, "http://127.0.0.1:8000".
        url: What the person opens.

    Raises:
        DataError: A host that others can reach.
        MachineError: The port cannot be had.
    """

    def __init__(
        self,
        page: str,
        routes: Mapping[tuple[str, str], Route],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        what: str,
        longest_post: int,
        too_long: str,
    ) -> None:
        check_host(host, what)
        # A secret, not a result: the one random number here that no seed may give away.
        self.token = secrets.token_urlsafe(24)
        parts = {"page": page.encode(), "page_headers": headers_of(page), "routes": routes, "token": self.token}
        handler = type("Handler", (_Handler,), {**parts, "longest_post": longest_post, "too_long": too_long})
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

    def serve_forever(self) -> None:
        """Answer requests until `shutdown`."""
        self._http.serve_forever(poll_interval=0.1)

    def shutdown(self) -> None:
        """End `serve_forever`, which must run in another thread."""
        self._http.shutdown()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away: the page asks again when it is opened again."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    page: bytes
    page_headers: Mapping[str, str]
    routes: Mapping[tuple[str, str], Route]
    token: str
    longest_post: int
    too_long: str
    timeout = SLOWEST_REQUEST
    server_version, sys_version = "sacpo", ""

    def do_GET(self) -> None:
        """Answer with the page or what a route says."""
        self._answer()

    def do_POST(self) -> None:
        """Answer with what a route says of the posted object."""
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Write no log: the terminal is the person's."""

    def _answer(self) -> None:
        try:
            self._check_host()
            if self.command == "GET" and self.path == "/":
                self._send(HTTPStatus.OK, self.page, "text/html")
                return
            self._check_token()
            route = self.routes.get((self.command, self.path))
            if route is None:
                raise _Refused(HTTPStatus.NOT_FOUND, "no such page")
            reply = route(self._body() if self.command == "POST" else {})
            if isinstance(reply, dict):
                self._send_json(HTTPStatus.OK, reply)
            else:
                self._stream(reply)
        except _Refused as refused:
            self._send_json(refused.status, {"error": str(refused)})
        except DataError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": error.what})
        except UserError as error:
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": error.what})

    def _stream(self, items: Iterator[JsonObject]) -> None:
        """Send objects one a line as they come; the connection's end is the stream's."""
        with contextlib.closing(items):  # type: ignore[type-var]
            self._send_head(HTTPStatus.OK, "application/x-ndjson")
            try:
                for item in items:
                    if item:
                        self._line(item)
                    if self._gone():
                        return
            except UserError as error:
                self._line({"error": error.what})

    def _line(self, item: JsonObject) -> None:
        self.wfile.write(json.dumps(item).encode() + b"\n")

    def _gone(self) -> bool:
        """Tell whether the client closed the connection: it has nothing more to say, so it sent nothing else."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

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

    def _body(self) -> JsonObject:
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "only JSON is taken")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length):
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "a length is needed")
        if int(length) > self.longest_post:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self.too_long)
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

    def _send_json(self, status: HTTPStatus, body: JsonObject) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self._send_head(status, kind, len(body))
        self.wfile.write(body)

    def _send_head(self, status: HTTPStatus, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**self.page_headers, "Content-Type": f"{kind}; charset=utf-8"}.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
