"""Published files as people have them: packed, from a spreadsheet, with nulls; and verdict files by other hands."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from sacpo.cli.stats import StatsOptions, stats_command
from sacpo.cli.stats.published import read_published
from sacpo.data.records import Answer, Outcome, Prompt
from sacpo.errors import DataError
from sacpo.judging.verdicts import compared_questions

BOM = b"\xef\xbb\xbf"
ALPACA = {"instruction": "Name a tree.", "output_1": "oak", "generator_1": "old", "output_2": "an ash",
          "generator_2": "new", "annotator": "grader", "dataset": "trees", "preference": 2}  # fmt: skip
PANDALM = {"idx": 7, "cmp_key": "new_old", "response1": "a", "response2": "b",
           "annotator1": 1, "annotator2": "2", "annotator3": 0}  # fmt: skip
LLMBAR = {"subset": "Natural", "evaluator": "E", "strategy": "S", "label": [1], "no_swap": ["1"], "swap": [None]}
XSTEST_COLUMNS = ("model", "id", "type", "annotation_1", "annotation_2", "final_label", "gpt4_label", "strmatch_label")
XSTEST = dict(zip(XSTEST_COLUMNS, ("m", "1", "homonyms", *["2_full_refusal"] * 5), strict=True))
ROWS: dict[str, dict[str, Any]] = {"alpaca-eval": ALPACA, "pandalm": PANDALM, "llmbar": LLMBAR, "xstest": XSTEST}


def read(folder: Path, name: str, raw: bytes, form: str) -> list[Any]:
    (folder / name).write_bytes(raw)
    return read_published(folder / name, form)[0]


@pytest.mark.parametrize("form", sorted(ROWS))
def test_one_row_is_the_same_in_every_wrapping(tmp_path: Path, form: str) -> None:
    row = ROWS[form]
    plain = json.dumps([row]).encode()
    lines = json.dumps(row).encode() + b"\r\n"
    expected = read(tmp_path, "a.json", plain, form)
    assert len(expected) == {"alpaca-eval": 1, "pandalm": 3, "llmbar": 3, "xstest": 5}[form]
    for name, raw in {
        "b.json": BOM + plain,
        "c.json.gz": gzip.compress(plain),
        "d.jsonl": lines,
        "e.jsonl.gz": gzip.compress(BOM + lines),
        "f.json": lines,
    }.items():
        assert read(tmp_path, name, raw, form) == expected, name


def test_a_spreadsheets_table_and_a_file_without_suffix(tmp_path: Path) -> None:
    table = (",".join(XSTEST_COLUMNS) + "\r\n" + ",".join(XSTEST.values()) + "\r\n").encode()
    expected = read(tmp_path, "a.json", json.dumps([XSTEST]).encode(), "xstest")
    assert read(tmp_path, "b.csv", BOM + table, "xstest") == expected
    assert read(tmp_path, "labels", gzip.compress(table), "xstest") == expected
    with pytest.raises(DataError, match="separated by something else"):
        read(tmp_path, "c.csv", table.replace(b",", b";"), "xstest")


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_no_preference_is_unparsed_whether_null_or_nan(tmp_path: Path, nothing: float | None) -> None:
    (verdict,) = read(tmp_path, "a.json", json.dumps([{**ALPACA, "preference": nothing}]).encode(), "alpaca-eval")
    assert (verdict.outcome, verdict.probability) == (Outcome.UNPARSED, None)


def test_null_filled_keys_are_absent_keys(tmp_path: Path) -> None:
    bare = {name: value for name, value in ALPACA.items() if name not in ("annotator", "dataset")}
    raw = [json.dumps([row]).encode() for row in (bare, {**bare, "annotator": None, "dataset": None})]
    first, second = (read(tmp_path, f"{i}.json", given, "alpaca-eval") for i, given in enumerate(raw))
    assert first == second
    assert (first[0].judge, first[0].category) == ("annotator", "")


@pytest.mark.parametrize(
    ("form", "change", "field"),
    [
        ("alpaca-eval", {"output_2": None}, "output_2"),
        ("alpaca-eval", {"instruction": float("nan")}, "instruction"),
        ("alpaca-eval", {"preference": 0.5}, "preference"),
        ("alpaca-eval", {"preference": "good"}, "preference"),
        ("alpaca-eval", {"generator_2": 3}, "generator_2"),
        ("pandalm", {"annotator2": 4}, "annotator2"),
        ("pandalm", {"annotator2": None}, "annotator2"),
        ("pandalm", {"cmp_key": "alone"}, "cmp_key"),
        ("pandalm", {"response1": None}, "response1"),
        ("llmbar", {"swap": "1"}, "swap"),
        ("llmbar", {"swap": ["1", "2"]}, "swap"),
        ("xstest", {"type": None}, "type"),
    ],
)
def test_a_bad_value_is_named_by_row_and_field(tmp_path: Path, form: str, change: dict[str, Any], field: str) -> None:
    rows = [ROWS[form], {**ROWS[form], **change}]
    raw = "\n".join(map(json.dumps, rows)).encode()
    with pytest.raises(DataError, match=f"not of the format {form}") as caught:
        read(tmp_path, "a.jsonl", raw, form)
    assert "line 2" in str(caught.value.where)
    assert field in str(caught.value.where)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("form", sorted(ROWS))
def test_rows_in_an_envelope_and_other_files_are_refused_in_few_words(tmp_path: Path, form: str) -> None:
    for raw in (
        json.dumps({"data": [ROWS[form]] * 400, "more": 1}).encode(),
        b"[1, 2]",
        b'{"data": [',
        b"\xff\xfe",
        b"",
    ):
        with pytest.raises(DataError) as caught:
            read(tmp_path, "a.json", raw, form)
        assert len(str(caught.value)) < 800
    with pytest.raises(DataError, match="broken gzip"):
        read(tmp_path, "a.json.gz", gzip.compress(b"[]")[:-9], form)
    with pytest.raises(DataError, match="folder"):
        read_published(tmp_path, form)


def row(i: int | str, **fields: Any) -> dict[str, Any]:
    return {"prompt_id": i, "cluster": i, "model": "new", "baseline": "old", "criterion": "help", "judge": "j",
            "answer_hash": f"n{i}", "baseline_hash": f"o{i}", "outcome": "win", **fields}  # fmt: skip


def win_rate(path: Path) -> tuple[float, int]:
    (found,) = stats_command([path], StatsOptions())["sets"]
    (only,) = found["win_rates"]
    return only["win_rate"]["value"], only["win_rate"]["n"]


def test_verdict_files_by_other_hands(tmp_path: Path) -> None:
    """Ids 1 and "1" are one prompt: won in order ab, lost in ba, so half; prompt 2 is won: 1.5 of 2."""
    rows = [row(1, order="ab"), row("1", order="ba", outcome="loss"), row(2, order="ab"), row(2, order="ba")]
    rows[0]["score"] = None
    plain = "\n".join(map(json.dumps, rows)).encode()
    wrappings = {"a.jsonl": plain, "b.jsonl": BOM + plain, "c.jsonl.gz": gzip.compress(plain), "verdicts": plain,
                 "d.json": json.dumps(rows).encode()}  # fmt: skip
    for name, raw in wrappings.items():
        (tmp_path / name).write_bytes(raw)
        assert win_rate(tmp_path / name) == (0.75, 2), name
    (tmp_path / "e.jsonl").write_text("\n".join(json.dumps({**r, "judge": 7}) for r in rows))
    (found,) = stats_command([tmp_path / "a.jsonl", tmp_path / "e.jsonl"], StatsOptions())["sets"]
    assert [r["judge"] for r in found["win_rates"]] == ["7", "j"]
    assert found["agreement"][0]["pairs"][0]["agreement"]["n"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_id": None}, {"model": ["new"]}, {"model": "\ud800"}, {"score": "high"}, {"score": float("nan")},
        {"score": 10**400}, {"probability": True}, {"repeat": -1}, {"sample": 1.5}, {"outcome": "won"}, {"kind": "odd"},
        {"label": 3}, {"verdict": "win"},
    ],
)  # fmt: skip
def test_a_verdict_that_is_none_is_named_by_its_line(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, [row(1), row(2, **change)])))
    with pytest.raises(DataError, match="not a record of the kind Verdict") as caught:
        stats_command([tmp_path / "v.jsonl"], StatsOptions())
    assert "line 2" in str(caught.value.where)


def test_prompts_that_the_baseline_lacks_are_named_by_their_text() -> None:
    asked = [Prompt.from_text("Why is the\n sky blue?"), Prompt.from_text("Tell me " + "a long story " * 20)]
    own = [Answer(prompt, "new", "x") for prompt in asked]
    with pytest.raises(DataError) as caught:
        compared_questions(own, [Answer(Prompt.from_text("Hm?"), "old", "y")])
    where = str(caught.value.where)
    assert "'Why is the sky blue?'" in where
    assert "…'" in where and len(where) < 250
