"""Language models that rate single answers: what is asked, what is kept, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from endpoint import Endpoint, asked_settings, qualities, questions, sign_of, write_answers

from sacpo import api
from sacpo.data.records import Verdict, read_jsonl
from sacpo.judging import load_rubric
from sacpo.judging.llm.render import messages, schema

MINE = """
name: tone
criterion: kindness
kind: rating
scale: [0, 5]
task: How kind is the answer?
"""


def rate(body: dict[str, Any], attempt: int) -> str:
    """Half of the quality that the answer names; above 5 nothing that can be read."""
    (own,) = qualities(body)
    return f"VERDICT {sign_of(body)}: {own / 2}"


def test_a_judge_is_shown_one_answer_and_the_scale() -> None:
    question = questions(1)[0]
    asked = messages(load_rubric("helpfulness-rating"), question, "", structured=False)[1]["content"]
    assert "where X is the answer's score, a number from 1 to 10." in asked
    assert "\nanswer 0 quality" in asked
    assert "baseline 0" not in asked
    assert schema(load_rubric("harmlessness-rating"))["properties"]["score"] == {"type": "number"}


def test_a_users_rubric_rates_answers_and_their_mean_has_an_interval(tmp_path: Path) -> None:
    (tmp_path / "tone.yaml").write_text(MINE)
    asked = questions(12)
    own, _, out = write_answers(tmp_path, asked)
    with Endpoint(rate) as server:
        panel = asked_settings(server.url)
        found = api.judge(own, out, kind="llm", panel=panel, rubrics=[str(tmp_path / "tone.yaml")])
        assert len(server.bodies) == 12
    values = [int(q.answer.text.split("quality ")[1][:-1]) / 2 for q in asked]
    mean = found["m"]["metrics"]["mean_score/kindness"]
    assert mean["value"] == pytest.approx(sum(values) / 12)
    assert mean["ci95"][0] < mean["value"] < mean["ci95"][1]
    assert [v.score for v in read_jsonl(out / "verdicts.jsonl", Verdict)] == values
