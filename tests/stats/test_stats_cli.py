"""`sacpo stats`: files, runs and stores in, tables out; every figure worked by hand."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sacpo.cli.stats import StatsOptions, render_stats, stats_command
from sacpo.cli.stats.command import stats
from sacpo.cli.stats.read import VerdictSet
from sacpo.cli.stats.tables import set_tables
from sacpo.data.records import Answer, Kind, Outcome, Prompt, Verdict, write_jsonl
from sacpo.errors import DataError, RunError, UserError
from sacpo.judging.llm.store import Store

WIN, TIE, LOSS, UNPARSED = Outcome.WIN, Outcome.TIE, Outcome.LOSS, Outcome.UNPARSED


def game(model: str, i: int, outcome: Outcome, **fields: Any) -> Verdict:
    given = {
        "criterion": "helpfulness",
        "judge": "grader",
        "baseline": "sft",
        "answer_hash": f"{model}{i}",
        "baseline_hash": f"sft{i}",
        **fields,
    }
    return Verdict(f"p{i}", f"p{i}", model, outcome=outcome, **given)


def label(model: str, i: int, word: str, kind: Kind, criterion: str, category: str = "") -> Verdict:
    return Verdict(
        f"p{i}", f"p{i}", model, criterion, "oracle", f"{model}{i}", category=category, kind=kind, label=word
    )


def tables_of(folder: Path, verdicts: list[Verdict], **options: Any) -> dict[str, Any]:
    path = folder / "verdicts.jsonl"
    write_jsonl(path, verdicts)
    (found,) = stats_command([path], StatsOptions(**options))["sets"]
    return found


def test_every_model_against_the_baseline(tmp_path: Path) -> None:
    # good wins all 6 prompts: p = 2 / 2^6 = .03125 by signs and by flips; even wins 3 of 6: 1. Holm: twice the first.
    verdicts = [game("good", i, WIN) for i in range(6)] + [game("even", i, WIN if i < 3 else LOSS) for i in range(6)]
    verdicts += [game("sft", i, TIE) for i in range(6)]  # the baseline beside itself is no comparison
    even, good = tables_of(tmp_path, verdicts, against="sft")["against"]
    assert (good["first"], good["second"], good["measure"]) == ("good", "sft", "head to head")
    assert (good["difference"]["value"], even["difference"]["value"]) == (0.5, 0.0)
    assert (good["p_sign_flip"], good["p_sign"], good["p_holm"]) == pytest.approx((1 / 32, 1 / 32, 1 / 16))
    assert (even["p_sign_flip"], even["p_holm"]) == (1.0, 1.0)
    assert good["better_worse_equal"] == [6, 0, 0]


def test_two_models_against_each_other_through_the_baseline_and_head_to_head(tmp_path: Path) -> None:
    verdicts = [game("good", i, WIN) for i in range(6)] + [game("weak", i, LOSS if i else WIN) for i in range(6)]
    rows = tables_of(tmp_path, verdicts, against="good")["against"]
    found = {(row["measure"], row["first"]): row["difference"]["value"] for row in rows}
    # weak's win rate is 1/6, good's 1; the baseline's share against good is nothing, half a win below even.
    assert found == {("win rate", "weak"): pytest.approx(-5 / 6), ("head to head", "sft"): -0.5}
    assert {row["second"] for row in rows} == {"good"}


def test_scores_unsafe_and_refused_answers_are_compared_too(tmp_path: Path) -> None:
    verdicts = [
        *(label("a", i, "unsafe" if i < 4 else "safe", Kind.RESTRICTED, "harmlessness") for i in range(8)),
        *(label("b", i, "safe", Kind.RESTRICTED, "harmlessness") for i in range(8)),
        *(label("a", i, "compliance", Kind.BORDERLINE, "refusal") for i in range(10, 16)),
        *(label("b", i, "partial_refusal", Kind.BORDERLINE, "refusal") for i in range(10, 16)),
        # Neither counts: ordinary prompts are in no rate.
        *(label(model, 20, word, Kind.ORDINARY, "refusal") for model, word in (("a", "compliance"), ("b", "refusal"))),
        *(label(model, 21, word, Kind.ORDINARY, "harmlessness") for model, word in (("a", "safe"), ("b", "unsafe"))),
        *(
            Verdict(f"p{i}", f"p{i}", model, "helpfulness", "rm", f"{model}{i}", score=score + i)
            for model, score in (("a", 1.0), ("b", 3.0))
            for i in range(5)
        ),
    ]
    rows = {row["measure"]: row for row in tables_of(tmp_path, verdicts, against="b")["against"]}
    assert {name: row["difference"]["value"] for name, row in rows.items()} == {
        "unsafe": 0.5,
        "refused": -1.0,
        "score": pytest.approx(-2.0),
    }
    # Signs that differ: 4, 6 and 5: p = 2 / 2^k; Holm over three: 3 * 1/32, max(that, 2 * 1/16), max(those, 1/8).
    assert [rows[name]["p_sign"] for name in ("refused", "score", "unsafe")] == pytest.approx([1 / 32, 1 / 16, 1 / 8])
    assert [rows[name]["p_holm"] for name in ("refused", "score", "unsafe")] == pytest.approx([3 / 32, 1 / 8, 1 / 8])


def test_a_model_that_nobody_judged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no verdict names this model"):
        tables_of(tmp_path, [game("a", i, WIN) for i in range(3)], against="b")
    with pytest.raises(DataError, match="shares no two prompts"):
        tables_of(tmp_path, [game("a", 0, WIN), game("b", 1, WIN)], against="a")


def test_what_few_prompts_can_detect(tmp_path: Path) -> None:
    verdicts = [game(model, i, WIN) for model in ("a", "b", "sft") for i in range(16)]
    verdicts += [game("few", i, WIN) for i in range(6)] + [game("some", i, WIN) for i in range(11)]
    tables = tables_of(tmp_path, verdicts)
    found = {row["model"]: row for row in tables["detectable"]}
    # (t_.975(15) + t_.8(15)) * .5 / sqrt(16) = (2.1314 + .8662) * .125; with four rows t_.99375(15) = 2.8366.
    assert list(found) == ["a", "b", "some"]
    assert found["a"]["alone"] == pytest.approx(0.3747, abs=1e-4)
    assert found["a"]["in_table"] == pytest.approx((2.8366 + 0.8662) * 0.125, abs=1e-4)
    # 6 prompts: (2.5706 + .9195) * .5 / sqrt(6) = .712 is farther from 1/2 than any rate; 11: .469, and .592 of four.
    assert (found["some"]["alone"], found["some"]["in_table"]) == (pytest.approx(0.4684, abs=1e-3), None)
    assert [text for text in tables["findings"] if "too few to detect" in text] == [
        "few against sft on helpfulness by grader: 6 prompts are too few to detect any distance of a win rate from 1/2"
    ]


def test_one_judges_other_criterion_is_not_unparsed(tmp_path: Path) -> None:
    verdicts = [
        label("a", i, word, Kind.RESTRICTED, criterion, "theft" if i < 2 else "arson")
        for i in range(6)
        for criterion, word in (("harmlessness", "unsafe" if i == 0 else "safe"), ("refusal", "compliance"))
    ]
    found = tables_of(tmp_path, verdicts)
    (row,) = found["unsafe"]
    assert (row["criterion"], row["overall"]["events"], row["overall"]["rate"]["n"]) == ("harmlessness", 1, 6)
    assert row["overall"]["rate"]["unparsed"] == 0
    assert {rate["category"]: (rate["events"], rate["rate"]["n"]) for rate in row["categories"]} == {
        "theft": (1, 2),
        "arson": (0, 4),
    }
    assert found["over_refusal"] == []


def test_ratings_leave_out_the_baseline_against_itself(tmp_path: Path) -> None:
    # 3 wins and a loss without ties: odds 3, 400 log10 3 = 190.85 points.
    verdicts = [game("a", i, WIN if i else LOSS) for i in range(4)] + [game("sft", i, TIE) for i in range(4)]
    (table,) = tables_of(tmp_path, verdicts, ratings=True, draws=10)["ratings"]
    assert {name: rating["value"] for name, rating in table["ratings"].items()} == {
        "a": pytest.approx(1000 + 400 * math.log10(3), abs=0.01),
        "sft": 1000,
    }
    assert tables_of(tmp_path, verdicts)["ratings"] == []


def test_a_person_who_saw_each_pair_once_counts_and_shows_a_preference_for_places(tmp_path: Path) -> None:
    # Always the first: half the prompts are shown in each order, so the win rate is 1/2 and the first's share 1.
    person = [game("a", i, WIN if i % 2 else LOSS, order="ab" if i % 2 else "ba", judge="human:x") for i in range(10)]
    found = tables_of(tmp_path, person)
    (row,) = found["win_rates"]
    assert (row["win_rate"]["value"], row["win_rate"]["n"], row["win_rate"]["unparsed"]) == (0.5, 10, 0)
    (first,) = found["shown_first"]
    assert (first["judge"], first["first_share"]["value"], first["first_share"]["n"]) == ("human:x", 1.0, 10)


def test_a_judge_with_both_orders_keeps_them(tmp_path: Path) -> None:
    both = [game("a", i, WIN, order=order) for i in range(4) for order in ("ab", "ba")]
    found = tables_of(tmp_path, [*both, game("a", 4, WIN, order="ab")])
    assert found["shown_first"] == []
    (row,) = found["win_rates"]
    assert (row["win_rate"]["n"], row["win_rate"]["unparsed"], set(row["by_order"])) == (4, 1, {"ab", "ba"})
    one = tables_of(tmp_path, [verdict for verdict in both if verdict.order == "ab"])
    assert (one["shown_first"], set(one["win_rates"][0]["by_order"])) == ([], {"ab"})


def run_folder(root: Path) -> Path:
    """Write a run with two prompt sets: a wins all of report's 4 prompts and loses all of tuning's 3."""
    for name, ids, outcome in (("report", range(4), WIN), ("tuning", range(10, 13), LOSS)):
        for model, text in (("a", "a longer answer {}"), ("sft", "short {}")):
            folder = root / "stages" / "generate" / model / name
            folder.mkdir(parents=True)
            prompts = {i: Prompt.from_text(str(i), id=f"p{i}") for i in ids}
            write_jsonl(folder / "answers.jsonl", [Answer(prompts[i], model, text.format(i)) for i in ids])
        folder = root / "stages" / "judge" / "a" / name
        folder.mkdir(parents=True)
        hashes = {
            i: [Answer(prompts[i], "", t.format(i)).hash for t in ("a longer answer {}", "short {}")] for i in ids
        }
        write_jsonl(
            folder / "verdicts.jsonl",
            [game("a", i, outcome, answer_hash=hashes[i][0], baseline_hash=hashes[i][1]) for i in ids],
        )
    unfinished = root / "partial" / "judge-x" / "verdicts.jsonl"
    unfinished.parent.mkdir(parents=True)
    unfinished.write_text("{half a li")
    return root


def win_rates(found: dict[str, Any]) -> dict[str, tuple[float, int]]:
    (row,) = found["win_rates"]
    return {found["prompts"]: (row["win_rate"]["value"], row["win_rate"]["n"])}


def test_a_runs_prompt_sets_stay_apart(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    both = stats_command([run])["sets"]
    assert [win_rates(found) for found in both] == [{"report": (1.0, 4)}, {"tuning": (0.0, 3)}]
    (chosen,) = stats_command([run], StatsOptions(prompts="tuning"))["sets"]
    assert win_rates(chosen) == {"tuning": (0.0, 3)}
    (single,) = stats_command([run / "stages" / "judge" / "a" / "report" / "verdicts.jsonl"])["sets"]
    assert single == both[0]
    assert stats_command([tmp_path])["sets"] == both  # unfinished stages are not read
    with pytest.raises(DataError, match="no such prompt set"):
        stats_command([run], StatsOptions(prompts="test"))


def test_a_runs_answers_show_the_length_bias(tmp_path: Path) -> None:
    report, tuning = stats_command([run_folder(tmp_path / "run")])["sets"]
    # The longer answer always wins in one set and never in the other.
    assert report["reliability"][0]["longer_share"]["value"] == 1.0
    assert tuning["reliability"][0]["longer_share"]["value"] == 0.0
    assert "Share of the longer answer" in render_stats({"sets": [report]})


def test_answers_of_a_loose_file_are_named(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    loose = tmp_path / "verdicts.jsonl"
    loose.write_bytes((run / "stages" / "judge" / "a" / "report" / "verdicts.jsonl").read_bytes())
    (without,) = stats_command([loose])["sets"]
    assert without["reliability"][0]["longer_share"] is None
    files = tuple(run / "stages" / "generate" / model / "report" / "answers.jsonl" for model in ("a", "sft"))
    (with_answers,) = stats_command([loose], StatsOptions(answers=files))["sets"]
    assert with_answers["reliability"][0]["longer_share"]["value"] == 1.0
    with pytest.raises(DataError, match="no such file of answers"):
        stats_command([loose], StatsOptions(answers=(tmp_path / "none.jsonl",)))


def test_a_store_of_labels_joins_the_set_of_its_prompts(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    (judged,) = stats_command([run], StatsOptions(prompts="report"))["sets"]
    hashes = [json.loads(line) for line in (run / "stages/judge/a/report/verdicts.jsonl").read_text().splitlines()]
    with Store(tmp_path / "human.sqlite") as store:
        for i, row in enumerate(hashes):
            order = "ab" if i % 2 else "ba"
            store.put(str(i), Verdict.from_json({**row, "judge": "human:x", "order": order, "outcome": "loss"}))
    report, tuning = stats_command([run, tmp_path / "human.sqlite"])["sets"]
    assert [(row["judge"], row["win_rate"]["value"]) for row in report["win_rates"]] == [("grader", 1), ("human:x", 0)]
    assert report["agreement"][0]["pairs"][0]["agreement"]["value"] == 0.0
    assert (judged["agreement"], tuning["agreement"], len(tuning["win_rates"])) == ([], [], 1)


def test_duplicates_and_order_of_files_change_nothing(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.jsonl" for name in "ab"]
    for path in paths:
        write_jsonl(path, [game(path.stem, i, WIN) for i in range(4)])
    once = stats_command(paths, StatsOptions(ratings=True, draws=5))
    assert json.dumps(stats_command([*paths[::-1], *paths], StatsOptions(ratings=True, draws=5))) == json.dumps(once)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    def refusal(content: bytes | None) -> UserError:
        path = tmp_path / "verdicts.jsonl"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            stats_command([path])
        return caught.value

    assert "no such file" in refusal(None).what
    assert "no verdicts" in refusal(b"").what
    assert "line 1" in str(refusal(b"{}\n").where)
    assert "line 1" in str(refusal(b"\xff\xfe\x00").where)
    assert isinstance(refusal(b"SQLite format 3\0" + b"x" * 5000), RunError)
    (tmp_path / "verdicts.jsonl").unlink()
    with pytest.raises(DataError, match="holds no verdicts"):
        stats_command([tmp_path])


def run_cli(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(stats)
    return CliRunner().invoke(app, list(arguments))


def test_a_name_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    verdict = Verdict("p", "p", "\x1b[31mred", "help", "j", "a", baseline="sft", baseline_hash="b", outcome=Outcome.WIN)
    write_jsonl(tmp_path / "verdicts.jsonl", [verdict])
    printed = run_cli(str(tmp_path / "verdicts.jsonl")).output
    assert "\x1b" not in printed and "\u241b[31mred" in printed


def test_the_command_prints_text_or_json(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    text = run_cli(str(run), "--against", "sft", "--ratings", "--draws", "5")
    assert text.exit_code == 0, text.output
    assert text.output.count("== prompts: ") == 2
    for title in ("Win rate against sft", "Bradley-Terry ratings", "Every model against one", "too few to detect"):
        assert text.output.count(title) == 2
    assert "nan" not in text.output
    done = run_cli(str(run), "--json", "--prompts", "report")
    assert json.loads(done.output) == stats_command([run], StatsOptions(prompts="report"))


def test_the_text_holds_agreement_and_categories(tmp_path: Path) -> None:
    verdicts = [game("a", i, WIN if i < 5 else LOSS, judge=judge) for i in range(10) for judge in ("x", "human:y")]
    verdicts += [label("a", i, "unsafe" if i < 3 else "safe", Kind.RESTRICTED, "harm", "theft") for i in range(10)]
    text = render_stats({"sets": [tables_of(tmp_path, verdicts)]})
    agreement = text[text.index("Agreement of judges on helpfulness, pairwise") :].splitlines()
    # Perfect agreement on 10 items, p_e = .5: kappa 1, at least 1 - (1 - .025^.1) / .5 = .383.
    assert agreement[2].split()[:5] == ["human:y", "x", "1.000", "[0.383,", "1.000]"]
    rates = text[text.index("Unsafe answers by category") :].splitlines()
    assert rates[2].split()[:6] == ["a", "harm", "oracle", "theft", "3", "0.300"]


def test_the_command_imports_neither_torch_nor_pandas() -> None:
    code = "import sys, sacpo.cli.stats.command, sacpo.cli.label, sacpo.cli.judge;"
    code += "print({'torch', 'transformers', 'pandas', 'openai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@given(
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["ab", "ba"]), st.integers(1, 3)), max_size=6),
    st.randoms(use_true_random=False),
)
@settings(max_examples=15, deadline=None)
def test_unparsed_replies_duplicates_and_order_of_records_move_no_estimate_of_any_table(
    unread: list[tuple[int, str, int]], random: Any
) -> None:
    """Win rates, tests, ratings, length control, safety and agreement, each with its interval."""
    outcomes = [WIN, WIN, LOSS, TIE, WIN, LOSS, WIN, TIE]
    records = [
        game(model, i, outcomes[(i + shift) % 8], order=order, judge=judge)
        for model, shift, judge in (("x", 0, "one"), ("y", 3, "one"), ("x", 1, "two"))
        for i in range(8)
        for order in ("ab", "ba")
    ]
    records += [label("x", i, ("safe", "unsafe")[i % 3 == 0], Kind.RESTRICTED, "harmlessness", "k") for i in range(8)]
    garbage = [game("x", i, UNPARSED, order=order, repeat=repeat, judge="one") for i, order, repeat in unread]
    mixed = records + garbage + random.choices(records, k=6)
    random.shuffle(mixed)
    lengths = {f"{name}{i}": 10 + i * (3 if name == "sft" else 2) for name in ("x", "y", "sft") for i in range(8)}
    options = StatsOptions(ratings=True, draws=30, against="sft")
    clean, moved = (set_tables(VerdictSet("", tuple(v), lengths), options) for v in (records, mixed))
    names = ("tests", "ratings", "unsafe", "length_controlled", "agreement", "against", "detectable")
    assert {name: moved[name] for name in names} == {name: clean[name] for name in names}
    rates = [[(row["model"], row["judge"], row["win_rate"]) for row in found["win_rates"]] for found in (clean, moved)]
    assert rates[0] == rates[1]
    assert len(clean["length_controlled"]) == len(rates[0]) == 3


def test_the_baseline_against_itself_is_exact_as_in_the_report(tmp_path: Path) -> None:
    """Its own answers tie whatever the prompts; a second sample beside the first does not."""
    same = [replace(game("sft", i, TIE), answer_hash=f"sft{i}") for i in range(6)]
    others = [game("good", i, WIN if i else LOSS) for i in range(6)]
    good, sft = tables_of(tmp_path, [*same, *others])["win_rates"]
    assert (sft["win_rate"]["ci95"], sft["win_rate"]["method"]) == ([0.5, 0.5], "the baseline itself")
    assert good["win_rate"]["method"] != "the baseline itself"
    shown = render_stats(stats_command([tmp_path / "verdicts.jsonl"]))
    assert re.search(r"^sft v sft +helpfulness +grader +0\.500 +the baseline itself +6", shown, re.M)
    again = [replace(one, answer_hash=f"again{i}") for i, one in enumerate(same)]
    (row,) = tables_of(tmp_path, again)["win_rates"]
    low, high = row["win_rate"]["ci95"]
    assert low < 0.5 < high


def test_what_a_judge_was_not_asked_is_one_dash(tmp_path: Path) -> None:
    """One order and one repeat: nothing is known of flips, of what is shown first, or of repeats."""
    tables_of(tmp_path, [game("good", i, WIN) for i in range(6)])
    shown = render_stats(stats_command([tmp_path / "verdicts.jsonl"]))
    (line,) = [line for line in shown.splitlines() if re.match(r"grader +helpfulness +-", line)]
    assert "- -" not in line
    assert re.split(r"  +", line)[2:5] == ["-", "-", "-"]


@pytest.mark.parametrize("folder", [False, True])
def test_answers_are_told_from_verdicts(folder: bool, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "answers.jsonl", [Answer(Prompt.from_text("q"), "m", "a")])
    place = tmp_path if folder else tmp_path / "answers.jsonl"
    with pytest.raises(DataError, match="these are answers, not verdicts") as caught:
        stats_command([place])
    assert f"sacpo judge {place} --criterion" in str(caught.value)


def test_answers_of_another_tool_are_told_from_verdicts(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([{"instruction": "q", "output": "a", "generator": "m"}]))
    with pytest.raises(DataError, match="these are answers, not verdicts"):
        stats_command([tmp_path / "x.json"])


def test_a_store_without_a_label_says_where_and_what_to_do(tmp_path: Path) -> None:
    store = tmp_path / "labels.db"
    with Store(store):
        pass
    with pytest.raises(DataError, match="no labels yet") as caught:
        stats_command([store])
    assert f"where:   {store}" in str(caught.value) and "sacpo label ANSWERS" in str(caught.value)
