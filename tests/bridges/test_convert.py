"""Answers and verdicts in the forms of other tools, and back."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path

import pytest

from sacpo.api import convert
from sacpo.data.answers import read_answers
from sacpo.data.records import Answer, Kind, Message, Outcome, Prompt, Verdict, text_hash, write_jsonl
from sacpo.errors import DataError, RecipeError, UserError
from sacpo.judging.llm.store import Store

ROOT = Path(__file__).parents[2]


def answer(i: int, model: str = "ours", **fields: object) -> Answer:
    prompt = Prompt(
        (Message("user", f"Why {i}?"),), id=f"p{i}", category="cooking", kind=Kind.ORDINARY, cluster=f"p{i}"
    )
    return Answer(prompt, model, f"Because {i}.", **fields)  # type: ignore[arg-type]


def test_answers_go_to_alpaca_eval_and_back(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "answers.jsonl", [answer(1), answer(2)])
    outputs = convert(tmp_path / "answers.jsonl", tmp_path / "outputs.json", to="alpaca-eval")
    rows = json.loads(outputs.read_text())
    assert rows[1] == {"instruction": "Why 2?", "output": "Because 2.", "generator": "ours", "dataset": "cooking"}
    back = read_answers(convert(outputs, tmp_path / "back.jsonl", to="answers"))
    assert [(one.prompt.text, one.text, one.model) for one in back] == [
        ("Why 1?", "Because 1.", "ours"),
        ("Why 2?", "Because 2.", "ours"),
    ]


def verdicts() -> list[Verdict]:
    def of(i: int, **fields: object) -> Verdict:
        return Verdict(f"p{i}", f"p{i}", "ours", answer_hash=text_hash(f"Because {i}."), **fields)  # type: ignore[arg-type]

    pairwise = {"criterion": "helpfulness", "judge": "j", "baseline": "sft"}
    return [
        of(1, **pairwise, order="ab", outcome=Outcome.WIN),
        of(1, **pairwise, order="ba", outcome=Outcome.TIE),
        of(2, **pairwise, order="ab", outcome=Outcome.LOSS),
        of(2, **pairwise, order="ba", outcome=Outcome.UNPARSED, reason="truncated"),
        of(1, criterion="safety", judge="j", label="unsafe"),
        of(2, criterion="safety", judge="j", label="safe"),
        of(2, criterion="harmlessness", judge="cost", score=-1.5),
    ]


def test_verdicts_go_to_inspects_log(tmp_path: Path) -> None:
    """Read back by Inspect: values, what was not read, and the mean over what was."""
    log = pytest.importorskip("inspect_ai.log")
    write_jsonl(tmp_path / "answers.jsonl", [answer(1), answer(2)])
    write_jsonl(tmp_path / "verdicts.jsonl", verdicts())
    for name in ("log.json", "log.eval"):
        found = log.read_eval_log(str(convert(tmp_path, tmp_path / name, to="inspect")))
        assert (found.status, found.eval.model, found.eval.dataset.samples) == ("success", "ours", 2)
        first, second = found.samples
        assert first.input[0].content == "Why 1?" and first.output.completion == "Because 1."
        assert first.scores["helpfulness/j/ab"].value == 1.0 and first.scores["helpfulness/j/ba"].value == 0.5
        assert first.scores["safety/j"].value == "unsafe" and second.scores["harmlessness/cost"].value == -1.5
        assert math.isnan(second.scores["helpfulness/j/ba"].value)
        assert second.scores["helpfulness/j/ba"].explanation == "unparsed: truncated"
        scores = {score.name: score for score in found.results.scores}
        assert scores["helpfulness/j/ab"].metrics["mean"].value == 0.5
        unread = scores["helpfulness/j/ba"]
        assert (unread.metrics["mean"].value, unread.scored_samples, unread.unscored_samples) == (0.5, 1, 1)
        assert scores["safety/j"].metrics["unsafe"].value == 0.5


def test_labels_of_people_go_to_inspects_log_too(tmp_path: Path) -> None:
    """From a store alone, and from a judged folder whose store has them."""
    log = pytest.importorskip("inspect_ai.log")
    write_jsonl(tmp_path / "answers.jsonl", [answer(1), answer(2)])
    write_jsonl(tmp_path / "verdicts.jsonl", verdicts())
    label = Verdict(
        "p1", "p1", "ours", "helpfulness", "human:ada", text_hash("Because 1."), baseline="sft", outcome=Outcome.LOSS
    )
    with Store(tmp_path / "verdicts.sqlite") as store:
        store.put("a", label)
    found = log.read_eval_log(str(convert(tmp_path, tmp_path / "folder.json", to="inspect")))
    assert found.samples[0].scores["helpfulness/human:ada"].value == 0.0
    assert found.samples[0].scores["helpfulness/j/ab"].value == 1.0
    out = convert(tmp_path / "verdicts.sqlite", tmp_path / "store.json", to="inspect")
    assert [*log.read_eval_log(str(out)).samples[0].scores] == ["helpfulness/human:ada"]


def test_inspects_version_is_the_one_that_was_tried() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["inspect"] == ["inspect-ai>=0.3.285,<0.4"]
    package = pytest.importorskip("inspect_ai")
    assert tuple(map(int, package.__version__.split(".")[:3])) >= (0, 3, 285)


def test_what_a_form_has_no_place_for_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "answers.jsonl", [answer(1), answer(1, sample=1)])
    write_jsonl(tmp_path / "two.jsonl", [answer(1), answer(1, model="theirs")])
    talk = Prompt((Message("user", "a"), Message("assistant", "b"), Message("user", "c")), id="t", cluster="t")
    write_jsonl(tmp_path / "talk.jsonl", [Answer(talk, "ours", "d")])
    (tmp_path / "verdicts.jsonl").touch()
    cases: list[tuple[str, dict[str, object], type[UserError], str]] = [
        ("answers.jsonl", {"to": "alpaca-eval"}, DataError, "one answer to an instruction"),
        ("talk.jsonl", {"to": "alpaca-eval"}, DataError, "is a conversation"),
        ("two.jsonl", {"to": "answers"}, DataError, "several models"),
        ("two.jsonl", {"to": "answers", "model": "x"}, DataError, "no such model"),
        ("two.jsonl", {"to": "other"}, RecipeError, "no such form"),
        ("two.jsonl", {"to": "answers", "answers": "x"}, RecipeError, "belongs to verdicts"),
        ("none.jsonl", {"to": "answers"}, DataError, "no such file of answers"),
        ("two.jsonl", {"to": "inspect"}, RecipeError, "ends in .eval or .json"),
        ("", {"to": "inspect", "out": "log.json"}, DataError, "there are no verdicts"),
        ("none", {"to": "inspect", "out": "log.json"}, DataError, "no verdicts here"),
        ("two.jsonl", {"to": "answers", "out": "talk.jsonl"}, RecipeError, "is there already"),
    ]
    for source, options, kind, words in cases:
        out = tmp_path / str(options.pop("out", "out.jsonl"))
        with pytest.raises(kind, match=words):
            convert(tmp_path / source, out, **options)  # type: ignore[arg-type]


def test_a_verdict_on_another_answer_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai.log")
    write_jsonl(tmp_path / "answers.jsonl", [answer(1), answer(3)])
    write_jsonl(tmp_path / "verdicts.jsonl", verdicts())
    with pytest.raises(DataError, match="a verdict is on an answer that is not among these"):
        convert(tmp_path, tmp_path / "log.json", to="inspect")
