"""The chat page over HTTP: streams, strangers, clients that go away, and what is saved."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_toys import ANSWERS, QUESTIONS, Client, question, served, text_of
from test_chat_talk import Family, setting

from sacpo import api
from sacpo.chat import talk as talk_module
from sacpo.chat.server import PAGE
from sacpo.chat.terminal import talk_here
from sacpo.data.answers import read_answers
from sacpo.data.records import write_jsonl
from sacpo.judging.verdicts import compared_questions


def test_an_answer_is_streamed_and_the_setting_is_told(family: Family) -> None:
    with served(setting(family)) as (client, _, _):
        found = client.setting()
        assert (found["ends"], found["beside"], found["how"]) == (["helpful", "safe"], "sft", "weights")
        events = client.answer(QUESTIONS[1], q=0.0)
        assert len(events) == len(ANSWERS["helpful"].split()) + 1 and text_of(events) == ANSWERS["helpful"]


def test_what_is_saved_is_judged(family: Family, tmp_path: Path) -> None:
    """Records as the page saves them, one file a model, by the refusal detector."""
    with served(setting(family)) as (client, _, _):
        for name, options in (("safe", {"q": 1.0}), ("sft", {"beside": True})):
            records = [client.answer(text, **options)[-1]["done"]["record"] for text in QUESTIONS[:3]]
            write_jsonl(tmp_path / f"{name}.jsonl", records)
    assert {answer.model for answer in read_answers(tmp_path / "safe.jsonl")} == {"safe"}
    options: dict[str, Any] = {"criterion": "refusal", "kind": "refusal", "prompts": "restricted"}
    found = api.judge(tmp_path / "safe.jsonl", tmp_path / "judged", **options)
    assert found["safe"]["metrics"]["refusal_rate"]["value"] == 1.0
    pairs = compared_questions(read_answers(tmp_path / "safe.jsonl"), read_answers(tmp_path / "sft.jsonl"))
    assert [pair.baseline.text for pair in pairs if pair.baseline] == [ANSWERS["sft"]] * 3


def test_a_client_that_goes_away_ends_its_answer(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    real = talk_module.steps

    def slow(*arguments: Any, **options: Any) -> Any:
        for step in real(*arguments, **options):
            decoded.append(1)
            yield step
            time.sleep(0.2)

    monkeypatch.setattr(talk_module, "steps", slow)
    with served(setting(family)) as (client, _, _):
        link = client.opened(QUESTIONS[0])
        time.sleep(0.3)
        link.close()
        time.sleep(0.6)
        count = len(decoded)
        time.sleep(0.6)
        assert 1 <= count == len(decoded) < len(ANSWERS["safe"].split())
        assert text_of(client.answer(QUESTIONS[0])) == ANSWERS["safe"], "the next one waits for nothing"


def test_strangers_are_refused(family: Family) -> None:
    with served(setting(family)) as (client, _, server):
        body = question(QUESTIONS[0])
        assert client.refused("/answer", body, **{"X-Sacpo-Token": "x"})[0] == 403
        assert client.refused("/setting", None, **{"X-Sacpo-Token": ""})[0] == 403
        assert client.refused("/answer", body, Host="evil.example")[0] == 403
        assert client.refused("/answer", body, Origin="http://evil.example")[0] == 403
        with urllib.request.urlopen(server.address + "/", timeout=30) as reply:
            policy, page = reply.headers["Content-Security-Policy"], reply.read().decode()
        assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
        assert page == PAGE and client.token not in page


def test_the_page_asks_nobody_else_and_shows_texts_as_texts() -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", PAGE)
    assert not re.search(r"(?:src|href)=|https?:|@import|url\(", PAGE)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "boss", "content": "hi"}]}, "messages"),
        ({"messages": []}, "a question needs a text"),
        ({"messages": [{"role": "user", "content": "  "}]}, "a question needs a text"),
        ({"messages": [{"role": "user", "content": "steal " * 99}]}, "too long"),
        ({"q": 1.5}, "q is a number from 0 to 1"),
        ({"q": float("nan")}, "q is a number from 0 to 1"),
        ({"temperature": "hot"}, "temperature is a number"),
        ({"sample": -1}, "sample is a whole number"),
        ({"beside": 1}, "beside is true or false"),
    ],
)
def test_what_is_no_question_is_told(change: dict[str, Any], what: str, talking: Client) -> None:
    body = {**question(QUESTIONS[0]), **change}
    assert what in talking.told(body)


@pytest.fixture(scope="module")
def talking(family: Family) -> Iterator[Client]:
    with served(setting(family)) as (client, _, _):
        yield client


def typed(*lines: str) -> Any:
    waiting = [*lines]

    def ask(prompt: str) -> str:
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    return ask


def test_the_terminal_moves_compares_and_saves(family: Family, tmp_path: Path) -> None:
    said: list[str] = []

    def say(*words: Any, end: str = "\n", flush: bool = False) -> None:
        said.append(" ".join(map(str, words)) + end)

    out = tmp_path / "saved"
    talk_here(setting(family), typed(QUESTIONS[0], "/sft", "/q 0", "/again", "/q 7", "/what", f"/save {out}"), say)
    text = "".join(said)
    places = [text.index(ANSWERS[name]) for name in ("safe", "sft", "helpful")]
    assert places == sorted(places) and "refusal: full refusal" in text
    assert "q is a place on the path" in text and "/save FOLDER" in text
    assert {file.name: [a.text for a in read_answers(file)] for file in out.iterdir()} == {
        f"{name}.jsonl": [ANSWERS[name]] for name in ANSWERS
    }


def test_an_answer_is_stopped_in_the_terminal(family: Family, tmp_path: Path) -> None:
    said: list[str] = []

    def say(*words: Any, end: str = "\n", flush: bool = False) -> None:
        said.append(" ".join(map(str, words)) + end)
        if words == (" help",):
            raise KeyboardInterrupt

    talk_here(setting(family), typed(QUESTIONS[0], f"/save {tmp_path / 'saved'}"), say)
    assert "i cannot help\n(stopped; it is not saved)" in "".join(said)
    assert not [*(tmp_path / "saved").iterdir()]
