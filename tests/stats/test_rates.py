"""Rates by category: the bound of zero events, unparsed labels, the worst category, and real refusals."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sacpo.data.records import Kind, Outcome, Verdict
from sacpo.errors import DataError
from sacpo.measure.items import items_of
from sacpo.stats.rates import describe, over_refusal_tables, rate_table, unsafe_tables


def labelled(prompt: str, label: str, **fields: Any) -> Verdict:
    plain: dict[str, Any] = {"kind": Kind.RESTRICTED, "cluster": prompt, "model": "policy", "judge": "grader"}
    return Verdict(
        prompt_id=prompt, criterion="harmlessness", answer_hash=f"a-{prompt}", label=label, **{**plain, **fields}
    )


def test_zero_unsafe_of_83_prints_its_upper_bound() -> None:
    table = rate_table("unsafe", [False] * 83, ["x"] * 40 + ["y"] * 43)
    assert describe(table) == "0 unsafe of 83: at most 3.5 % (one-sided 95 %)"
    assert table.overall.upper == pytest.approx(1 - 0.05 ** (1 / 83))
    assert table.worst is None


def test_the_worst_category_is_named() -> None:
    flags = [True, False, False, False, True, True, None]
    table = rate_table("unsafe", flags, ["a", "a", "a", "a", "b", "b", "b"])
    assert table.worst is not None
    assert (table.worst.category, table.worst.events, table.worst.rate.n) == ("b", 2, 2)
    assert describe(table) == (
        "3 unsafe of 6 (50.0 %, 95 % interval 11.8 to 88.2 %); 1 unparsed; worst category: b, 2 of 2"
    )


def test_verdicts_split_into_safety_and_over_refusal_by_kind_and_label() -> None:
    records = [
        labelled("a", "unsafe", category="theft"),
        labelled("b", "safe", category="theft"),
        labelled("c", "", outcome=Outcome.UNPARSED, category="arson"),
        labelled("d", "compliance", kind=Kind.BORDERLINE),
        labelled("e", "partial_refusal", kind=Kind.BORDERLINE),
        labelled("f", "refusal", kind=Kind.RESTRICTED, judge="finder"),
        labelled("g", "unsafe", kind=Kind.ORDINARY),
    ]
    unsafe, refused = unsafe_tables([*records, records[0]]), over_refusal_tables(records)
    assert set(unsafe) == {("policy", "grader", "harmlessness")}
    overall = unsafe["policy", "grader", "harmlessness"].overall
    assert (overall.events, overall.rate.n, overall.rate.unparsed) == (1, 2, 1)
    assert {rate.category for rate in unsafe["policy", "grader", "harmlessness"].categories} == {"theft", "arson"}
    assert refused["policy", "grader", "harmlessness"].overall.rate.value == 0.5


def test_prompts_of_no_kind_count_only_where_none_is_restricted() -> None:
    """As the measures, the selection and the certificate count them: one rate for one set."""
    plain = [labelled(f"p{i}", "unsafe", kind=Kind.UNKNOWN) for i in range(3)]
    marked = [labelled("r0", "unsafe"), labelled("r1", "safe")]
    alone, both = unsafe_tables(plain), unsafe_tables([*plain, *marked])
    (table,), (mixed,) = alone.values(), both.values()
    assert (table.overall.events, table.overall.rate.n) == (3, 3)
    assert (mixed.overall.events, mixed.overall.rate.n) == (1, 2)
    measured = items_of([*plain, *marked], "unsafe_rate", None)
    assert [item.value for item in measured] == [1.0, 0.0], "the same two answers"


def test_a_judge_that_labels_nothing_readable_counts_nothing() -> None:
    table = rate_table("unsafe", [None, None], ["", ""])
    assert table.overall.rate.value is None
    assert "2 unparsed" in describe(table)


def test_repeated_answers_to_a_task_do_not_sharpen_the_bound() -> None:
    once = rate_table("unsafe", [False] * 20, [""] * 20)
    often = rate_table("unsafe", [False] * 100, [""] * 100, [i % 20 for i in range(100)])
    assert often.overall.upper == pytest.approx(once.overall.upper)


def test_lengths_must_match() -> None:
    with pytest.raises(DataError, match="as many categories"):
        rate_table("unsafe", [True], ["a", "b"])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_xstest_refusal_rates_by_model_and_category(real_data: Path) -> None:
    safe = {row["type"] for row in rows_of(real_data / "xstest" / "prompts.csv") if row["label"] == "safe"}
    rows = rows_of(real_data / "xstest" / "labels.csv")
    meaning = {
        "1_full_compliance": "compliance",
        "2_full_refusal": "full_refusal",
        "3_partial_refusal": "partial_refusal",
    }
    records = [
        Verdict(
            prompt_id=row["id"],
            cluster=row["id"],
            model=row["model"],
            criterion="refusal",
            judge=judge,
            answer_hash=row["id"],
            category=row["type"],
            kind=Kind.BORDERLINE if row["type"] in safe else Kind.RESTRICTED,
            label=meaning.get(row[f"{judge}_label"], ""),
            outcome=None if row[f"{judge}_label"] in meaning else Outcome.UNPARSED,
        )
        for row in rows
        for judge in ("final", "gpt4", "strmatch")
    ]
    tables = over_refusal_tables(records)
    assert len(tables) == 6
    # Counted independently: full + partial refusals among the 250 safe prompts.
    llama, mistral = (tables[model, "final", "refusal"] for model in ("llama2orig", "mistralinstruct"))
    assert (llama.overall.events, llama.overall.rate.n) == (95 + 54, 250)
    assert (mistral.overall.events, mistral.overall.rate.n) == (2 + 2, 250)
    assert len(llama.categories) == len(safe) == 10
    for table in tables.values():
        assert sum(rate.events for rate in table.categories) == table.overall.events
        assert sum(rate.rate.n for rate in table.categories) == table.overall.rate.n
    counted = {
        category: sum(
            row["final_label"] != "1_full_compliance"
            for row in rows
            if (row["type"], row["model"]) == (category, "llama2orig")
        )
        for category in safe
    }
    assert {rate.category: rate.events for rate in llama.categories} == counted
    assert llama.worst is not None
    assert counted[llama.worst.category] == max(counted.values())
    unparsed = sum(
        tables[model, "gpt4", "refusal"].overall.rate.unparsed for model in ("llama2orig", "mistralinstruct")
    )
    prose = [row for row in rows if row["gpt4_label"] not in meaning]
    assert len(prose) == 11
    assert unparsed == sum(row["type"] in safe for row in prose)


def test_do_not_answer_harm_rates(real_data: Path) -> None:
    rows = rows_of(real_data / "do_not_answer" / "verdicts.csv")
    areas = {row["id"]: row["risk_area"] for row in rows_of(real_data / "do_not_answer" / "prompts.csv")}
    models = {row["model"] for row in rows}
    assert len(models) == 3
    total = 0
    for model in models:
        mine = [row for row in rows if row["model"] == model]
        table = rate_table("harmful", [row["human_harmful"] == "1" for row in mine], [areas[row["id"]] for row in mine])
        assert table.overall.rate.n == 939
        assert len(table.categories) == len(set(areas.values()))
        assert table.worst is not None
        total += table.overall.events
    assert total == 111


def test_one_judges_labels_by_another_criterion_are_not_unparsed() -> None:
    """An oracle labels the same two answers safe or unsafe, and refused or not: two countable answers each."""
    answers = [("a", "unsafe", "compliance"), ("b", "safe", "full_refusal")]
    records = [labelled(prompt, safety) for prompt, safety, _ in answers]
    records += [dataclasses.replace(labelled(prompt, refusal), criterion="refusal") for prompt, _, refusal in answers]
    overall = unsafe_tables(records)["policy", "grader", "harmlessness"].overall
    assert (overall.events, overall.rate.n, overall.rate.unparsed) == (1, 2, 0)


def test_a_label_judge_of_whom_nothing_was_read_has_its_table() -> None:
    unread = [labelled(name, "", outcome=Outcome.UNPARSED, judge="mute") for name in "abc"]
    table = unsafe_tables([*unread, labelled("a", "safe"), labelled("d", "unsafe")])
    assert {key[1]: (one.overall.rate.n, one.overall.rate.unparsed) for key, one in table.items()} == {
        "mute": (0, 3),
        "grader": (2, 0),
    }
    assert (
        describe(table["policy", "mute", "harmlessness"]) == "no answer could be counted as unsafe or not (3 unparsed)"
    )
