"""Agreement of judges and people on the same items: worked kappas through verdicts, and real votes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from labelling_toys import pair_session

from sacpo.cli.stats import StatsOptions, stats_command
from sacpo.data.records import Outcome, Verdict, text_hash, write_jsonl
from sacpo.judging.llm.store import Store
from sacpo.judging.people import agreement
from sacpo.stats.agreement import fleiss_kappa

WIN, TIE, LOSS, UNPARSED = Outcome.WIN, Outcome.TIE, Outcome.LOSS, Outcome.UNPARSED


def said(judge: str, i: int, outcome: Outcome, **fields: Any) -> Verdict:
    given = {"model": "a", "answer_hash": f"a{i}", "baseline": "b", "baseline_hash": f"b{i}", **fields}
    return Verdict(f"p{i}", f"p{i}", criterion="helpfulness", judge=judge, outcome=outcome, **given)


def labelled(judge: str, i: int, label: str, **fields: Any) -> Verdict:
    given = {"model": "a", "answer_hash": f"a{i}", "criterion": "refusal", **fields}
    return Verdict(f"p{i}", f"p{i}", judge=judge, label=label, **given)


def only_pair(verdicts: list[Verdict]) -> dict[str, Any]:
    (table,) = agreement(verdicts)
    (pair,) = table["pairs"]
    return pair


def test_cohens_kappa_by_hand_through_verdicts() -> None:
    # win/win 20, win/loss 5, loss/win 10, loss/loss 15: p_o = .7, p_e = .5 * .6 + .5 * .4 = .5, kappa = .4.
    first, second = [WIN] * 25 + [LOSS] * 25, [WIN] * 20 + [LOSS] * 5 + [WIN] * 10 + [LOSS] * 15
    pair = only_pair(
        [said("x", i, o) for i, o in enumerate(first)] + [said("human:y", i, o) for i, o in enumerate(second)]
    )
    assert (pair["first"], pair["second"]) == ("human:y", "x")
    assert pair["cohen_kappa"]["value"] == pytest.approx(0.4)
    assert (pair["agreement"]["value"], pair["agreement"]["n"]) == (pytest.approx(0.7), 50)


def test_the_side_that_is_called_the_baseline_does_not_matter() -> None:
    # Judge y compares b with its baseline a: its loss is judge x's win.
    outcomes = [WIN, LOSS, TIE, WIN]
    turned = {WIN: LOSS, LOSS: WIN, TIE: TIE}
    other = [
        said("y", i, turned[o], model="b", answer_hash=f"b{i}", baseline="a", baseline_hash=f"a{i}")
        for i, o in enumerate(outcomes)
    ]
    assert only_pair([*(said("x", i, o) for i, o in enumerate(outcomes)), *other])["cohen_kappa"]["value"] == 1.0


def test_orders_that_contradict_each_other_are_a_tie_and_repeats_are_averaged() -> None:
    judge = [
        *(said("j", 0, outcome, order=order) for outcome, order in ((WIN, "ab"), (LOSS, "ba"))),
        *(said("j", 1, outcome, order=order) for outcome, order in ((WIN, "ab"), (TIE, "ba"))),
        # Order ab: 2 of 3 wins; order ba: tie. Mean (2/3 + 1/2) / 2 > 1/2.
        *(said("j", 2, outcome, order="ab", repeat=i) for i, outcome in enumerate((WIN, WIN, LOSS))),
        said("j", 2, TIE, order="ba"),
    ]
    human = [said("human:h", 0, TIE, order="ba"), said("human:h", 1, WIN, order="ab"), said("human:h", 2, WIN)]
    assert only_pair(judge + human)["agreement"]["value"] == 1.0


def test_an_item_with_an_unread_order_is_left_out_and_counted() -> None:
    judge = [said("j", i, WIN if i else UNPARSED, order="ab") for i in range(4)]
    judge += [said("j", i, WIN, order="ba") for i in range(4)]
    human = [said("human:h", i, WIN if i < 3 else LOSS) for i in range(4)]
    rate = only_pair(judge + human)["agreement"]
    assert (rate["value"], rate["n"], rate["unparsed"]) == (pytest.approx(2 / 3), 3, 1)


def test_equal_answers_are_no_evidence_of_agreement() -> None:
    same = {"answer_hash": "same", "baseline_hash": "same"}
    verdicts = [said(judge, i, TIE, **same) for judge in "xy" for i in range(9)]
    assert agreement(verdicts) == []
    pair = only_pair([*verdicts, said("x", 10, WIN), said("y", 10, LOSS)])
    assert (pair["agreement"]["n"], pair["agreement"]["value"]) == (1, 0.0)


def test_judges_of_different_items_or_criteria_are_not_compared() -> None:
    assert agreement([said("x", 0, WIN), said("y", 1, WIN)]) == []
    assert agreement([labelled("x", 0, "safe", criterion="harmlessness"), labelled("y", 0, "compliance")]) == []
    # Other answers of the same model to the same prompt are other items.
    assert agreement([labelled("x", 0, "compliance"), labelled("y", 0, "compliance", answer_hash="z")]) == []


def test_labels_of_single_answers_and_people_apart() -> None:
    # Three people: items AAA, AAB, BBB: P = 1, 1/3, 1; p_A = 5/9; (7/9 - 41/81) / (40/81) = .55.
    votes = ["AAA", "AAB", "BBB"]
    words = {"A": "compliance", "B": "full_refusal"}
    people = [labelled(f"human:{name}", i, words[v[k]]) for i, v in enumerate(votes) for k, name in enumerate("xyz")]
    judge = [labelled("guard", i, label) for i, label in enumerate(["full_compliance", "compliance", ""])]
    (table,) = agreement([*people, *judge])
    assert (table["kind"], table["raters"]) == ("pointwise", ["guard", "human:x", "human:y", "human:z"])
    assert table["fleiss_kappa_people"]["value"] == pytest.approx(0.55)
    assert len(table["pairs"]) == 6
    guard = next(pair for pair in table["pairs"] if (pair["first"], pair["second"]) == ("guard", "human:z"))
    assert (guard["agreement"]["value"], guard["agreement"]["n"]) == (0.5, 2)
    # With the judge: P = 1, 1/2, 1 (its item without a label keeps three); p_A = 7/11.
    expected = (2.5 / 3 - (49 + 16) / 121) / (1 - (49 + 16) / 121)
    assert table["fleiss_kappa"]["value"] == pytest.approx(expected)


def test_a_store_of_two_annotators_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    for name in ("ann", "bob"):
        session = pair_session(path, name, n=4)
        while session.current is not None:
            session.label(session.current, "tie")
        session.close()
    with Store(path) as store:
        (table,) = agreement(store)
    assert table["pairs"][0]["agreement"]["value"] == 1.0
    assert table["pairs"][0]["cohen_kappa"]["value"] is None  # only one label was ever given


def test_pandalm_votes_agree_as_published(real_data: Path, tmp_path: Path) -> None:
    votes = json.loads((real_data / "pandalm" / "testset-v1.json").read_text(encoding="utf-8"))
    meaning = {0: TIE, 1: WIN, 2: LOSS}
    records = []
    for item in votes:
        model, baseline = item["cmp_key"].split("_")
        for rater in (1, 2, 3):
            records.append(
                Verdict(
                    prompt_id=str(item["idx"]),
                    cluster=str(item["idx"]),
                    model=model,
                    criterion="helpfulness",
                    judge=f"human:{rater}",
                    answer_hash=text_hash(model, str(item["idx"])),
                    baseline=baseline,
                    baseline_hash=text_hash(baseline, str(item["idx"])),
                    outcome=meaning[item[f"annotator{rater}"]],
                )
            )
    write_jsonl(tmp_path / "verdicts.jsonl", records)
    (found,) = stats_command([tmp_path / "verdicts.jsonl"], StatsOptions(baseline="llama-7b"))["sets"]
    (table,) = found["agreement"]
    kappas = {(p["first"][-1], p["second"][-1]): p["cohen_kappa"] for p in table["pairs"]}
    assert {key: round(kappa["value"], 3) for key, kappa in kappas.items()} == {
        ("1", "2"): 0.852,
        ("1", "3"): 0.879,
        ("2", "3"): 0.862,
    }
    assert all(kappa["n"] == 999 for kappa in kappas.values())
    columns = [[item[f"annotator{i}"] for i in (1, 2, 3)] for item in votes]
    assert table["fleiss_kappa_people"]["value"] == pytest.approx(fleiss_kappa(columns).value)
