"""Audits of preference sets: planted faults are found and counted, honest sets show none, no text is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sacpo.audit import audit_preferences
from sacpo.audit.findings import preference_findings
from sacpo.audit.published import PUBLISHED
from sacpo.cli.command_line import app
from sacpo.errors import DataError, RecipeError

DATA = os.environ.get("SACPO_DATA")
SECRET = "xyzzy"
Rows = list[dict[str, Any]]


def pku(
    prompt: str, better: int = 0, safer: int = 0, safe: tuple[bool, bool] = (True, True), **more: Any
) -> dict[str, Any]:
    return {
        "prompt": f"{prompt} {SECRET}",
        "response_0": f"the first answer to {prompt}",
        "response_1": f"quite another and longer reply about {prompt}, with more words",
        "is_response_0_safe": safe[0],
        "is_response_1_safe": safe[1],
        "better_response_id": better,
        "safer_response_id": safer,
        **more,
    }


def write(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def audited(path: Path, rows: Rows, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = audit_preferences([write(path, rows)], **options)["files"][0]
    return found


def test_safety_is_counted_in_four_kinds_and_compared_with_the_published_counts(tmp_path: Path) -> None:
    safe = [(True, True)] * 3 + [(True, False)] + [(False, True)] * 2 + [(False, False)] * 4
    rows = [pku(f"question {i} of ten", safer=int(both == (False, True)), safe=both) for i, both in enumerate(safe)]
    found = audited(tmp_path / "x.jsonl", rows, against="pku-saferlhf-train")
    assert found["safety"] == {"both safe": 3, "only 0 safe": 1, "only 1 safe": 2, "both unsafe": 4}
    assert found["faults"] == []
    mixed = next(row for row in found["published"] if row["count"] == "one of the two safe")
    assert (mixed["here"], mixed["published"], mixed["same"]) == (3, 10_813, False)


def test_the_tables_say_why_rows_were_left_out(tmp_path: Path) -> None:
    """Two of three dialogues part before their last turn."""

    def chat(*texts: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, texts, strict=False)]

    kept = {"chosen": chat("q", "a"), "rejected": chat("q", "b")}
    parted = {"chosen": chat("q", "a", "r", "b"), "rejected": chat("q", "c", "r", "d")}
    rows = write(tmp_path / "x.jsonl", [kept, parted, parted])
    done = CliRunner().invoke(app, ["data", "audit", rows])
    assert done.exit_code == 0, done.output
    told = [line.split("  ") for line in done.output.split("Why rows were left out\n")[1].splitlines()[:2]]
    assert [cell.strip() for cell in told[1] if cell] == ["x.jsonl", "the two dialogues do not share their prompt", "2"]


def test_the_published_counts_add_up() -> None:
    counts = dict(PUBLISHED["pku-saferlhf-train"])
    assert counts.pop("rows") == sum(counts.values()) == 73_907


def test_faults_of_the_schema_are_counted_and_the_others_read(tmp_path: Path) -> None:
    rows = [
        pku("a good row about bees"),
        pku("the safer id is wrong here", safer=1, safe=(True, False)),
        pku("and wrong there", safer=0, safe=(False, True)),
        pku("an id that is none", better=2),
        {key: value for key, value in pku("a column is missing").items() if key != "safer_response_id"},
        pku("safe but severe", response_0_severity_level=2, response_0_harm_category={"theft": False}),
    ]
    found = audited(tmp_path / "x.jsonl", rows)
    faults = {fault["what"]: (fault["rows"], fault["first"]) for fault in found["faults"]}
    assert faults["the safer id is not the safe answer"] == (2, ["2", "3"])
    assert faults["a safe answer with a category of harm or a severity"] == (1, ["6"])
    assert faults["bad label in 'better_response_id', field 'better_response_id'"] == (1, ["4"])
    assert sum(n for n, _ in faults.values()) == 5
    assert (found["rows"], found["pairs"]) == (6, 4)


def test_one_pair_both_ways_and_circles_of_three_are_contradictions(tmp_path: Path) -> None:
    """A > B and B > A of one prompt; A > B > C > A of another; D > E twice is only a repetition."""
    said = [
        ("p", "A", "B"),
        ("p", "B", "A"),
        ("q", "A", "B"),
        ("q", "B", "C"),
        ("q", "C", "A"),
        ("r", "D", "E"),
        ("r", "D", "E"),
    ]
    rows = [{"prompt": f"prompt {p}", "chosen": f"text {a}", "rejected": f"text {b}"} for p, a, b in said]
    found = audited(tmp_path / "x.jsonl", rows)
    assert found["conflicts"] == [{"criterion": "preference", "repeated": 2, "both_ways": 1, "circles": 1}]
    assert found["duplicates"]["rows"] == 2


def test_biases_are_shares_of_the_pairs_that_differ(tmp_path: Path) -> None:
    """Of four pairs the longer one wins three; in one a refusal loses; one is of equal lengths; one is a tie."""
    long, short = "a much longer answer with many words in it", "a short one"
    refusal = "I'm sorry, but I can't help with that request at all."
    rows = [
        {"prompt": "prompt one", "chosen": long, "rejected": short},
        {"prompt": "prompt two", "chosen": long, "rejected": short + " too"},
        {"prompt": "prompt three", "chosen": short, "rejected": refusal},
        {"prompt": "prompt four", "chosen": long + " indeed", "rejected": short},
        {"prompt": "prompt five", "chosen": "same length here", "rejected": "length same there"},
        {"prompt": "prompt six", "chosen": long, "rejected": short, "p": 0.5},
    ]
    (bias,) = audited(tmp_path / "x.jsonl", rows)["bias"]
    assert (bias["pairs"], bias["ties"]) == (6, 1)
    assert (bias["longer"]["value"], bias["longer"]["n"]) == (0.75, 4)
    assert (bias["refusal"]["value"], bias["refusal"]["n"]) == (0.0, 1)
    assert bias["first"]["n"] == bias["safe"]["n"] == 0


def test_the_second_place_and_the_unsafe_answer_can_be_preferred(tmp_path: Path) -> None:
    rows = [pku(f"question {i} of eight", better=int(i < 6), safe=(True, False)) for i in range(8)]
    found = audited(tmp_path / "x.jsonl", rows)
    helpful = next(bias for bias in found["bias"] if bias["criterion"] == "helpfulness")
    assert helpful["first"]["value"] == helpful["safe"]["value"] == 0.25
    assert found["disagreeing"]["value"] == 0.75


def test_prompts_that_two_files_share_are_leaks(tmp_path: Path) -> None:
    first = [pku("How do I keep a hive of bees through a long winter?"), pku("What is rye?")]
    second = [
        pku("how do I keep a hive of  bees through a long winter?"),
        pku("How do I keep a hive of bees through the long winter?"),
        pku("Else"),
    ]
    (leak,) = audit_preferences([write(tmp_path / "a.jsonl", first), write(tmp_path / "b.jsonl", second)])["leakage"]
    assert leak == {"first": "a.jsonl", "second": "b.jsonl", "prompts": 3, "same": 1, "near": 1}


def test_what_stands_out_is_said_in_sentences(tmp_path: Path) -> None:
    """60 pairs in which the longer answer wins, one of them both ways round; a prompt of the other file; a bad row."""
    long, short = "a much longer answer with many words in it", "a short one"
    one = [{"prompt": f"prompt number {i} of sixty", "chosen": long, "rejected": short} for i in range(60)]
    one.append({"prompt": "prompt number 7 of sixty", "chosen": short, "rejected": long})
    one.append({"prompt": "no answers", "chosen": "x", "rejected": 3})
    other = [{"prompt": "prompt number 7 of sixty", "chosen": long, "rejected": short}]
    found = audit_preferences([write(tmp_path / "a.jsonl", one), write(tmp_path / "b.jsonl", other)])
    assert preference_findings(found) == [
        ("a.jsonl", "1 rows: 'rejected' is not a text, field 'rejected'"),
        ("a.jsonl", "1 of 1 labelled again are preferred both ways round (preference)"),
        ("a.jsonl", "2% of the rows repeat another one"),
        ("a.jsonl", "the longer answer is preferred in 98% of 61 pairs that differ in it (preference)"),
        ("b.jsonl", "1 of 1 prompts are in a.jsonl too, 0 of them nearly"),
    ]
    assert preference_findings(audit_preferences([str(tmp_path / "b.jsonl")])) == []


def test_labels_of_single_answers_are_audited_too(tmp_path: Path) -> None:
    rows = [
        {"prompt": "one", "completion": "yes", "label": True},
        {"prompt": "one", "completion": "yes", "label": False},
    ]
    found = audited(tmp_path / "x.jsonl", rows)
    assert found["conflicts"] == [{"criterion": "label", "repeated": 1, "both_ways": 1, "circles": 0}]
    assert (found["labelled"], found["pairs"]) == (2, 0)


def test_no_text_of_the_data_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [pku("one"), pku("two", better=7), pku("one")])
    for options in ([], ["--markdown"], ["--json"]):
        done = CliRunner().invoke(app, ["data", "audit", path, *options])
        assert done.exit_code == 0, done.output
        assert SECRET not in done.output and "answer to" not in done.output
    assert json.loads(CliRunner().invoke(app, ["data", "audit", path, "--json"]).stdout.splitlines()[-1])["files"]


def test_bad_input_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [pku("one")])
    with pytest.raises(RecipeError, match="did you mean 'pku-saferlhf-train'"):
        audit_preferences([path], against="pku-saferlhf-trian")
    with pytest.raises(RecipeError, match="similarity is out of its range"):
        audit_preferences([path], near=0)
    with pytest.raises(RecipeError, match="two files have one name"):
        audit_preferences([path, path])
    with pytest.raises(DataError, match="no such file"):
        audit_preferences([str(tmp_path / "y.jsonl")])
    with pytest.raises(DataError, match="a local file has no split"):
        audit_preferences([path], split="train")
    with pytest.raises(DataError, match="no row holds a preference"):
        audit_preferences([write(tmp_path / "p.jsonl", [{"prompt": "only a prompt"}])], format=None)
    with pytest.raises(DataError, match="no row holds a preference"):
        audit_preferences([write(tmp_path / "q.jsonl", [pku("one", better=5)])])


@pytest.mark.skipif(not DATA, reason="SACPO_DATA names no folder with real data")
def test_the_dual_labels_of_pku_saferlhf() -> None:
    """In 19 of 32 rows the two preferences disagree; counts made by hand of the file."""
    found = audit_preferences([f"{DATA}/pku_saferlhf/dual_labels_32.jsonl"])["files"][0]
    assert found["disagreeing"]["value"] == 19 / 32
    assert found["safety"] == {"both safe": 11, "only 0 safe": 3, "only 1 safe": 2, "both unsafe": 16}
    assert found["faults"] == []


@pytest.mark.skipif(not DATA, reason="SACPO_DATA names no folder with real data")
def test_the_safety_pairs_of_pku_saferlhf_contradict_themselves() -> None:
    """The test split: 559 rows, 108 prompts, 4 pairs of answers called safe and unsafe both ways round."""
    path = f"{DATA}/pku_saferlhf/safety_pairs_test.jsonl"
    found = audit_preferences([path], format="pku-safe-rlhf")["files"][0]
    assert found["safety"]["only 0 safe"] == found["pairs"] == 559
    assert found["coverage"]["prompts"] == 108
    (conflict,) = found["conflicts"]
    votes: dict[tuple[str, frozenset[str]], set[str]] = {}
    for line in Path(path).read_text().splitlines():
        row = json.loads(line)
        votes.setdefault((row["prompt"], frozenset((row["chosen"], row["rejected"]))), set()).add(row["chosen"])
    assert conflict["both_ways"] == sum(len(chosen) == 2 for chosen in votes.values()) == 4
