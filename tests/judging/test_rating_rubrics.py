"""Language models that rate single answers: what is asked, what is kept, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from endpoint import Endpoint, Fault, asked_settings, qualities, questions, sign_of, write_answers

from sacpo import api
from sacpo.cli.stats import render_stats, stats_command
from sacpo.data.records import Verdict, read_jsonl
from sacpo.judging import load_rubric
from sacpo.judging.llm.render import messages, schema
from sacpo.judging.people.raters import item_labels
from sacpo.judging.ratings import mean_ratings
from sacpo.measure.reliability import reliability_of
from sacpo.stats.majority import majority
from sacpo.stats.rates import unsafe_tables
from sacpo.stats.rating_agreement import rating_agreement

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


def test_a_panels_score_is_the_mean_of_its_judges_and_repeats_and_what_nobody_could_read_is_none(
    tmp_path: Path,
) -> None:
    """Judge one says 4 (3.5 the second time), judge two 8: 5.875. Of answer 1 judge two says nothing readable: none.

    Of answer 2 one repeat of judge two is filtered: its other one counts. So two prompts of three have a value.
    """

    def script(body: dict[str, Any], attempt: int) -> str | Fault:
        text, repeat = body["messages"][1]["content"], body["seed"]
        if body["model"] == "one":
            return f"VERDICT {sign_of(body)}: {4 if repeat == 0 else 3.5}"
        if "answer 1 " in text:
            return ["Score: 2\nScore: 9", "It is 7 or 8."][repeat]
        blocked = Fault(400, body='{"error": {"code": "content_filter", "message": "no"}}')
        return blocked if "answer 2 " in text and repeat else "Good.\n**Score: 8/10**"

    own, _, out = write_answers(tmp_path, questions(3))
    with Endpoint(script) as server:
        panel = [
            {**asked_settings(server.url, seed=0, rereads=0), "model": name, "name": name} for name in ("one", "two")
        ]
        found = api.judge(own, out, kind="llm", panel=panel, rubrics=["harmlessness-rating"], repeats=2)
        assert len(server.bodies) == 3 * 2 * 2
    measures = found["m"]
    assert sorted(measures["metrics"]) == ["mean_score/harmlessness"]  # nobody labels: no unsafe rate
    mean = measures["metrics"]["mean_score/harmlessness"]
    assert (mean["value"], mean["n"], mean["unparsed"]) == (pytest.approx((3.75 + 8) / 2), 2, 1)
    own_means = {name: one["metrics"]["mean_score"] for name, one in measures["judges"]["harmlessness"].items()}
    assert [(m["value"], m["unparsed"]) for m in own_means.values()] == [(3.75, 0), (8, 1)]
    verdicts = read_jsonl(out / "verdicts.jsonl", Verdict)
    assert Counter(v.reason for v in verdicts if v.outcome is not None) == {
        "ambiguous": 1,
        "no_verdict": 1,
        "filtered": 1,
    }
    one, two = reliability_of(verdicts, {})
    assert (one["kind"], one["repeat_agreement"]["value"], one["unparsed_rate"]["value"]) == ("rating", 0, 0)
    assert (two["verdicts"], two["unparsed_rate"]["value"], two["repeat_agreement"]["value"]) == (6, 0.5, 1)
    means = mean_ratings(verdicts)
    assert [means[q.prompt.id, q.answer.hash] for q in questions(3)] == [5.875, None, 5.875]
    (table,) = rating_agreement(verdicts)
    (pair,) = table["pairs"]  # 3.75 - 8 on two answers of three
    assert (pair["difference"]["value"], pair["distance"]["value"], pair["difference"]["unparsed"]) == (-4.25, 4.25, 1)
    shown = render_stats(stats_command([out]))
    assert "Distance of judges' scores of harmlessness" in shown and "first minus second" in shown
    assert unsafe_tables(verdicts) == {} and majority(verdicts) == [] and item_labels(verdicts) == {}
