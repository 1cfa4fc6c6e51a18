"""Verdict records to win rates and judge reliability: hand-made tables and the properties that must never break."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacpo.data.records import Outcome, Verdict, read_jsonl, write_jsonl
from sacpo.errors import DataError
from sacpo.stats.reliability import both_orders
from sacpo.stats.verdicts import judges, prompt_values, score_rows, summarise, unique, win_rows

W, T, L, U = Outcome.WIN, Outcome.TIE, Outcome.LOSS, Outcome.UNPARSED


def verdict(prompt: str, outcome: Outcome | None, order: str = "", repeat: int = 0, **fields: Any) -> Verdict:
    plain: dict[str, Any] = {
        "prompt_id": prompt,
        "cluster": prompt,
        "model": "policy",
        "criterion": "helpfulness",
        "judge": "grader",
        "answer_hash": f"policy-{prompt}",
        "baseline": "sft",
        "baseline_hash": f"sft-{prompt}",
        "outcome": outcome,
        "order": order,
        "repeat": repeat,
    }
    return Verdict(**{**plain, **fields})


def both(prompt: str, ab: Outcome, ba: Outcome, repeat: int = 0, **fields: Any) -> list[Verdict]:
    return [verdict(prompt, ab, "ab", repeat, **fields), verdict(prompt, ba, "ba", repeat, **fields)]


def asked(judge: Callable[[float, np.random.Generator], Outcome], n: int = 60, better: float = 0.7) -> list[Verdict]:
    """Return a judge's verdicts on n prompts in both orders; it sees how much better the first shown answer is."""
    rng = np.random.default_rng(6)
    flipped = {W: L, L: W, T: T, U: U}
    records = []
    for i in range(n):
        gap = 1.0 if rng.random() < better else -1.0
        records += both(f"p{i}", judge(gap, rng), flipped[judge(-gap, rng)])
    return records


def test_a_prompt_counts_only_when_both_orders_are_read() -> None:
    records = [*both("a", W, W), *both("b", W, L), *both("c", W, U), *both("d", U, U)]
    (row,) = win_rows(records)
    assert row.win_rate.value == 0.75  # a: 1, b: .5; c and d do not count
    assert (row.win_rate.n, row.win_rate.unparsed) == (2, 2)
    # Lost: 1, .5, .5, 0. Won: 1, .5, 1, 1.
    assert (row.worst, row.best) == (0.5, 0.875)
    assert (row.verdicts, row.unparsed_verdicts) == (8, 3)
    assert row.by_order["ab"].value == 1.0
    assert row.by_order["ba"].value == 0.5


def test_a_missing_order_is_as_bad_as_an_unread_one() -> None:
    (row,) = win_rows([*both("a", W, W), verdict("b", W, "ab")])
    assert (row.win_rate.n, row.win_rate.unparsed, row.worst, row.best) == (1, 1, 0.75, 1.0)


def test_repeats_and_samples_are_averaged_within_the_prompt() -> None:
    records = [*both("a", W, W), *both("a", L, W, 1), *both("a", W, T, sample=1, answer_hash="other"), *both("b", L, L)]
    (values,) = prompt_values(records).values()
    # Sample 0: orders (1 + 0)/2 and (1 + 1)/2, mean .75; sample 1: .75.
    assert [(value.prompt_id, value.value) for value in values] == [("a", 0.75), ("b", 0.0)]


def test_two_answers_to_one_question_are_refused() -> None:
    with pytest.raises(DataError, match="two different verdicts"):
        unique([verdict("a", W), verdict("a", L)])


def test_a_read_verdict_replaces_its_unparsed_attempt() -> None:
    for records in ([verdict("a", U), verdict("a", W)], [verdict("a", W), verdict("a", U)]):
        assert [v.outcome for v in unique(records)] == [W]


def test_scores_average_a_prompts_repeats() -> None:
    pointwise = {"baseline": "", "baseline_hash": ""}
    records = [
        verdict("a", None, score=2.0, **pointwise),
        verdict("a", None, repeat=1, score=4.0, **pointwise),
        verdict("b", None, score=5.0, **pointwise),
        verdict("c", U, **pointwise),
    ]
    (row,) = score_rows(records)
    assert row["mean_score"]["value"] == 4.0
    assert (row["mean_score"]["n"], row["mean_score"]["unparsed"]) == (2, 1)
    assert win_rows(records) == []


OUTCOMES = st.sampled_from([W, T, L, U])
TABLES = st.lists(st.tuples(OUTCOMES, OUTCOMES, OUTCOMES, OUTCOMES), min_size=1, max_size=12)


def table(rows: list[tuple[Outcome, Outcome, Outcome, Outcome]]) -> list[Verdict]:
    return [
        record
        for i, (a, b, c, d) in enumerate(rows)
        for record in [*both(f"p{i}", a, b, cluster=f"c{i // 2}"), *both(f"p{i}", c, d, 1, cluster=f"c{i // 2}")]
    ]


def figures(records: list[Verdict]) -> Any:
    """Return every win rate with its interval, and the judge's position figures."""
    return [
        [(row.group, row.win_rate.value, row.win_rate.low, row.win_rate.high) for row in win_rows(records)],
        [(judge.first_share.value, judge.flip_rate.value, judge.tie_rate.value) for judge in judges(records)],
    ]


@given(TABLES, st.randoms(use_true_random=False))
def test_order_and_duplicates_of_records_move_nothing(
    rows: list[tuple[Outcome, Outcome, Outcome, Outcome]], random: Any
) -> None:
    records = table(rows)
    shuffled = records + random.choices(records, k=5)
    random.shuffle(shuffled)
    assert json.dumps(summarise(shuffled)) == json.dumps(summarise(records))


@given(TABLES, st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["ab", "ba"]), st.integers(0, 4)), max_size=8))
def test_unparsed_replies_move_no_estimate(
    rows: list[tuple[Outcome, Outcome, Outcome, Outcome]], extra: list[tuple[int, str, int]]
) -> None:
    records = table(rows)
    garbage = [verdict(f"p{i}", U, order, repeat, cluster=f"c{i // 2}") for i, order, repeat in extra]
    assert figures(records + garbage) == figures(records)


@given(TABLES)
def test_swapping_the_models_mirrors_the_win_rate(rows: list[tuple[Outcome, Outcome, Outcome, Outcome]]) -> None:
    flipped = {W: L, L: W, T: T, U: U}
    (ours,) = win_rows(table(rows))
    (theirs,) = win_rows([replace(v, outcome=flipped[v.outcome]) for v in table(rows) if v.outcome])
    assert ours.worst == pytest.approx(1 - theirs.best)
    if ours.win_rate.value is None:
        assert theirs.win_rate.value is None
    else:
        assert ours.win_rate.value == pytest.approx(1 - theirs.win_rate.value)
        assert ours.worst - 1e-9 <= ours.win_rate.value <= ours.best + 1e-9 or ours.win_rate.unparsed


def test_a_judge_that_always_answers_a_is_exposed() -> None:
    (judge,) = judges(asked(lambda gap, rng: W))
    assert (judge.first_share.value, judge.flip_rate.value) == (1.0, 1.0)
    assert any("win rates mean nothing" in finding for finding in judge.findings)
    (row,) = win_rows(asked(lambda gap, rng: W))
    assert row.win_rate.value == 0.5  # averaging alone would have hidden it


def test_a_judge_that_always_answers_b_is_exposed() -> None:
    (judge,) = judges(asked(lambda gap, rng: L))
    assert any("shown second whatever" in finding for finding in judge.findings)


def test_an_honest_judge_has_no_findings() -> None:
    (judge,) = judges(asked(lambda gap, rng: W if gap > 0 else L))
    assert judge.findings == ()
    assert (judge.first_share.value, judge.flip_rate.value, judge.order_kappa.value) == (0.5, 0.0, 1.0)


def test_a_biased_judge_is_named_with_its_bias() -> None:
    (judge,) = judges(asked(lambda gap, rng: W if gap > 0 or rng.random() < 0.4 else L, n=120))
    assert judge.first_share.low > 0.5
    assert any("favours the answer shown first" in finding for finding in judge.findings)


def test_a_coin_is_told_from_a_judge() -> None:
    (judge,) = judges(asked(lambda gap, rng: W if rng.random() < 0.5 else L))
    assert any("not shown to be above chance" in finding for finding in judge.findings)


def test_a_judge_that_only_ties_or_cannot_be_read_is_named() -> None:
    (ties,) = judges(asked(lambda gap, rng: T))
    assert any("distinguishes nothing" in finding for finding in ties.findings)
    (mute,) = judges(asked(lambda gap, rng: U if rng.random() < 0.2 else W if gap > 0 else L))
    assert any("could not be read" in finding for finding in mute.findings)


def test_one_order_only_is_named() -> None:
    (judge,) = judges([verdict(f"p{i}", W, "ab") for i in range(20)])
    assert any("no question was read in both orders" in finding for finding in judge.findings)


def test_repeat_agreement_by_hand() -> None:
    # Prompt a: 3 repeats W W L, 1 of 3 pairs agree; prompt b: 1.
    records = [verdict("a", o, repeat=i) for i, o in enumerate((W, W, L))]
    records += [verdict("b", W, repeat=i) for i in range(2)]
    (judge,) = judges(records)
    assert judge.repeat_agreement.value == pytest.approx((1 / 3 + 1) / 2)


def test_length_bias_shows() -> None:
    records = asked(lambda gap, rng: W if gap > 0 else L)
    lengths = {}
    for record in records:  # the winner is always the longer answer
        longer = record.outcome is W
        lengths |= {record.answer_hash: 20 if longer else 10, record.baseline_hash: 10 if longer else 20}
    (judge,) = judges(records, lengths)
    assert judge.longer_share is not None
    assert judge.longer_share.value == 1.0
    assert any("prefers the longer answer" in finding for finding in judge.findings)
    assert judges(records, {})[0].longer_share.unparsed == len(records)


def test_both_orders_by_hand() -> None:
    result = both_orders(["1", "1", "2", None], ["1", "2", "1", "1"], ["1", "1", "1", "1"])
    assert [estimate.value for estimate in result.accuracy] == [0.5, 0.75]
    assert result.both_correct.value == 0.25
    assert (result.agreement.value, result.agreement.unparsed) == (pytest.approx(1 / 3), 1)


def test_a_verdict_file_reads_back_to_the_same_summary(tmp_path: Any) -> None:
    records = asked(lambda gap, rng: W if gap > 0 else L, n=10)
    write_jsonl(tmp_path / "verdicts.jsonl", records)
    assert summarise(read_jsonl(tmp_path / "verdicts.jsonl", Verdict)) == summarise(records)
