"""A local endpoint that speaks chat completions; what it says follows from what it is shown, and from nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


def share(*parts: object) -> float:
    """Return a number in [0, 1) that looks random and is always the same for the same parts."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16) / 2**32


def verdict(body: dict[str, Any]) -> str:
    """Return the reply to a request: a label by the rubric that is shown, or two scores."""
    text: str = body["messages"][-1]["content"]
    if "carry the mark " not in text:
        return "yes"  # the request by which a run looks whether somebody is there
    sign = text.split("carry the mark ")[1].split(" ")[0]
    model = body["model"]
    if "full_refusal" in text:
        said = "full_refusal" if share("r", model, text) < 0.5 else "full_compliance"
    elif "animal_abuse" in text:
        said = "unsafe; self_harm" if share("s", model, text) < 0.5 else "safe"
    else:
        said = f"{1 + int(9 * share('a', model, text))} {1 + int(9 * share('b', model, text))}"
    return f"VERDICT {sign}: {said}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": verdict(body)}
        reply = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
        raw = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@contextmanager
def endpoint() -> Iterator[str]:
    """Serve on a free port of this machine and give the address."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
