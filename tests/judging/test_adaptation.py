"""What a server refuses of a request is asked otherwise, once, and its words reach the user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from endpoint import Endpoint, Fault, completion, honest, judge, judged_folder, qualities, questions, write_answers

from sacpo.judging import Asking, Store, judge_llm
from sacpo.judging.llm.panel import Panel

Body = dict[str, Any]


def refusing(status: int, message: str, holds: Any, **more: Any) -> Any:
    """A server that refuses requests of one form, however often they come, and judges all others."""
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", **more}})

    def script(asked: Body, attempt: int) -> Any:
        if holds(asked):
            return Fault(status, body=body)
        scores = qualities({"messages": [{}, asked["messages"][-1]]})
        if "response_format" in asked:
            return json.dumps({"reason": "x", "score_a": scores[0], "score_b": scores[1]})
        return honest({"messages": [{}, asked["messages"][-1]]}, attempt)

    return script


def has_system(asked: Body) -> bool:
    return bool(asked["messages"][0]["role"] == "system")


def form(asked: Body) -> str:
    return str(asked.get("response_format", {}).get("type", ""))


@pytest.mark.parametrize(
    ("status", "message", "more", "holds", "settings", "refused"),
    [
        (400, "Unsupported value: 'Temperature' is 1", {}, lambda b: "temperature" in b, {}, ["temperature"]),
        (400, "not here", {"param": "temperature"}, lambda b: "temperature" in b, {}, ["temperature"]),
        (422, "SEED: extra inputs are not permitted", {}, lambda b: "seed" in b, {"seed": 3}, ["seed"]),
        (500, "unknown argument top_k", {}, lambda b: "top_k" in b, {"extra": {"top_k": 4}}, ["top_k"]),
        (400, "Use 'max_completion_tokens'", {}, lambda b: "max_tokens" in b, {}, ["max_tokens"]),
        (400, "bad", {"param": "max_tokens"}, lambda b: "max_tokens" in b, {}, ["max_tokens"]),
        (500, "System role not supported", {}, has_system, {}, ["the system role"]),
        (400, "Conversation roles must alternate user/assistant", {}, has_system, {}, ["the system role"]),
        (
            400,
            "JSON_SCHEMA is no type of this model",
            {"param": "response_format"},
            lambda b: form(b) == "json_schema",
            {"structured": True},
            ["response_format json_schema"],
        ),
        (
            500,
            "response_format type is unavailable",
            {},
            lambda b: form(b) != "",
            {"structured": True},
            ["response_format json_schema", "response_format"],
        ),
        (
            400,
            "'response_format.type' must be 'json_schema'",
            {},
            lambda b: form(b) == "json_object",
            {"structured": True, "extra": {"response_format": {"type": "json_object"}}},
            ["response_format"],
        ),
    ],
)
def test_a_refused_field_is_asked_otherwise_once_and_the_words_are_told(
    status: int,
    message: str,
    more: Body,
    holds: Any,
    settings: Body,
    refused: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Endpoint(refusing(status, message, holds, **more)) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url, **settings)], questions(4), store, asking=Asking(concurrency=1))
        assert (len(run.verdicts), run.missing, run.unparsed) == (8, [], {})
        assert sum(holds(body) for body in server.bodies) == len(refused)  # remembered: never sent again
        assert len(server.bodies) == 8 + len(refused)
    assert [one.refused for one in run.adaptations] == refused
    assert all(message in one.words for one in run.adaptations)
    assert run.usage["j"].requests == 8 + len(refused)
    assert capsys.readouterr().err.count(f"({message})") == len(refused)


def test_a_folded_system_turn_keeps_its_text(tmp_path: Path) -> None:
    script = refusing(400, "developer instruction is not enabled", has_system)
    with Endpoint(script) as server, Store(tmp_path / "v") as store:
        judge_llm([judge(server.url)], questions(1), store, asking=Asking(orders=("ab",)))
    first, second = (body["messages"] for body in server.bodies)
    assert [turn["role"] for turn in second] == ["user"]
    assert second[0]["content"] == first[0]["content"] + "\n\n" + first[1]["content"]


def test_what_no_change_mends_ends_with_the_servers_words(tmp_path: Path) -> None:
    """Every line of the table is tried once: the request ends though the server complains of all of it for ever."""
    words = "seed, temperature, max_tokens, response_format json_schema, top_p and the system role are odd"
    script = refusing(400, words, lambda body: True)
    with Endpoint(script) as server, Store(tmp_path / "v") as store:
        panel = [judge(server.url, structured=True, seed=1, extra={"top_p": 0.5})]
        run = judge_llm(panel, questions(1), store, asking=Asking(orders=("ab",)))
        assert len(server.bodies) == 8  # as asked, and after each of seven changes
    assert run.verdicts == []
    assert run.missing[0].reason == f"status 400: {words}"


def test_many_requests_under_way_change_the_form_once(tmp_path: Path) -> None:
    script = refusing(400, "no temperature", lambda body: "temperature" in body)
    with Endpoint(script, latency=0.05) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url)], questions(20), store, asking=Asking(concurrency=8))
        assert (len(run.verdicts), len(run.adaptations)) == (40, 1)
        assert 1 <= sum("temperature" in body for body in server.bodies) <= 8


def test_rubrics_of_one_judge_share_what_its_endpoint_refuses(tmp_path: Path) -> None:
    script = refusing(400, "no temperature", lambda body: "temperature" in body)
    with Endpoint(script) as server:
        rubrics = ("helpfulness", "harmlessness")
        found = judged_folder(*write_answers(tmp_path, questions(3)), server.url, *rubrics, concurrency=1)
    assert [(one["refused"], one["instead"]) for one in found["adaptations"]] == [("temperature", "left out")]
    assert found["complete"]


def test_a_panel_remembers_from_one_set_of_answers_to_the_next(tmp_path: Path) -> None:
    """Two sets of one question: three requests for the first one's two orders, two for the second's."""
    script = refusing(400, "no temperature", lambda body: "temperature" in body)
    with Endpoint(script) as server:
        panel = Panel([judge(server.url)], tmp_path / "v", asking=Asking(concurrency=1), spent=[])
        for question in questions(2):
            assert len(panel.judge([question])) == 2
        assert len(server.bodies) == 3 + 2


def test_a_longer_reply_that_has_no_room_is_one_questions_matter(tmp_path: Path) -> None:
    """Cut at 1,024 tokens the judge is asked for 2,048, for which the context has no room: one question is left."""

    def script(asked: Body, attempt: int) -> Any:
        if "answer 1 " not in asked["messages"][1]["content"]:
            return honest(asked, attempt)
        if asked["max_tokens"] > 1024:
            return Fault(400, body='{"error": {"message": "maximum context length is 2000 tokens"}}')
        return completion("so", "length")

    with Endpoint(script) as server, Store(tmp_path / "v") as store:
        run = judge_llm([judge(server.url)], questions(3), store)
    assert (len(run.verdicts), run.missing, run.unparsed) == (6, [], {"too_long": 2})


def test_what_a_server_repeats_of_a_prompt_is_no_complaint(tmp_path: Path) -> None:
    def script(asked: Body, attempt: int) -> Any:
        said = asked["messages"][1]["content"]
        return Fault(400, body=json.dumps({"error": {"message": f"cannot do this: {said}"}}))

    asked = questions(1)
    text = "the temperature and the seed are flagged by a content filter"
    answer = type(asked[0].answer)(asked[0].prompt, "m", text)
    with Endpoint(script) as server, Store(tmp_path / "v") as store:
        one = type(asked[0])(asked[0].prompt, answer, asked[0].baseline)
        run = judge_llm([judge(server.url)], [one], store, asking=Asking(orders=("ab",)))
        assert len(server.bodies) == 1
    assert run.adaptations == []
    assert len(run.missing) == 1


def test_an_empty_reply_is_asked_for_again_in_the_same_turn(tmp_path: Path) -> None:
    script = lambda body, n: "" if len(server.bodies) == 1 else honest(body, n)  # noqa: E731
    with Endpoint(script) as server, Store(tmp_path / "v") as store:
        judge_llm([judge(server.url)], questions(1), store, asking=Asking(orders=("ab",)))
    assert [turn["role"] for turn in server.bodies[1]["messages"]] == ["system", "user"]
    assert "No verdict could be read" in server.bodies[1]["messages"][1]["content"]
