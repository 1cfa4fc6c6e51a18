"""The store of verdicts: what was said first stays, every question keeps its row, a killed writer loses nothing."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sacpo.data.records import Kind, Outcome, Verdict
from sacpo.errors import RunError
from sacpo.judging.llm.store import Store

VERDICT = Verdict(
    prompt_id="p1",
    cluster="c1",
    model="m",
    criterion="helpfulness",
    judge="j",
    answer_hash="a",
    category="k",
    kind=Kind.RESTRICTED,
    baseline="b",
    baseline_hash="h",
    outcome=Outcome.WIN,
    score=7.5,
    order="ba",
    repeat=2,
    sample=3,
)


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    with Store(tmp_path / "v.sqlite") as store:
        assert store.get("k") is None
        store.put("k", VERDICT, reply="7.5 3 \ud800", usage={"prompt_tokens": 9}, question={"categories": ["x"]})
    with Store(tmp_path / "v.sqlite") as store:
        assert store.get("k") == VERDICT
        assert store.keys() == {"k"}
        (row,) = store.rows()
        assert (row.reply, row.usage, row.question) == ("7.5 3 \ud800", {"prompt_tokens": 9}, {"categories": ["x"]})


def test_the_first_write_wins_and_another_question_with_the_same_texts_gets_the_same_answer(tmp_path: Path) -> None:
    with Store(tmp_path / "v.sqlite") as store:
        store.put("k", VERDICT, usage={"prompt_tokens": 9})
        store.put("k", replace(VERDICT, outcome=Outcome.LOSS, score=1.0))
        store.put("k", replace(VERDICT, model="other", outcome=Outcome.LOSS, score=1.0))
        assert sorted((v.model, v.outcome, v.score) for v in store.verdicts()) == [
            ("m", Outcome.WIN, 7.5),
            ("other", Outcome.WIN, 7.5),
        ]
        assert sum(row.usage.get("prompt_tokens", 0) for row in store.rows()) == 9  # paid once


def test_the_order_of_verdicts_does_not_depend_on_the_order_of_writing(tmp_path: Path) -> None:
    tables = []
    for name, keys in (("1", "cab"), ("2", "bca")):
        with Store(tmp_path / name) as store:
            for key in keys:
                store.put(key, replace(VERDICT, prompt_id=key))
            tables.append(store.verdicts())
    assert tables[0] == tables[1]
    assert [verdict.prompt_id for verdict in tables[0]] == ["a", "b", "c"]


def test_unread_replies_are_kept_apart_and_can_be_asked_again(tmp_path: Path) -> None:
    with Store(tmp_path / "v.sqlite") as store:
        store.put_unread("k", 0, "empty", "", {"prompt_tokens": 4})
        store.put_unread("k", 1, "no_verdict", "hm", {"prompt_tokens": 5})
        assert [(r.attempt, r.reason, r.reply) for r in store.unread("k")] == [
            (0, "empty", ""),
            (1, "no_verdict", "hm"),
        ]
        assert store.keys() == set()
        store.put("k", replace(VERDICT, outcome=Outcome.UNPARSED, score=None))
        store.put("k", replace(VERDICT, model="other"))
        store.put("read", VERDICT)
        again = store.unparsed()
    assert again == {"k": 2}
    with Store(tmp_path / "v.sqlite", again) as store:
        assert (store.keys(), store.get("k"), store.unread("k"), len(store.rows())) == ({"read"}, None, [], 1)
        store.put_unread("k", 0, "empty", "again", {"prompt_tokens": 6})
        assert [(r.attempt, r.reply) for r in store.unread("k")] == [(0, "again")]
        with Store(tmp_path / "v.sqlite") as other:  # nothing is lost before another verdict is there
            assert len(other.rows()) == 3
        store.put("k", replace(VERDICT, score=2.0), usage={"prompt_tokens": 7})
        assert again == {} and [r.usage["prompt_tokens"] for r in store.unread("k")] == [4, 5, 6]
        said = [(row.verdict.model, row.verdict.score, row.usage) for row in store.rows() if row.key == "k"]
    assert sorted(said, key=lambda one: one[0]) == [("m", 2.0, {"prompt_tokens": 7}), ("other", 2.0, {})]


def test_a_refusal_that_was_paid_for_is_kept_when_it_is_asked_again(tmp_path: Path) -> None:
    with Store(tmp_path / "v.sqlite") as store:
        unread = replace(VERDICT, outcome=Outcome.UNPARSED, score=None, reason="filtered")
        store.put("k", unread, reply="no", usage={"prompt_tokens": 3})
        again = store.unparsed()
    with Store(tmp_path / "v.sqlite", again) as store:
        store.put("k", VERDICT)
        assert [(r.reason, r.reply, r.usage) for r in store.unread("k")] == [("filtered", "no", {"prompt_tokens": 3})]


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database at all, but long enough to be read as one\n" * 50)
    with pytest.raises(RunError, match="cannot be read"):
        Store(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE songs (name TEXT)")
    other.close()
    with pytest.raises(RunError, match="no store of verdicts"):
        Store(tmp_path / "other")


def test_another_schema_version_is_refused_by_name(tmp_path: Path) -> None:
    Store(tmp_path / "v.sqlite").close()
    with sqlite3.connect(tmp_path / "v.sqlite") as db:
        db.execute("UPDATE meta SET value = '99'")
    with pytest.raises(RunError, match=r"another version of the schema[\s\S]*99"):
        Store(tmp_path / "v.sqlite")


def test_a_killed_writer_loses_no_verdict_that_was_put(tmp_path: Path) -> None:
    code = (
        "import os, sys; from test_store import VERDICT; from sacpo.judging.llm.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "for i in range(50): store.put(f'k{i:02}', VERDICT)\n"
        "print('put', flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "v.sqlite")],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "put\n"), done.stderr
    with Store(tmp_path / "v.sqlite") as store:
        assert sorted(store.keys()) == [f"k{i:02}" for i in range(50)]


def test_why_a_reply_could_not_be_read_stays_with_the_verdict(tmp_path: Path) -> None:
    """Also in stores that keep the reason beside the verdict alone; a read verdict's JSON has no such field."""
    one, two, read = (replace(VERDICT, prompt_id=name, outcome=Outcome.UNPARSED) for name in ("a", "b", "c"))
    read = replace(read, outcome=Outcome.WIN)
    with Store(tmp_path / "s") as store:
        store.put("a", replace(one, reason="truncated"))
        store.put("b", two, question={"reason": "filtered"})
        store.put("c", read)
        assert [v.reason for v in store.verdicts()] == ["truncated", "filtered", ""]
        store.put("a", replace(one, model="another"))
        assert [v.reason for v in store.verdicts() if v.prompt_id == "a"] == ["truncated"] * 2
    assert "reason" not in read.to_json()
    assert Verdict.from_json(replace(one, reason="truncated").to_json()).reason == "truncated"
