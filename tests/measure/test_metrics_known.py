"""The registry of metrics: what recipes and reports know of one, and what is measured, fit together."""

from __future__ import annotations

from typing import get_args

import pytest
from measured_toys import answer, number_judge, prompt

from sacpo.data.records import Kind
from sacpo.judging.labels import LabelJudge
from sacpo.judging.llm.specs import LABELS, RUBRICS
from sacpo.judging.rubric import load_rubric
from sacpo.judging.verdicts import judge_answers
from sacpo.measure.measures import measure
from sacpo.recipe.checks import ADVICE
from sacpo.recipe.metrics import METRICS, BoundedMetric, Given, MaximisedMetric, metric_key
from sacpo.report.lookup import is_rate, label, number


def measured() -> set[str]:
    """Measure answers with everything that can be: decoded, compared, scored, labelled both ways, sampled for KL."""
    prompts = [prompt(f"p{i}", kind) for i, kind in enumerate((Kind.RESTRICTED, Kind.BORDERLINE))]
    own = [answer(p, text, n_tokens=3) for p, text in zip(prompts, ("1", "2"), strict=True)]
    baseline = [answer(p, "0", "sft") for p in prompts]
    judges = [number_judge(), *(LabelJudge(word, word, lambda *_, word=word: word) for word in ("unsafe", "refusal"))]
    verdicts = [verdict for judge in judges for verdict in judge_answers(judge, own, baseline)]
    return set(measure(own, verdicts, [("p0", 0.5), ("p1", 0.1)])["metrics"])


def test_what_is_measured_is_known_and_what_is_known_is_measured() -> None:
    """What `measure` gives and the table does not name, or the other way round, is a forgotten registration."""
    keys = measured()
    tail = {"cvar_score"}  # a certificate's own: it is tested, not estimated
    assert {key.partition("/")[0] for key in keys} == set(METRICS) - tail
    assert {key for key in keys if "/" in key} == {"win_rate/help", "mean_score/help"}
    assert keys == {metric_key(name, "help") for name in set(METRICS) - tail}


def test_bounds_and_objectives_are_those_of_the_table() -> None:
    assert sorted(get_args(BoundedMetric)) == sorted(name for name, known in METRICS.items() if known.bounded)
    assert sorted(get_args(MaximisedMetric)) == sorted(name for name, known in METRICS.items() if known.maximised)


def test_what_a_judge_must_say_has_advice_and_labels_have_a_rubric() -> None:
    assert set(ADVICE) == set(get_args(Given)) == {known.needs for known in METRICS.values()} - {None}
    assert set(LABELS) == set(RUBRICS) == {"unsafe", "refusals"}
    for needs, rubric in RUBRICS.items():
        assert set(load_rubric(rubric).labels) <= set(LABELS[needs])


@pytest.mark.parametrize(
    ("key", "words", "shown"),
    [
        ("win_rate/help", "help win rate", "25.0 %"),
        ("mean_score/help", "mean help score", "0.25"),
        ("over_refusal_rate", "over-refusal", "25.0 %"),
        ("kl", "KL from SFT, nats", "0.25"),
        ("unknown_thing", "unknown thing", "0.25"),
    ],
)
def test_reports_write_a_metric_as_the_table_says(key: str, words: str, shown: str) -> None:
    assert (label(key), number(0.25, key), is_rate(key)) == (words, shown, shown.endswith("%"))
