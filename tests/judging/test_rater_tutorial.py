"""The page for raters: its tutorial's commands, one after the other, with a browser's part and a local endpoint."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from endpoint import Endpoint, sign_of
from labelling_toys import served
from pages import tutorial

from sacpo.cli import main
from sacpo.judging import Store
from sacpo.judging.llm.store import STORE
from sacpo.judging.people import Session
from sacpo.judging.people.items import read_items

N = 6
PLACE = "http://localhost:8000/v1"


def label_all(answers: Path, baseline: Path, store: Path) -> None:
    """What the page of `sacpo label` does: the longer answer is always the better one."""
    items = read_items(answers, baseline, annotator="ada", seed=0)
    with served(Session(items, lambda: Store(store), "ada", "helpfulness")) as browser:
        for _ in range(N):
            state = browser.state()
            first, second = state["question"]["answers"]
            browser.label(state["id"], "first" if len(first) > len(second) else "second")


def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The judge likes whatever stands first, so it agrees with the person in half of the questions, if asked once."""
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": f"task {i}", "output": f"a long answer to {i}", "generator": "new"} for i in range(N)]
    (tmp_path / "new.json").write_text(json.dumps(rows))
    other = [{"prompt": f"task {i}", "completion": "short", "model": "old"} for i in range(N)]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other))

    def type_in(line: str) -> str:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert not ended.value.code, f"{line}\n{said.err}"
        return said.out

    by_hand, ratings, estimate, judged, again, gold = tutorial("rater.md")
    assert by_hand.split()[:2] == again.split()[:2] == ["sacpo", "label"]  # they serve a page until Ctrl-C
    label_all(tmp_path / "new.json", tmp_path / "old.jsonl", tmp_path / "labels.db")
    assert "human:ada" in type_in(ratings)
    with Endpoint(lambda body, attempt: f"VERDICT {sign_of(body)}: 9 2") as endpoint:
        assert estimate == f"{judged} --estimate"
        assert str(2 * N) in type_in(estimate.replace(PLACE, endpoint.url))
        assert not endpoint.bodies
        type_in(judged.replace(PLACE, endpoint.url))
        assert len(endpoint.bodies) == 2 * N
    answers = Path("out/judged")
    label_all(answers / "answers.jsonl", answers / "baseline.jsonl", answers / STORE)
    assert "qwen2.5" in type_in(gold)
