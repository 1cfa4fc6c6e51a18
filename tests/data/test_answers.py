"""Files of answers: our own records and the forms that other tools write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sacpo.data.answers import read_answers
from sacpo.data.records import Answer, Kind, Prompt, write_jsonl
from sacpo.errors import DataError


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text)
    return path


def test_our_own_records_come_back_whole_from_a_file_or_its_folder(tmp_path: Path) -> None:
    prompt = Prompt.from_text("how ?", kind=Kind.RESTRICTED, category="c", meta={"task": 3})
    answers = [Answer(prompt, "m", "so .", n_tokens=3, sample=1, tokens=(1, 2, 3))]
    write_jsonl(tmp_path / "answers.jsonl", answers)
    assert read_answers(tmp_path) == read_answers(tmp_path / "answers.jsonl") == answers
    assert read_answers(tmp_path)[0].prompt.meta == {"task": 3}
    assert [a.model for a in read_answers(tmp_path, model="other")] == ["other"]
    assert read_answers(tmp_path, kind="borderline")[0].prompt.kind is Kind.RESTRICTED  # the file says what it is


FORMS: dict[str, tuple[str, dict[str, Any], str]] = {
    "AlpacaEval": ("a.json", {"instruction": "how ?", "output": "so .", "generator": "g", "dataset": "koala"}, "g"),
    "prompt and completion": ("mine.jsonl", {"prompt": "how ?", "completion": "so ."}, "mine"),
    "prompt and response": ("mine.jsonl", {"prompt": "how ?", "response": "so .", "model": "r"}, "r"),
    "question and answer": ("answers.jsonl", {"question": "how ?", "answer": "so ."}, "FOLDER"),
    "messages": (
        "x.jsonl",
        {"prompt": [{"role": "user", "content": "how ?"}], "completion": [{"role": "assistant", "content": "so ."}]},
        "x",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_other_tools_write_is_read(form: str, tmp_path: Path) -> None:
    name, row, model = FORMS[form]
    (answer,) = read_answers(written(tmp_path / name, [row]))
    assert answer.prompt.id == Prompt.from_text("how ?").id  # so that files of two forms meet
    assert (answer.text, answer.sample, answer.n_tokens) == ("so .", 0, 0)
    assert answer.model == (tmp_path.name if model == "FOLDER" else model)
    assert answer.prompt.category == row.get("dataset", "")


def test_alpacas_input_stands_below_its_instruction(tmp_path: Path) -> None:
    rows = [{"instruction": "add", "input": "1 2", "output": "3"}, {"instruction": "add", "input": "", "output": "?"}]
    first, second = read_answers(written(tmp_path / "m.jsonl", rows))
    assert (first.prompt.text, second.prompt.text) == ("add\n\n1 2", "add")


def test_a_prompts_second_answer_is_its_second_sample_and_an_empty_answer_is_one(tmp_path: Path) -> None:
    rows = [{"prompt": p, "output": t} for p, t in (("a", "1"), ("b", ""), ("a", "2"))]
    found = read_answers(written(tmp_path / "m.jsonl", rows), kind="borderline")
    assert [(a.prompt.text, a.sample, a.text, a.prompt.kind) for a in found] == [
        ("a", 0, "1", "borderline"),
        ("b", 0, "", "borderline"),
        ("a", 1, "2", "borderline"),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "a", "text": "b"}], r"no answer to a prompt(?s:.)*m.jsonl, line 1"),
        ([{"prompt": "a", "output": "b"}, {"output": "b"}], r"m.jsonl, line 2"),
        ([{"prompt": "a", "output": 3}], "'output' is not a text"),
        ([{"prompt": "", "output": "b"}], "'prompt' is empty"),
        ([{"prompt": "a", "output": "b", "kind": "nice"}], "unknown kind of prompt"),
        ([{"prompt": "a", "output": "b", "model": m} for m in "xy"], "holds one model's"),
        ([{"prompt": {"messages": [{"role": "user"}]}, "model": "m", "text": "b"}], "not a record of the kind Answer"),
    ],
)
def test_rows_that_are_no_answers_are_named(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_answers(written(tmp_path / "m.jsonl", rows))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file of answers"):
        read_answers(tmp_path)


def test_answers_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They had two log-probs that nothing ever filled."""
    answer = Answer(Prompt.from_text("q?"), "m", "a", n_tokens=2)
    (tmp_path / "answers.jsonl").write_text(json.dumps({**answer.to_json(), "logp": None, "base_logp": None}) + "\n")
    assert read_answers(tmp_path) == [answer]
