"""One question's refusal is a verdict that could not be had; what stops every request is said as what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from endpoint import KEY_VARIABLE, Endpoint, Fault, completion, honest, judge, judged_folder, questions, write_answers

from sacpo import api
from sacpo.data.records import Outcome
from sacpo.errors import RunError
from sacpo.judging import Asking, Store, judge_llm
from sacpo.stats.unread import unread_rows

SECRET = "abcdef-0123456789-secret"


def error(message: str, **more: Any) -> str:
    return json.dumps({"error": {"message": message, **more}})


def refusal(text: str) -> dict[str, Any]:
    return completion(None, refusal=text)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Fault(400, body=error("no", code="content_filter", param="prompt")), "filtered"),
        (Fault(400, body=error("Content Exists Risk")), "filtered"),
        (Fault(403, body=error("Your input was flagged for harassment")), "filtered"),
        (Fault(400, body=error("The prompt violates our usage policies")), "filtered"),
        (Fault(400, body=error("too long", code="context_length_exceeded")), "too_long"),
        (Fault(500, body=error("Context size has been exceeded.")), "too_long"),
        (Fault(413, body="Payload Too Large"), "too_long"),
        (Fault(422, body=error("`inputs` tokens + `max_new_tokens` must be <= 4096")), "too_long"),
        (Fault(400, body=error("The input token count (9000) exceeds the maximum number of tokens")), "too_long"),
        (Fault(422, body=error("Input is longer than the maximum of 4096 tokens")), "too_long"),
        (Fault(200, body=error("blocked by the content filter", code=400)), "filtered"),
        (completion("9 1", "content_filter"), "filtered"),
        ({"choices": [{"finish_reason": "SAFETY", "message": None}]}, "filtered"),
        (refusal("9 1"), "judge_refused"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_refused_question_is_unparsed_with_its_reason_and_never_asked_again(
    answer: Any, reason: str, tmp_path: Path
) -> None:
    script = lambda body, n: answer if "answer 3 " in body["messages"][1]["content"] else honest(body, n)  # noqa: E731
    with Endpoint(script) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url)], questions(6), store)
        assert (len(run.verdicts), run.missing, run.unparsed) == (12, [], {reason: 2})
        assert len(server.bodies) == 12  # one request each: no retry, no reminder
        judge_llm([judge(server.url)], questions(6), store)
        assert len(server.bodies) == 12
        assert len(store.unparsed()) == 2
    unread = [v for v in run.verdicts if v.outcome is Outcome.UNPARSED]
    assert {v.reason for v in unread} == {reason}
    assert unread_rows(run.verdicts)[0]["reasons"] == {reason: 2}


def test_a_folder_with_refused_questions_is_complete_and_selected_from(tmp_path: Path) -> None:
    """Three of twelve answers are filtered: 9 count, 3 are unparsed, and the worst case bounds hold them."""
    filtered = Fault(400, body=error("x", code="content_filter"))

    def script(body: dict[str, Any], n: int) -> Any:
        shown = body["messages"][1]["content"]
        return filtered if any(f"answer {i} " in shown for i in (1, 4, 7)) else honest(body, n)

    with Endpoint(script) as server:
        found = judged_folder(*write_answers(tmp_path, questions(12)), server.url)
    own = found["measures"]["m"]["metrics"]["win_rate/helpfulness"]
    assert (found["complete"], own["n"], own["unparsed"]) == (True, 9, 3)
    (row,) = found["summary"]["win_rates"]
    assert row["worst_case"][1] - row["worst_case"][0] == pytest.approx(3 / 12)
    goal = {"metric": "win_rate", "criterion": "helpfulness"}
    assert api.select([tmp_path / "out"], objective=goal, constraints=[])["chosen"] == "m"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Fault(401, body=error("Incorrect key")), ["refuses the key", "Incorrect key", KEY_VARIABLE]),
        (Fault(401, body=error("header should match organization")), ["the organisation", "OPENAI_ORG_ID"]),
        (Fault(403, body=error("no access to model m")), ["no access to this model", "no access to model m"]),
        (Fault(403, body="<html><title>Blocked by proxy</title></html>"), ["before it reaches", "Blocked by proxy"]),
        (Fault(403, body=error("Your account was flagged")), ["refuses the request", "Your account was flagged"]),
        (Fault(407, body="log in"), ["the proxy asks for a name"]),
        (Fault(302, {"Location": "https://elsewhere.example/v1"}), ["another address", "elsewhere.example"]),
        (Fault(404, body=error("model m not found")), ["no such model", "model m not found", "/v1"]),
        (Fault(200, body='{"error": "Unexpected endpoint or method."}'), ["Unexpected endpoint or method."]),
        (Fault(body='data: {"choices": [{"delta": {}}]}\n\n'), ["a stream", "stream: false"]),
        (Fault(body="<!DOCTYPE html><title>Sign in</title>"), ["an HTML page", "Sign in", "base_url"]),
        (Fault(400, body=error("context length is 512 tokens: 2000 asked")), ["max_tokens leaves no room", "512"]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_stops_every_request_is_said_as_what_it_is(
    answer: Fault, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    with Endpoint(lambda body, n: answer) as server, Store(tmp_path / "v") as store:
        with pytest.raises(RunError) as caught:
            judge_llm([judge(server.url, api_key_env=KEY_VARIABLE)], questions(9), store, asking=Asking(concurrency=1))
        assert len(server.bodies) <= 3
        assert store.keys() == set()
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Fault(200, body=error("upstream is down", code=502)), "status 502, 2 times: upstream is down"),
        (Fault(200, body=error("odd")), "status 400: odd"),
        (
            {"choices": [{"finish_reason": "error", "message": {"content": "9 1"}, "error": {"code": 503}}]},
            'status 503, 2 times: {"code": 503}',
        ),
        (Fault(502, body="<html><h1>Bad\n gateway</h1></html>"), "status 502, 2 times: an HTML page: Bad gateway"),
        (Fault(429, body=error("slow \u202e down")), "status 429, 2 times: slow ⟨U+202E⟩ down"),
        (Fault(418, body="x" * 5000), "status 418: " + "x" * 299 + "…"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_an_outage_stays_missing_with_the_servers_words(answer: Any, reason: str, tmp_path: Path) -> None:
    with Endpoint(lambda body, n: answer) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url, retries=1)], questions(1), store, asking=Asking(orders=("ab",)))
        assert [one.reason for one in run.missing] == [reason]
        assert store.keys() == set()


def test_a_refusal_after_proper_replies_leaves_one_question_open(tmp_path: Path) -> None:
    blocked = Fault(403, body="<html><title>Attack detected</title></html>")
    script = lambda body, n: blocked if "answer 2 " in body["messages"][1]["content"] else honest(body, n)  # noqa: E731
    with Endpoint(script) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url)], questions(5), store, asking=Asking(concurrency=1))
    assert (len(run.verdicts), len(run.missing)) == (8, 2)
    assert "Attack detected" in run.missing[0].reason


def test_a_key_that_a_judge_repeats_is_in_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)

    def script(body: dict[str, Any], n: int) -> str:
        return f"what? {SECRET}" if n == 0 and len(body["messages"]) == 2 else f"{SECRET}\n{honest(body, n)}"

    with Endpoint(script) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url, api_key_env=KEY_VARIABLE)], questions(1), store)
        assert run.unparsed == {}
        assert all(row.reply.startswith("[key]\n") for row in store.rows())
    assert all(SECRET.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_short_key_is_a_placeholder_and_garbles_no_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "E")
    with Endpoint(honest) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url, api_key_env=KEY_VARIABLE)], questions(1), store)
        assert all(row.reply.startswith("VERDICT") for row in store.rows())
    assert run.unparsed == {}
