"""A local endpoint that speaks chat completions and misbehaves on demand, and questions to ask it.

Run as a program it judges: `python endpoint.py STORE URL N CONCURRENCY`, for tests that kill a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sacpo import api
from sacpo.data.records import Answer, Kind, Prompt, write_jsonl
from sacpo.errors import RunError
from sacpo.judging import Asking, LlmJudgeConfig, Store, judge_llm, load_rubric
from sacpo.judging.question import Question

KEY_VARIABLE = "SACPO_TEST_API_KEY"


@dataclass(frozen=True)
class Fault:
    """What goes wrong: a status with headers, or `action`: reset, hang, drip, raw (the body is `body` as it is)."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    action: str = ""
    body: str = ""


Script = Callable[[dict[str, Any], int], "str | Fault | dict[str, Any]"]
"""From a request's body and the number of the attempt (0, 1, ...) to the reply's text, message or fault."""


def completion(content: str | None, finish_reason: str = "stop", **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **fields}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


NO_CHOICES = json.dumps({**completion("9 1"), "choices": []})


class Endpoint:
    """A server on a thread of its own; `bodies` are the requests, `answered` counts replies sent by request.

    Its address is no other one's of this process, even on a port that is used again: runs know judges by it.
    """

    numbers = itertools.count()

    def __init__(self, script: Script, latency: float = 0.0, drip: float = 0.05) -> None:
        self.script, self.latency, self.drip = script, latency, drip
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[str] = []
        self.attempts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.under_way = self.most_under_way = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _serve(self, started: threading.Event) -> None:
        async def main() -> None:
            self._stop = asyncio.Event()
            server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{next(self.numbers)}/v1"
            started.set()
            await self._stop.wait()
            server.close()
            own = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in own:
                task.cancel()
            await asyncio.gather(*own, return_exceptions=True)

        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(main())

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            return  # the callback of asyncio's streams would report it
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("GET "):  # of its models: it lists none
            writer.write(b'HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"data": []}')
            await writer.drain()
            return True
        size = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length"))
        raw = await reader.readexactly(size)
        body = json.loads(raw)
        name = hashlib.sha256(raw).hexdigest()
        attempt = self.attempts[name]
        self.attempts[name] += 1
        self.bodies.append(body)
        self.headers.append(head)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            reply = self.script(body, attempt)
            return await self._send(writer, reply, name)
        finally:
            self.under_way -= 1

    async def _send(self, writer: asyncio.StreamWriter, reply: str | Fault | dict[str, Any], name: str) -> bool:
        fault = reply if isinstance(reply, Fault) else Fault()
        if fault.action == "reset":
            writer.transport.abort()
            return False
        if fault.action == "hang":
            await asyncio.sleep(60)
        text = fault.body or json.dumps(completion(reply) if isinstance(reply, str) else reply, default=str)
        if isinstance(reply, Fault) and not fault.body:
            text = json.dumps(completion("7 8")) if fault.status == 200 else json.dumps({"error": {"message": "no"}})
        raw = text.encode()
        lines = [f"HTTP/1.1 {fault.status} X", "Content-Type: application/json", f"Content-Length: {len(raw)}"]
        lines += [f"{key}: {value}" for key, value in fault.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for piece in [raw[i : i + 4] for i in range(0, len(raw), 4)] if fault.action == "drip" else [raw]:
            writer.write(piece)
            await writer.drain()
            if fault.action == "drip":
                await asyncio.sleep(self.drip)
        self.answered[name] += not isinstance(reply, Fault)
        return True


def share(*parts: object) -> float:
    """A number in [0, 1) that looks random and is always the same for the same parts."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16) / 2**32


def questions(n: int, model: str = "m") -> list[Question]:
    """Questions whose answers name their quality: "answer quality 3 ..." against "baseline quality 7 ..."."""
    found = []
    for i in range(n):
        prompt = Prompt.from_text(f"task {i}", kind=Kind.ORDINARY)
        own, other = 1 + int(10 * share("own", i)), 1 + int(10 * share("other", i))
        found.append(
            Question(
                prompt,
                Answer(prompt, model, f"answer {i} quality {own}."),
                Answer(prompt, "sft", f"baseline {i} quality {other}."),
            )
        )
    return found


def qualities(body: dict[str, Any]) -> list[int]:
    """The qualities named by the answers of a request, in the order in which they are shown."""
    text = body["messages"][1]["content"]
    return [int(part.split(".")[0]) for part in text.split(" quality ")[1:]]


def sign_of(body: dict[str, Any]) -> str:
    text = body["messages"][1]["content"]
    return text.split("carry the mark ")[1].split(" ")[0]


def honest(body: dict[str, Any], attempt: int) -> str:
    """Scores each answer by the quality that it names."""
    a, b = qualities(body)
    return f"VERDICT {sign_of(body)}: {a} {b}"


def faulty(body: dict[str, Any], attempt: int) -> str | Fault | dict[str, Any]:
    """One request in five goes wrong in one of many ways; one reply in a hundred is garbage."""
    text = body["messages"][1]["content"]
    if len(body["messages"]) == 2 and share("garbage", text) < 0.01:
        return "lorem ipsum dolor"
    if share(text, attempt) < 0.2:
        kinds = [
            Fault(429, {"Retry-After": "0.02"}),
            Fault(429),
            Fault(500),
            Fault(action="reset"),
            Fault(body='{"choices": [{"mess'),
            Fault(body='{"object": "list", "data": []}'),
            Fault(body=NO_CHOICES),
        ]
        return kinds[int(share("kind", text, attempt) * len(kinds))]
    return honest(body, attempt)


def judge(url: str, rubric: str = "helpfulness", **settings: Any) -> LlmJudgeConfig:
    quick: dict[str, Any] = {"backoff": 0.01, "timeout": 5.0, "structured": False, "api_key_env": ""}
    return LlmJudgeConfig.of(load_rubric(rubric), **{"model": "m", "name": "j", "base_url": url, **quick, **settings})


def asked_settings(url: str, **settings: Any) -> dict[str, Any]:
    """A language model's settings for `api.judge`, which make no test wait."""
    return {"model": "m", "name": "j", "base_url": url, "structured": False, "api_key_env": "", **settings}


def write_answers(folder: Path, asked: Sequence[Question]) -> tuple[Path, Path, Path]:
    """Write the answers and the baseline's; return both files and an output folder that is not there yet."""
    write_jsonl(folder / "own.jsonl", [question.answer for question in asked])
    write_jsonl(folder / "base.jsonl", [question.baseline for question in asked if question.baseline])
    return folder / "own.jsonl", folder / "base.jsonl", folder / "out"


def judged_folder(own: Path, base: Path | None, out: Path, url: str, *rubrics: str, **asked: Any) -> dict[str, Any]:
    """Judge files by one model; return what the folder says, which also is there while verdicts are missing."""
    named = rubrics or ("helpfulness",)
    with contextlib.suppress(RunError):
        api.judge(own, out, kind="llm", baseline=base, panel=asked_settings(url), rubrics=named, **asked)
    found: dict[str, Any] = json.loads((out / "judging.json").read_text())
    return found


if __name__ == "__main__":
    place, address, count, at_once = sys.argv[1:]
    with Store(Path(place)) as verdicts:
        panel = [judge(address, retries=12)]
        judge_llm(panel, questions(int(count)), verdicts, asking=Asking(concurrency=int(at_once)))
