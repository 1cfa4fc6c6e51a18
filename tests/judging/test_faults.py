"""Faults of endpoints: what is retried, what stops at once, and that no verdict is lost, doubled or made up."""

from __future__ import annotations

import email.utils
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import endpoint as local
import pytest
from endpoint import NO_CHOICES, Endpoint, Fault, honest, judge, questions

from sacpo.data.records import Outcome
from sacpo.errors import RunError
from sacpo.judging import Asking, Store, judge_llm
from sacpo.judging.llm.client import retry_after

SECRET = "sk-test-SECRET-0123456789"


def once(fault: Fault) -> local.Script:
    """Every request goes wrong once, then is answered."""
    return lambda body, attempt: fault if attempt == 0 else honest(body, attempt)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429),
        Fault(429, {"Retry-After": "0"}),
        Fault(500),
        Fault(503, {"Retry-After": "0"}),
        Fault(408),
        Fault(action="reset"),
        Fault(action="hang"),
        Fault(action="drip"),
        Fault(body='{"choices": [{"index": 0, "mess'),
        Fault(body="<html>Bad gateway</html>"),
        Fault(body="[]"),
        Fault(body="null"),
        Fault(body='{"choices": [{"message": {"content": 7}}]}'),
        Fault(body='{"choices": [{"message": null}]}'),
        Fault(body=NO_CHOICES),
    ],
    ids=lambda fault: f"{fault.status} {fault.action or fault.body[:50]}",
)
def test_a_fault_is_sent_again_and_leaves_no_trace_in_the_verdicts(fault: Fault, tmp_path: Path) -> None:
    with Endpoint(once(fault)) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url, timeout=0.4)], questions(2), store, asking=Asking(concurrency=4))
        assert (len(run.verdicts), run.missing, run.unparsed) == (4, [], {})
        assert run.usage["j"].requests == 8
        expected = [local.qualities(body) for body in server.bodies if body]
        assert sorted(v.score for v in run.verdicts if v.order == "ab") == sorted(
            local.qualities({"messages": [{}, {"content": q.answer.text}]})[0] for q in questions(2)
        )
        assert len(expected) == 8


def test_retry_after_is_waited_for_by_every_request(tmp_path: Path) -> None:
    seen: list[float] = []

    def script(body: dict[str, Any], attempt: int) -> str | Fault:
        seen.append(time.monotonic())
        return Fault(429, {"Retry-After": "0.6"}) if len(seen) == 1 else honest(body, attempt)

    with Endpoint(script) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url)], questions(3), store, asking=Asking(concurrency=1))
    assert len(run.verdicts) == 6
    assert 0.59 < seen[1] - seen[0] < 1.5  # its own backoff is 0.01 s
    assert len(seen) == 7


def test_retry_after_is_read_in_seconds_milliseconds_and_as_a_date() -> None:
    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": "-3"}) == 0
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after({"retry-after": later}) == pytest.approx(30, abs=2)
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "nan"}) is None
    assert retry_after({}) is None


def test_without_retry_after_the_waits_double(tmp_path: Path) -> None:
    seen: list[float] = []

    def script(body: dict[str, Any], attempt: int) -> str | Fault:
        seen.append(time.monotonic())
        return Fault(500) if attempt < 3 else honest(body, attempt)

    with Endpoint(script) as server, Store(tmp_path / "v") as store:
        judge_llm([judge(server.url, backoff=0.1)], questions(1), store, asking=Asking(orders=("ab",)))
    waits = [b - a for a, b in itertools.pairwise(seen)]
    for wait, least in zip(waits, (0.05, 0.1, 0.2), strict=True):  # half to all of 0.1, 0.2, 0.4
        assert least <= wait <= 2 * least + 0.3


def test_a_wrong_key_stops_at_once_and_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv(local.KEY_VARIABLE, SECRET)
    refusal = Fault(401, body=json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}"}}))
    with Endpoint(lambda body, attempt: refusal) as server, Store(tmp_path / "v") as store:
        panel = [judge(server.url, api_key_env=local.KEY_VARIABLE)]
        with pytest.raises(RunError, match=local.KEY_VARIABLE) as caught:
            judge_llm(panel, questions(50), store, asking=Asking(concurrency=4))
        assert 1 <= len(server.bodies) <= 4  # those under way, none after
        assert f"Bearer {SECRET}" in server.headers[0]
        assert store.keys() == set()
    out, err = capfd.readouterr()
    everything = [str(caught.value), repr(caught.value), repr(panel), out, err, caplog.text]
    everything.append((tmp_path / "v").read_bytes().decode("latin-1"))
    assert not any(SECRET in text or "SECRET" in text for text in everything)


def test_a_missing_key_is_named_before_any_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(local.KEY_VARIABLE, raising=False)
    with Endpoint(honest) as server, Store(tmp_path / "v") as store:
        with pytest.raises(RunError, match=f"key is missing[\\s\\S]*{local.KEY_VARIABLE}"):
            judge_llm([judge(server.url, api_key_env=local.KEY_VARIABLE)], questions(1), store)
        assert server.bodies == []


def test_what_an_endpoint_says_is_freed_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(local.KEY_VARIABLE, SECRET)
    refusal = Fault(400, body=json.dumps({"error": {"message": f"too long, by {SECRET}"}}))
    with Endpoint(lambda body, attempt: refusal) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url, api_key_env=local.KEY_VARIABLE)], questions(1), store)
    assert run.verdicts == []
    assert len(run.missing) == 2
    assert all("too long, by [key]" in missing.reason for missing in run.missing)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(404), "no such model"),
        (Fault(429, body='{"error": {"code": "insufficient_quota"}}'), "no credit"),
    ],
)
def test_what_no_retry_mends_stops_at_once(fault: Fault, words: str, tmp_path: Path) -> None:
    with Endpoint(lambda body, attempt: fault) as server, Store(tmp_path / "v") as store:
        with pytest.raises(RunError, match=words):
            judge_llm([judge(server.url)], questions(20), store, asking=Asking(concurrency=2))
        assert len(server.bodies) <= 2


def test_a_dead_endpoint_is_given_up_and_its_questions_stay_open(tmp_path: Path) -> None:
    with Store(tmp_path / "v") as store:
        with Endpoint(lambda body, attempt: Fault(500)) as server:
            run = judge_llm([judge(server.url, retries=1)], questions(30), store, asking=Asking(concurrency=2))
            assert len(run.missing) == 60
            assert len(server.bodies) <= 2 * 12  # ten failures in a row, and those under way
        assert {m.reason for m in run.missing[:5]} == {"status 500, 2 times: no"}
        assert re.match("given up after 1[01] failures", run.missing[-1].reason)
        assert store.keys() == set()
        with Endpoint(honest) as server:  # another address is another endpoint: nothing is known of it
            assert judge_llm([judge(server.url)], questions(2), store).missing == []


def test_a_request_that_asks_for_too_long_a_pause_stays_open(tmp_path: Path) -> None:
    script = once(Fault(429, {"Retry-After": "9000"}))
    with Endpoint(script) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url)], questions(1), store, asking=Asking(orders=("ab",)))
        assert [m.reason for m in run.missing] == ["status 429: asked to wait 9000 s: no"]
        again = judge_llm([judge(server.url)], questions(1), store, asking=Asking(orders=("ab",)))
        assert (len(again.verdicts), again.missing) == (1, [])


def test_structured_output_is_used_where_it_is_known_and_left_where_not(tmp_path: Path) -> None:
    def script(body: dict[str, Any], attempt: int) -> str | Fault:
        if "response_format" in body:
            return Fault(400, body='{"error": {"message": "response_format is not supported"}}')
        return honest(body, attempt)

    def knows(body: dict[str, Any], attempt: int) -> str:
        a, b = local.qualities(body)
        assert body["response_format"]["json_schema"]["schema"]["required"] == ["reason", "score_a", "score_b"]
        return f'{{"reason": "x", "score_a": {a}, "score_b": {b}}}'

    for number, endpoint in enumerate((script, knows)):
        with Endpoint(endpoint) as server, Store(tmp_path / str(number)) as store:
            run = judge_llm([judge(server.url, structured=True)], questions(4), store, asking=Asking(concurrency=1))
            assert (len(run.verdicts), run.unparsed, run.missing) == (8, {}, [])
            assert sum("response_format" in body for body in server.bodies) == (1, 8)[number]


def test_a_model_that_wants_the_new_name_of_max_tokens_gets_it(tmp_path: Path) -> None:
    def script(body: dict[str, Any], attempt: int) -> str | Fault:
        if "max_tokens" in body:
            return Fault(400, body='{"error": {"message": "Use max_completion_tokens instead of max_tokens"}}')
        return honest(body, attempt)

    with Endpoint(script) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url)], questions(2), store, asking=Asking(concurrency=1))
        assert (len(run.verdicts), len(server.bodies)) == (4, 5)


def test_five_thousand_requests_with_faults_killed_and_resumed_give_the_table_without_faults(tmp_path: Path) -> None:
    """2,500 questions in both orders, 32 at a time, one attempt in five failing and one reply in a hundred garbage.

    A process is killed in the middle and another goes on. Every request is answered readably exactly once, but for at
    most 32 that were under way when it was killed, and the table is that of the qualities that the answers name.
    """
    n, at_once = 2500, 32
    with Endpoint(local.faulty) as server:
        place = tmp_path / "v.sqlite"
        command = [sys.executable, local.__file__, str(place), server.url, str(n), str(at_once)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        while server.answered.total() < 2000 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        with Store(place) as store:
            kept = len(store.keys())
            assert 1900 < kept < 2 * n
            run = judge_llm([judge(server.url, retries=12)], questions(n), store, asking=Asking(concurrency=at_once))
            assert len(store.keys()) == len(store.rows()) == 2 * n
        assert (run.missing, run.unparsed) == ([], {})
        assert server.answered.total() - len(server.answered) <= at_once  # paid twice: under way at the kill
        assert sum(count > 1 for count in server.answered.values()) <= at_once
    expected = {}
    for question in questions(n):
        assert question.baseline is not None
        own, other = (int(a.text.split("quality ")[1][:-1]) for a in (question.answer, question.baseline))
        outcome = Outcome.WIN if own > other else Outcome.LOSS if own < other else Outcome.TIE
        for order in ("ab", "ba"):
            expected[question.prompt.id, order] = (outcome, float(own))
    table = {(v.prompt_id, v.order): (v.outcome, v.score) for v in run.verdicts}
    assert len(run.verdicts) == 2 * n
    assert table == expected
