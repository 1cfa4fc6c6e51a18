"""Judging files into a folder: what is written, that it resumes, and what is refused."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from endpoint import Endpoint, honest, judge, questions, sign_of

from sacpo.data.records import Answer, Verdict, read_jsonl, write_jsonl
from sacpo.errors import DataError, RunError
from sacpo.judging import Asking, Budget, judge_files, load_rubric

NOTHING: dict[str, Any] = {"metrics": {}, "categories": {}, "outcomes": {}, "judges": {}}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    asked = questions(12)
    write_jsonl(tmp_path / "own.jsonl", [question.answer for question in asked])
    write_jsonl(tmp_path / "base.jsonl", [question.baseline for question in asked if question.baseline])
    return tmp_path / "own.jsonl", tmp_path / "base.jsonl", tmp_path / "out"


def script(body: dict[str, Any], attempt: int) -> str:
    if "self_harm" in body["messages"][1]["content"]:
        return f"VERDICT {sign_of(body)}: " + ("unsafe; self_harm" if "task 3" in str(body) else "safe")
    return honest(body, attempt)


def test_a_folder_holds_store_verdicts_and_measures_and_resumes_for_nothing(files: tuple[Path, Path, Path]) -> None:
    rubrics = [load_rubric("helpfulness"), load_rubric("safety")]
    with Endpoint(script) as server:
        result = judge_files(*files, [judge(server.url)], rubrics)
        assert len(server.bodies) == 24 + 12
        out = files[2]
        first = {path.name: path.read_bytes() for path in (out / "verdicts.jsonl", out / "judging.json")}
        assert json.loads((out / "measures.json").read_text()) == result["measures"]
        again = judge_files(*files, [judge(server.url)], rubrics)
        assert len(server.bodies) == 36
    assert (out / "verdicts.jsonl").read_bytes() == first["verdicts.jsonl"]
    assert json.loads(first["judging.json"]) == result
    assert again["measures"] == result["measures"]
    assert len(read_jsonl(out / "verdicts.jsonl", Verdict)) == 36
    wins = result["measures"]["m"]["metrics"]["win_rate/helpfulness"]
    assert (wins["n"], result["complete"], result["missing"]) == (12, True, [])
    assert result["summary"]["reliability"][0]["flip_rate"]["value"] == 0
    assert (read_jsonl(out / "answers.jsonl", Answer)[0], len(read_jsonl(out / "baseline.jsonl", Answer))) == (
        questions(12)[0].answer,
        12,
    )
    assert result["categories"] == {"j": {"self_harm": 1}}
    assert result["usage"]["j"]["requests"] == 36
    assert "about" in result["estimates"][0]


def test_a_run_that_was_stopped_says_what_is_missing_and_counts_no_prompt_in_one_order(
    files: tuple[Path, Path, Path],
) -> None:
    with Endpoint(script) as server:
        panel = [judge(server.url)]
        one = judge_files(*files, panel, asking=Asking(budget=Budget(max_requests=1)))
        assert (len(one["missing"]), one["complete"], one["measures"]) == (
            23,
            False,
            {"m": NOTHING},
        )  # only order ab of one prompt
        three = judge_files(*files, panel, asking=Asking(budget=Budget(max_requests=2), concurrency=1))
        wins = three["measures"]["m"]["metrics"]["win_rate/helpfulness"]
        assert (wins["n"], wins["unparsed"], len(three["missing"])) == (1, 1, 21)
        assert not (files[2] / "measures.json").exists()  # figures of a part are no figures
        assert judge_files(*files, panel)["complete"]
        assert (files[2] / "measures.json").exists()


def test_labels_need_no_baseline(files: tuple[Path, Path, Path]) -> None:
    with Endpoint(script) as server:
        result = judge_files(files[0], None, files[2], [judge(server.url, "safety")])
    assert "win_rate/safety" not in result["measures"]["m"]["metrics"]
    assert result["complete"]


def test_files_that_do_not_fit_are_refused_before_anything_is_paid(files: tuple[Path, Path, Path]) -> None:
    own, base, out = files
    panel = [judge("http://localhost:1/v1")]
    with pytest.raises(DataError, match="no such file"):
        judge_files(own.with_name("absent"), base, out, panel)
    asked = questions(12)
    write_jsonl(base, [question.baseline for question in asked[:-2] if question.baseline])
    with pytest.raises(DataError, match="no answer to 2 of 12"):
        judge_files(own, base, out, panel)
    write_jsonl(own, [asked[0].answer, replace(asked[1].answer, model="other")])
    with pytest.raises(DataError, match="one model"):
        judge_files(own, base, out, panel)
    write_jsonl(own, [asked[0].answer, replace(asked[0].answer, text="twice")])
    with pytest.raises(DataError, match="two different answers"):
        judge_files(own, base, out, panel)


def test_two_processes_do_not_judge_into_one_folder(files: tuple[Path, Path, Path]) -> None:
    files[2].mkdir()
    with (files[2] / ".lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process"):
            judge_files(*files, [judge("http://localhost:1/v1")])


def test_the_package_needs_no_torch() -> None:
    code = "import sys, sacpo.judging; print([m for m in ('torch', 'transformers', 'openai') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
