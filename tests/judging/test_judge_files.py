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
from endpoint import Endpoint, asked_settings, honest, judged_folder, questions, sign_of, write_answers

from sacpo import api
from sacpo.data.records import Answer, Verdict, read_jsonl, write_jsonl
from sacpo.errors import DataError, RunError

NOTHING: dict[str, Any] = {"metrics": {}, "categories": {}, "outcomes": {}, "judges": {}}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    return write_answers(tmp_path, questions(12))


def script(body: dict[str, Any], attempt: int) -> str:
    if "self_harm" in body["messages"][1]["content"]:
        return f"VERDICT {sign_of(body)}: " + ("unsafe; self_harm" if "task 3" in str(body) else "safe")
    return honest(body, attempt)


def test_a_folder_holds_store_verdicts_and_measures_and_resumes_for_nothing(files: tuple[Path, Path, Path]) -> None:
    with Endpoint(script) as server:
        result = judged_folder(*files, server.url, "helpfulness", "safety")
        assert len(server.bodies) == 24 + 12
        out = files[2]
        first = {path.name: path.read_bytes() for path in (out / "verdicts.jsonl", out / "judging.json")}
        assert json.loads((out / "measures.json").read_text()) == result["measures"]
        again = judged_folder(*files, server.url, "helpfulness", "safety")
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
        one = judged_folder(*files, server.url, budget={"max_requests": 1})
        assert (len(one["missing"]), one["complete"], one["measures"]) == (
            23,
            False,
            {"m": NOTHING},
        )  # only order ab of one prompt
        three = judged_folder(*files, server.url, budget={"max_requests": 2}, concurrency=1)
        wins = three["measures"]["m"]["metrics"]["win_rate/helpfulness"]
        assert (wins["n"], wins["unparsed"], len(three["missing"])) == (1, 1, 21)
        assert not (files[2] / "measures.json").exists()  # figures of a part are no figures
        assert judged_folder(*files, server.url)["complete"]
        assert (files[2] / "measures.json").exists()


def test_labels_need_no_baseline(files: tuple[Path, Path, Path]) -> None:
    with Endpoint(script) as server:
        result = judged_folder(files[0], None, files[2], server.url, "safety")
    assert "win_rate/safety" not in result["measures"]["m"]["metrics"]
    assert result["complete"]


def test_files_that_do_not_fit_are_refused_before_anything_is_paid(files: tuple[Path, Path, Path]) -> None:
    own, base, out = files
    url = "http://localhost:1/v1"
    with pytest.raises(DataError, match="no such file"):
        judged_folder(own.with_name("absent"), base, out, url)
    asked = questions(12)
    write_jsonl(base, [question.baseline for question in asked[:-2] if question.baseline])
    with pytest.raises(DataError, match="no answer to 2 of 12"):
        judged_folder(own, base, out, url)
    write_jsonl(own, [asked[0].answer, replace(asked[1].answer, model="other")])
    with pytest.raises(DataError, match="one model"):
        judged_folder(own, base, out, url)
    write_jsonl(own, [asked[0].answer, replace(asked[0].answer, text="twice")])
    with pytest.raises(DataError, match="two different answers"):
        judged_folder(own, base, out, url)


def test_two_processes_do_not_judge_into_one_folder(files: tuple[Path, Path, Path]) -> None:
    own, base, out = files
    with Endpoint(script) as server, (out.parent / ".out.lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        panel = asked_settings(server.url)
        with pytest.raises(RunError, match="another process"):
            api.judge(own, out, kind="llm", baseline=base, panel=panel, rubrics=["helpfulness"])
        assert server.bodies == []


def test_a_finished_folder_is_a_stages_and_another_stages_is_left_alone(files: tuple[Path, Path, Path]) -> None:
    """Its key follows the judge; it is finished once no verdict is missing; the growing store is no part of it."""
    own, base, out = files
    keys = []
    with Endpoint(script) as server:
        for rubric, left in (("helpfulness", None), ("harmlessness", 1), ("harmlessness", None)):
            judged_folder(own, base, out, server.url, rubric, budget={"max_requests": left})
            assert (out / "manifest.json").exists() is (left is None)
            if left is None:
                manifest = json.loads((out / "manifest.json").read_text())
                keys.append(manifest["key"])
                assert {*manifest["files"]} == {path.name for path in out.glob("*.json*")} - {"manifest.json"}
        assert len(server.bodies) == 48
        assert len({*keys}) == 2
        api.judge(own, out.with_name("other"), criterion="refusal", kind="refusal")
        panel = asked_settings(server.url)
        with pytest.raises(RunError, match="another stage's result"):
            api.judge(own, out.with_name("other"), kind="llm", baseline=base, panel=panel, rubrics=["helpfulness"])


def test_a_manifest_shows_no_field_that_requests_carry_besides(files: tuple[Path, Path, Path]) -> None:
    own, _, out = files
    with Endpoint(script) as server:
        panel = asked_settings(server.url, extra={"user": "token-4711"})
        api.judge(own, out, kind="llm", panel=panel, rubrics=["safety"])
        assert server.bodies[0]["user"] == "token-4711"
    assert not [path for path in out.iterdir() if b"token-4711" in path.read_bytes()]


def test_the_package_needs_no_torch() -> None:
    code = "import sys, sacpo.judging; print([m for m in ('torch', 'transformers', 'openai') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
