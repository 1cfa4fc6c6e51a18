"""The labelling page over HTTP: labels reach the store once, sessions resume, strangers are refused."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from labelling_toys import Browser, answers, pair_session, served

from sacpo.data.records import Outcome, Verdict, write_jsonl
from sacpo.errors import DataError, MachineError
from sacpo.judging.llm.store import Store
from sacpo.judging.people import LabelServer, Session
from sacpo.judging.people.items import items_of

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028 \ud83d {i}{model}"


def stored(path: Path) -> list[Verdict]:
    with Store(path) as store:
        return store.verdicts()


def prefer(browser: Browser, model: str, most: int = 100) -> int:
    """Label by choosing the model's answer until nothing is asked; return how many labels that took."""
    state, n = browser.state(), 0
    while state["id"] is not None and n < most:
        first = state["question"]["answers"][0].startswith(model)
        state, n = browser.label(state["id"], "first" if first else "second"), n + 1
    return n


def test_an_annotator_who_prefers_a_model_makes_it_win_in_either_order(tmp_path: Path) -> None:
    session = pair_session(tmp_path / "s.sqlite", n=12)
    with served(session) as browser:
        assert prefer(browser, "tuned") == 12
        assert browser.state()["question"] is None
    verdicts = stored(tmp_path / "s.sqlite")
    assert [v.outcome for v in verdicts] == [Outcome.WIN] * 12
    assert {v.order for v in verdicts} == {"ab", "ba"}
    assert {(v.judge, v.model, v.baseline, v.criterion) for v in verdicts} == {
        ("human:ann", "tuned", "sft", "helpfulness")
    }
    by_prompt = {a.prompt.id: a for a in answers("tuned", 12)}
    assert all(v.answer_hash == by_prompt[v.prompt_id].hash for v in verdicts)


def test_the_same_choices_against_a_model_make_it_lose(tmp_path: Path) -> None:
    with served(pair_session(tmp_path / "s.sqlite", n=5)) as browser:
        prefer(browser, "sft")
    assert [v.outcome for v in stored(tmp_path / "s.sqlite")] == [Outcome.LOSS] * 5


def test_nothing_sent_before_a_label_names_a_model(tmp_path: Path) -> None:
    texts = "an answer of its own, {i}", "another one, {i}"
    items = items_of(answers("tuned", 4, texts[0]), answers("sft", 4, texts[1]), annotator="ann")
    with served(Session(items, lambda: Store(tmp_path / "s.sqlite"), "ann", "helpfulness")) as browser:
        for _ in range(4):
            state = browser.state()
            assert "tuned" not in str(state) and "sft" not in str(state)
            browser.label(state["id"], "tie")
    assert {v.outcome for v in stored(tmp_path / "s.sqlite")} == {Outcome.TIE}


def test_a_second_session_asks_only_what_is_left(tmp_path: Path) -> None:
    with served(pair_session(tmp_path / "s.sqlite")) as browser:
        assert prefer(browser, "tuned", most=2) == 2
    again = pair_session(tmp_path / "s.sqlite")
    assert again.progress == {"total": 6, "done": 2, "skipped": 0}
    with served(again) as browser:
        assert prefer(browser, "sft") == 4
    assert sorted(v.outcome for v in stored(tmp_path / "s.sqlite")) == ["loss"] * 4 + ["win"] * 2


def test_another_seed_moves_no_label_that_was_given(tmp_path: Path) -> None:
    with served(pair_session(tmp_path / "s.sqlite")) as browser:
        prefer(browser, "tuned")
    assert pair_session(tmp_path / "s.sqlite", seed=7).current is None


def test_undo_replaces_the_last_label_and_only_it(tmp_path: Path) -> None:
    with served(pair_session(tmp_path / "s.sqlite", n=3)) as browser:
        first = browser.state()
        assert not first["can_undo"]
        second = browser.label(first["id"], "tie")
        third = browser.label(second["id"], "tie")
        back = browser.send("/undo", {"id": third["id"]})[1]
        assert (back["id"], back["done"], back["can_undo"]) == (second["id"], 1, False)
        # The same post again asks about a question that is no longer shown: nothing moves.
        assert browser.send("/undo", {"id": third["id"]})[1]["id"] == second["id"]
        shown_first = back["question"]["answers"][0]
        assert browser.label(back["id"], "first")["id"] == third["id"]
    outcomes = {v.prompt_id: v.outcome for v in stored(tmp_path / "s.sqlite")}
    assert sorted(outcomes.values()) == sorted(["tie", "win" if shown_first.startswith("tuned") else "loss"])


def test_posts_about_a_question_that_is_not_shown_change_nothing(tmp_path: Path) -> None:
    session = pair_session(tmp_path / "s.sqlite", n=4)
    names = [item.id for item in items_of(answers("tuned", 4), answers("sft", 4), annotator="ann")]
    with served(session) as browser:
        assert browser.label(names[2], "tie")["done"] == 0
        browser.label(names[0], "tie")
        state = browser.send("/undo", {"id": names[0]})[1]
        assert (state["id"], state["done"], state["can_undo"]) == (names[1], 1, True)
    assert len(stored(tmp_path / "s.sqlite")) == 1


def test_the_last_question_can_be_undone_too(tmp_path: Path) -> None:
    with served(pair_session(tmp_path / "s.sqlite", n=1)) as browser:
        name = browser.state()["id"]
        assert browser.label(name, "first")["id"] is None
        assert browser.send("/undo", {"id": None})[1]["id"] == name
        browser.label(name, "tie")
    assert [v.outcome for v in stored(tmp_path / "s.sqlite")] == [Outcome.TIE]


def test_a_label_posted_twice_counts_once(tmp_path: Path) -> None:
    with served(pair_session(tmp_path / "s.sqlite", n=3)) as browser:
        name = browser.state()["id"]
        once = browser.label(name, "tie")
        twice = browser.label(name, "first")
        assert (twice["id"], twice["done"]) == (once["id"], 1)
        later = browser.state()["id"]
        browser.label(later, "tie")
        browser.label(name, "first")
    assert [v.outcome for v in stored(tmp_path / "s.sqlite")] == [Outcome.TIE] * 2


def test_skipped_questions_come_back_in_the_next_session(tmp_path: Path) -> None:
    with served(pair_session(tmp_path / "s.sqlite", n=2)) as browser:
        skipped = browser.state()["id"]
        state = browser.label(skipped, "skip")
        assert (state["skipped"], state["done"]) == (1, 0)
        assert browser.label(state["id"], "tie")["id"] is None
    assert pair_session(tmp_path / "s.sqlite", n=2).current == skipped


def test_two_annotators_share_a_store_and_not_an_order(tmp_path: Path) -> None:
    ann, bob = (pair_session(tmp_path / "s.sqlite", name, n=12) for name in ("ann", "bob"))
    with served(ann) as first, served(bob) as second:
        assert prefer(first, "tuned") == prefer(second, "sft") == 12
    verdicts = stored(tmp_path / "s.sqlite")
    assert {(v.judge, v.outcome) for v in verdicts} == {("human:ann", "win"), ("human:bob", "loss")}
    orders = [{v.prompt_id: v.order for v in verdicts if v.judge == judge} for judge in ("human:ann", "human:bob")]
    assert len(verdicts) == 24 and orders[0] != orders[1]


def test_equal_answers_tie_without_being_asked(tmp_path: Path) -> None:
    same = answers("sft", 2)
    items = items_of([*answers("tuned", 1), *answers("tuned", 2, "sft says {i}")[1:]], same, annotator="ann")
    session = Session(items, lambda: Store(tmp_path / "s.sqlite"), "ann", "helpfulness")
    assert session.progress["done"] == 1
    assert [(v.prompt_id, v.outcome) for v in stored(tmp_path / "s.sqlite")] == [("p1", Outcome.TIE)]


@pytest.mark.parametrize(
    ("criterion", "labels"),
    [("harmlessness", ["safe", "unsafe"]), ("refusal", ["full_refusal", "partial_refusal", "compliance"])],
)
def test_single_answers_get_labels_by_number(tmp_path: Path, criterion: str, labels: list[str]) -> None:
    items = items_of(answers("tuned", 3), None, annotator="ann")
    with served(Session(items, lambda: Store(tmp_path / "s.sqlite"), "ann", criterion)) as browser:
        state = browser.state()
        assert [(c["key"], c["label"]) for c in state["choices"]] == [
            *((str(i), label) for i, label in enumerate(labels, 1)),
            ("s", "skip"),
        ]
        assert len(state["question"]["answers"]) == 1
        for label in (*labels, labels[0])[:3]:
            state = browser.label(state["id"], label)
    verdicts = stored(tmp_path / "s.sqlite")
    assert sorted(v.label for v in verdicts) == sorted((*labels, labels[0])[:3])
    assert all((v.outcome, v.baseline, v.order) == (None, "", "") for v in verdicts)


def test_hostile_answers_travel_as_data_and_the_page_never_holds_them(tmp_path: Path) -> None:
    items = items_of(answers("tuned", 2, HOSTILE), answers("sft", 2, HOSTILE), annotator="ann")
    with served(Session(items, lambda: Store(tmp_path / "s.sqlite"), "ann", "helpfulness")) as browser:
        with urllib.request.urlopen(browser.address + "/", timeout=10) as reply:
            page, policy, kind = reply.read().decode(), reply.headers["Content-Security-Policy"], reply.headers
        assert "alert(" not in page and browser.token not in page
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", page)
        assert not re.search(r"(?:src|href)=|https?:|@import|url\(", page)
        assert "unsafe-inline" not in policy and policy.startswith("default-src 'none'; script-src 'sha256-")
        assert (kind["X-Content-Type-Options"], kind["Cache-Control"]) == ("nosniff", "no-store")
        state = browser.state()
        assert set(state["question"]["answers"]) == {
            HOSTILE.format(i=state["question"]["prompt"][0]["content"][-1], model=model) for model in ("tuned", "sft")
        }


def test_the_policy_names_the_hash_of_the_script_that_is_sent(tmp_path: Path) -> None:
    with (
        served(pair_session(tmp_path / "s.sqlite")) as browser,
        urllib.request.urlopen(browser.address + "/", timeout=10) as reply,
    ):
        page, policy = reply.read(), reply.headers["Content-Security-Policy"]
    for tag, directive in ((b"script", "script-src"), (b"style", "style-src")):
        (inside,) = re.findall(rb"<" + tag + rb">(.*?)</" + tag + rb">", page, re.DOTALL)
        assert f"{directive} 'sha256-{base64.b64encode(hashlib.sha256(inside).digest()).decode()}'" in policy


@pytest.mark.parametrize("path", ["/item", "/label", "/undo"])
def test_a_wrong_token_is_refused_and_changes_nothing(tmp_path: Path, path: str) -> None:
    session = pair_session(tmp_path / "s.sqlite")
    with served(session) as browser:
        body = None if path == "/item" else {"id": session.current, "label": "tie"}
        for token in ("", "x", browser.token[:-1], browser.token + "é"):
            status, said = browser.send(path, body, {"X-Sacpo-Token": token})
            assert status == 403 and set(said) == {"error"}
    assert stored(tmp_path / "s.sqlite") == [] and session.progress["done"] == 0


def test_foreign_hosts_and_origins_are_refused(tmp_path: Path) -> None:
    session = pair_session(tmp_path / "s.sqlite")
    with served(session) as browser:
        port = browser.address.rsplit(":", 1)[1]
        label = {"id": session.current, "label": "tie"}
        for host in (f"evil.example:{port}", "127.0.0.1", f"127.0.0.1.evil.example:{port}", "localhost:1"):
            assert browser.send("/label", label, {"Host": host})[0] == 403
            assert browser.send("/", None, {"Host": host})[0] == 403
        for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}"):
            assert browser.send("/label", label, {"Origin": origin})[0] == 403
        assert session.progress["done"] == 0
        good = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
        assert browser.send("/label", label, good)[0] == 200
    assert session.progress["done"] == 1


def test_malformed_posts_are_answered_and_change_nothing(tmp_path: Path) -> None:
    session = pair_session(tmp_path / "s.sqlite")
    name = session.current
    with served(session) as browser:
        plain = {"Content-Type": "text/plain"}
        assert browser.send("/label", {"id": name, "label": "tie"}, plain)[0] == 415
        assert browser.send("/label", b"{")[0] == 400
        assert browser.send("/label", b"[" * 4000)[0] == 400
        assert browser.send("/label", [name, "tie"])[0] == 400
        assert browser.send("/label", {"id": name, "label": ["tie"]})[0] == 400
        assert browser.send("/label", {"id": "nobody", "label": "tie"}) == (400, {"error": "no such question"})
        assert browser.send("/label", {"id": name, "label": "safe"}) == (400, {"error": "no such label"})
        assert browser.send("/label", b" " * 5000)[0] == 413
        assert browser.send("/labels", {"id": name, "label": "tie"})[0] == 404
        assert browser.send("/page.html")[0] == 404
    assert session.progress["done"] == 0


def test_a_post_without_a_length_is_refused(tmp_path: Path) -> None:
    with served(pair_session(tmp_path / "s.sqlite")) as browser:
        link = http.client.HTTPConnection(browser.address.removeprefix("http://"), timeout=10)
        link.putrequest("POST", "/label")
        link.putheader("X-Sacpo-Token", browser.token)
        link.putheader("Content-Type", "application/json")
        link.endheaders()
        assert link.getresponse().status == 411
        link.close()


def test_the_server_is_for_this_machine_alone(tmp_path: Path) -> None:
    session = pair_session(tmp_path / "s.sqlite")
    with pytest.raises(DataError, match="this machine only"):
        LabelServer(session, "0.0.0.0")
    with LabelServer(session) as first:
        port = int(first.address.rsplit(":", 1)[1])
        with pytest.raises(MachineError, match="no server on this port"):
            LabelServer(session, port=port)


def test_a_store_that_fails_loses_no_label(tmp_path: Path) -> None:
    session = pair_session(tmp_path / "s.sqlite", n=3)
    (tmp_path / "s.sqlite").unlink()
    with served(session) as browser:
        first = browser.state()["id"]
        second = browser.label(first, "tie")["id"]
        (tmp_path / "s.sqlite").mkdir()
        status, said = browser.send("/label", {"id": second, "label": "tie"})
        assert status == 500 and "store" in said["error"]
        assert browser.state()["id"] == second
        (tmp_path / "s.sqlite").rmdir()
        assert browser.label(second, "first")["done"] == 2
    assert len(stored(tmp_path / "s.sqlite")) == 2


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_stores_the_last_label_when_it_is_ended(tmp_path: Path, end: signal.Signals) -> None:
    for model in ("tuned", "sft"):
        write_jsonl(tmp_path / f"{model}.jsonl", answers(model, 2))
    code = (
        "import signal, sys, typer; from sacpo.cli.label import label\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may start tests with Ctrl-C ignored
        "app = typer.Typer(); app.command()(label); app(sys.argv[1:])"
    )
    arguments = ["--baseline", "sft.jsonl", "--store", "s.sqlite", "--annotator", "ann"]
    command = [sys.executable, "-u", "-c", code, "tuned.jsonl", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address, token = process.stdout.readline().strip().split("/#")
        browser = Browser(address, token)
        browser.label(browser.state()["id"], "tie")
        process.send_signal(end)
        rest = process.stdout.read()
    assert process.returncode == 0 and "1 of 2 labelled in s.sqlite" in rest
    assert [v.outcome for v in stored(tmp_path / "s.sqlite")] == [Outcome.TIE]


def test_a_client_that_goes_away_says_nothing_and_half_a_request_is_no_label(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A reset while the reply is written, and a body that ends before its length, though it is whole JSON."""
    session = pair_session(tmp_path / "s.sqlite")
    with served(session) as browser:
        port = int(browser.address.rsplit(":", 1)[1])
        body = json.dumps({"id": session.current, "label": "tie"}).encode()
        head = f"Host: 127.0.0.1:{port}\r\nX-Sacpo-Token: {browser.token}\r\nContent-Type: application/json\r\n"
        half = f"POST /label HTTP/1.1\r\n{head}Content-Length: {len(body) + 9}\r\n\r\n".encode() + body
        for request in (half, f"GET /item HTTP/1.1\r\n{head}\r\n".encode() * 50):
            client = socket.create_connection(("127.0.0.1", port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close means reset
            client.sendall(request)
            if request is half:
                client.shutdown(socket.SHUT_WR)
                time.sleep(0.2)
            client.close()
        time.sleep(0.3)
        assert browser.state()["done"] == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["z\udc80", " ", "a\nb", "\u202ea", "x" * 101])
def test_names_that_no_table_can_show_are_refused(name: str, tmp_path: Path) -> None:
    items = items_of(answers("tuned", 1), answers("sft", 1), annotator="a")
    with pytest.raises(DataError, match="an annotator needs a name"):
        Session(items, lambda: Store(tmp_path / "s"), name, "helpfulness")
    with pytest.raises(DataError, match="a criterion needs a name"):
        Session(items, lambda: Store(tmp_path / "s"), "ann", name)
