"""How close a panel's throughput comes to (requests x latency / concurrency), on a local server with a fixed latency.

    python -m benchmarks.judge_throughput [--requests N] [--concurrency N ...] [--latency SECONDS]

The server is a process of its own. The time is that of the whole call of `judge_llm`: planning, the estimate, the
first connections and every write to the store included. Exits with 1 if it is more than a tenth above the ideal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from sacpo.data.records import Answer, Prompt
from sacpo.judging import Asking, LlmJudgeConfig, Store, judge_llm, load_rubric
from sacpo.judging.question import Question

ALLOWED = 0.10


def serve(latency: float, ready: Connection) -> None:
    """Answer every request with the same scores after `latency` seconds, until killed."""
    message = {"role": "assistant", "content": "7 8"}
    usage = {"prompt_tokens": 500, "completion_tokens": 4}
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(asked.split("content-length:")[1].split("\r\n")[0]))
                await asyncio.sleep(latency)
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=1024)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def measure(port: int, requests: int, concurrency: int) -> float:
    """Return the seconds that so many requests take."""
    questions = []
    for i in range(requests // 2):
        prompt = Prompt.from_text(f"Question {i}: " + "what is this about? " * 20)
        questions.append(
            Question(prompt, Answer(prompt, "own", f"{i} " + "good " * 200), Answer(prompt, "base", "bad " * 200))
        )
    judge = LlmJudgeConfig.of(
        load_rubric("helpfulness"),
        model="local",
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key_env="",
        structured=False,
    )
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "verdicts.sqlite") as store:
        started = time.perf_counter()
        run = judge_llm(
            [judge], questions, store, asking=Asking(concurrency=concurrency), on_estimate=lambda found: None
        )
        seconds = time.perf_counter() - started
        if len(run.verdicts) != requests or len(store.keys()) != requests or run.missing or run.unparsed:
            raise RuntimeError(f"{len(run.verdicts)} verdicts of {requests}, {run.unparsed} unparsed")
    return seconds


def main() -> None:
    """Parse the command line, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=960, help="an even number")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--latency", type=float, default=1.0, help="seconds")
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {len(os.sched_getaffinity(0))} cores, python {platform.python_version()}")
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(options.latency, theirs), daemon=True)
    server.start()
    port = ours.recv()
    slow = False
    print("requests  concurrency  ideal s  measured s  above ideal")
    for concurrency in options.concurrency:
        ideal = math.ceil(options.requests / concurrency) * options.latency
        seconds = measure(port, options.requests, concurrency)
        above = seconds / ideal - 1
        slow |= above > ALLOWED
        print(f"{options.requests:8d}  {concurrency:11d}  {ideal:7.1f}  {seconds:10.2f}  {above:+10.1%}", flush=True)
    server.terminate()
    if slow:
        sys.exit(f"more than {ALLOWED:.0%} above the ideal")


if __name__ == "__main__":
    main()
