"""Published verdict files through `sacpo stats`: own rows always, the published figures where the data is."""

from __future__ import annotations

import csv
import gzip
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sacpo.cli.stats import StatsOptions, render_stats, stats_command
from sacpo.cli.stats.published import preferred, read_published
from sacpo.data.records import Answer, Outcome, Prompt, Verdict, write_jsonl
from sacpo.errors import DataError
from sacpo.stats.agreement import cohen_kappa
from sacpo.stats.length_table import leaderboard_rows, length_rows


def tables(path: Path, form: str, **options: Any) -> dict[str, Any]:
    (found,) = stats_command([path], StatsOptions(form=form, **options))["sets"]
    return found


def test_alpaca_evals_annotations(tmp_path: Path) -> None:
    """Probabilities 1, 0, 0, .5, .75, one dropped: mean .45; wins 2, losses 2, draw 1: discrete 50 %."""
    preferences = [2, 1, 1, 1.5, 1.75, None]
    items = [
        {"instruction": f"do {i}", "output_1": "four", "generator_1": "base", "output_2": "sixsix" + str(i),
         "generator_2": "new", "annotator": "judge", "preference": preference}
        for i, preference in enumerate(preferences)
    ]  # fmt: skip
    (tmp_path / "annotations.json").write_text(json.dumps(items))
    found = tables(tmp_path / "annotations.json", "alpaca-eval")
    (row,) = found["leaderboard"]
    assert (row["win_rate"], row["discrete_win_rate"]) == (pytest.approx(45), pytest.approx(50))
    assert (row["n_wins"], row["n_wins_base"], row["n_draws"], row["n_total"]) == (2, 2, 1, 5)
    (win,) = found["win_rates"]
    assert (win["win_rate"]["value"], win["win_rate"]["n"], win["win_rate"]["unparsed"]) == (0.5, 5, 1)
    (controlled,) = found["length_controlled"]  # equal differences in length: the plain rate
    assert controlled["controlled"]["value"] == pytest.approx(0.5, abs=2e-3)
    assert controlled["mean_length_difference"] == 3
    assert "45.00" in render_stats({"sets": [found]})


def test_length_control_of_any_verdicts_by_prompt(tmp_path: Path) -> None:
    """The longer answer always wins and quality is equal: half the prompts, so .5 at equal lengths and as it stands."""
    answers, verdicts = [], []
    for i in range(40):
        prompt = Prompt.from_text(f"p{i}")
        ours, theirs = Answer(prompt, "m", "x" * (20 + 20 * (i % 4 < 3))), Answer(prompt, "sft", "y" * 30)
        answers += [ours, theirs]
        for order in ("ab", "ba"):
            verdicts.append(
                Verdict(prompt.id, prompt.cluster, "m", "helpfulness", "j", ours.hash, baseline="sft",
                        baseline_hash=theirs.hash, order=order, outcome=Outcome.WIN if i % 4 < 3 else Outcome.LOSS)
            )  # fmt: skip
    write_jsonl(tmp_path / "v.jsonl", verdicts)
    write_jsonl(tmp_path / "a.jsonl", answers)
    (found,) = stats_command([tmp_path / "v.jsonl"], StatsOptions(answers=(tmp_path / "a.jsonl",)))["sets"]
    (row,) = found["length_controlled"]
    assert (row["raw"]["value"], row["raw"]["n"], row["mean_length_difference"]) == (0.75, 40, 5.0)
    assert row["length_slope"] > 1.5
    assert row["controlled"]["value"] < 0.7 < row["raw"]["value"]
    assert stats_command([tmp_path / "v.jsonl"])["sets"][0]["length_controlled"] == []  # no lengths, no control
    unread = [replace(v, outcome=Outcome.UNPARSED, repeat=9) for v in verdicts[:10]]
    lengths = {answer.hash: len(answer.text) for answer in answers}
    shuffled = verdicts + unread + verdicts[5:9]
    random.Random(0).shuffle(shuffled)
    assert length_rows(shuffled, lengths) == length_rows(verdicts, lengths)


def test_pandalms_votes(tmp_path: Path) -> None:
    """Votes 1 1 2, 0 0 0 and 2 1 2: raters 1 and 3 agree on items 2 and 3 of 3, raters 1 and 2 on 1 and 2."""
    items = [
        {"idx": i, "cmp_key": "new_base", "response1": f"a{i}", "response2": True,
         **{f"annotator{r}": vote for r, vote in enumerate(votes, 1)}}
        for i, votes in enumerate([(1, 1, 2), (0, 0, 0), (2, 1, 2)])
    ]  # fmt: skip
    (tmp_path / "votes.json").write_text(json.dumps(items))
    found = tables(tmp_path / "votes.json", "pandalm")
    (agreed,) = found["agreement"]
    assert [pair["agreement"]["value"] for pair in agreed["pairs"]] == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert {row["judge"]: row["win_rate"]["value"] for row in found["win_rates"]} == pytest.approx(
        {"human:1": 0.5, "human:2": 2.5 / 3, "human:3": 0.5 / 3}
    )


def test_xstests_labels_and_prose_that_is_no_label(tmp_path: Path) -> None:
    full, partial, complies = "2_full_refusal", "3_partial_refusal", "1_full_compliance"
    header = "model,id,type,annotation_1,annotation_2,final_label,gpt4_label,strmatch_label"
    lines = [
        f"m,1,homonyms,{full},{full},{full},{full},{full}",
        f"m,2,homonyms,{complies},{partial},{partial},I think it complies,{complies}",
        f"m,3,definitions,{complies},{complies},{complies},{complies},{full}",
        f"m,4,contrast_homonyms,{full},{full},{full},{complies},{full}",
    ]
    (tmp_path / "labels.csv").write_text("\n".join([header, *lines]))
    found = tables(tmp_path / "labels.csv", "xstest")
    rates = {row["judge"]: row["overall"] for row in found["over_refusal"]}
    assert {judge: rate["events"] for judge, rate in rates.items()} == {
        "gpt4": 1, "human:1": 1, "human:2": 2, "human:final": 2, "string match": 2,
    }  # fmt: skip
    assert (rates["gpt4"]["rate"]["n"], rates["gpt4"]["rate"]["unparsed"]) == (2, 1)
    worst = {row["judge"]: row["worst_category"] for row in found["over_refusal"]}
    assert (worst["human:final"], worst["string match"]) == ("homonyms", "definitions")  # 2 of 2; 1 of 1 before 1 of 2
    restricted = {row["judge"]: row["overall"]["events"] for row in found["refused_restricted"]}
    assert (restricted["human:final"], restricted["gpt4"]) == (1, 0)


def test_what_is_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('[{"a": 1}]')
    for form in ("alpaca-eval", "pandalm", "xstest"):
        with pytest.raises(DataError, match=f"not of the format {form}|no verdicts"):
            tables(tmp_path / "x.json", form)
    with pytest.raises(DataError, match="no such format"):
        tables(tmp_path / "x.json", "mt-bench")
    with pytest.raises(DataError, match="no such file"):
        read_published(tmp_path / "absent.json", "xstest")


def test_all_71_official_rows_follow_from_verdict_records(real_data: Path) -> None:
    folder, checked = real_data / "alpaca_eval", 0
    for kind in ("weighted", "gpt4"):
        with gzip.open(folder / f"verdicts_{kind}.json.gz", "rt", encoding="utf-8") as file:
            raw = json.load(file)
        with (folder / f"official_{kind}.csv").open(encoding="utf-8") as file:
            for published in csv.DictReader(file):
                model, data = published[""], raw[published[""]]
                records = [
                    preferred(preference, prompt_id=str(i), cluster=str(i), model=model, criterion="helpfulness",
                              judge="gpt4", answer_hash=f"a{i}", baseline="base", baseline_hash=f"b{i}")
                    for i, preference in zip(data["index"], data["preference"], strict=True)
                ]  # fmt: skip
                (row,) = leaderboard_rows(records)
                for name in ("win_rate", "standard_error", "discrete_win_rate"):
                    assert row[name] == pytest.approx(float(published[name]), abs=1e-6), (model, name)
                assert row["n_total"] == int(published["n_total"])
                checked += 1
    assert checked == 71


def test_pandalm_as_published(real_data: Path) -> None:
    options: dict[str, Any] = {"baseline": "llama-7b", "ratings": True, "draws": 50}
    found = tables(real_data / "pandalm" / "testset-v1.json", "pandalm", **options)
    (agreed,) = found["agreement"]
    assert [round(pair["cohen_kappa"]["value"], 2) for pair in agreed["pairs"]] == [0.85, 0.88, 0.86]
    assert len(found["ratings"]) == 3
    for table in found["ratings"]:
        assert list(table["ratings"]) == ["llama-7b", "pythia-6.9b", "bloom-7b", "opt-7b", "cerebras-gpt-6.7B"]
        assert (table["tie_model"], table["regularised"]) == ("Davidson", False)


def test_xstest_as_published(real_data: Path) -> None:
    """Refused of 250 safe prompts: counted from the file by hand; each model's kappas differ from the pooled ones."""
    found = tables(real_data / "xstest" / "labels.csv", "xstest")
    refused = {(row["model"], row["judge"]): row["overall"]["events"] for row in found["over_refusal"]}
    assert (refused["llama2orig", "human:final"], refused["mistralinstruct", "human:final"]) == (149, 4)
    both = [*found["over_refusal"], *found["refused_restricted"]]
    assert all(len(row["categories"]) in (8, 10) for row in both)
    unread = {row["judge"]: 0 for row in both}
    for row in both:
        unread[row["judge"]] += row["overall"]["rate"]["unparsed"]
    assert unread == {"gpt4": 11, "human:1": 0, "human:2": 0, "human:final": 0, "string match": 0}
    (agreed,) = found["agreement"]
    kappas = {(pair["first"], pair["second"]): round(pair["cohen_kappa"]["value"], 4) for pair in agreed["pairs"]}
    assert kappas["human:1", "human:2"] == 0.9473
    assert kappas["human:final", "string match"] == 0.6711
    assert kappas["gpt4", "human:final"] == 0.5577
    # Of one model alone: the same kappa from the file's columns.
    with (real_data / "xstest" / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "llama2orig"]
    expected = cohen_kappa([row["final_label"] for row in rows], [row["strmatch_label"] for row in rows])
    by_model = {table["model"]: table for table in found["agreement_by_model"]}
    assert len(by_model) == len({row["model"] for row in both})
    alone = {(pair["first"], pair["second"]): pair["cohen_kappa"] for pair in by_model["llama2orig"]["pairs"]}
    assert alone["human:final", "string match"]["value"] == pytest.approx(expected.value)
    assert "answers of llama2orig" in render_stats({"sets": [found]})
