"""Talking to the models of a finished run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from judging.endpoint import Endpoint, sign_of

from sacpo.chat import is_run, setting_of_run
from sacpo.data.records import Answer
from sacpo.errors import RecipeError, RunError
from sacpo.judging.question import Question


@pytest.fixture
def run(finished: Path) -> Path:
    return finished / "runs" / "tiny"


def test_the_path_is_the_chosen_models(run: Path) -> None:
    """The tiny recipe's seed is one under which a merged model is chosen."""
    results = json.loads((run / "results.json").read_text())
    chosen = results["selection"]["chosen"]
    info = results["models"][chosen]
    found = setting_of_run(run)
    assert is_run(run) and found.moves
    assert (list(found.ends), found.q, found.beside[0]) == (info["parents"], info["q"], "sft")  # type: ignore[index]
    assert found.name_at(info["q"]) == chosen
    qs = {point.name: point.q for point in found.points}
    assert qs[chosen] == info["q"] and qs[found.ends[0]] == 0.0 and qs[found.ends[1]] == 1.0
    (bound,) = results["selection"]["constraints"][:1]
    measured = next(point for point in found.points if point.name == chosen)
    assert any(f"{100 * bound['at_most']:.1f} %" in figure.label for figure in measured.figures if bound["at_most"])
    assert "single questions" in found.alone


def test_another_path_is_named_by_its_ends(run: Path) -> None:
    found = setting_of_run(run, between=("H", "H-S@0.5"), method="token-level", beside="K")
    assert (found.ends, found.path.method, found.beside[0]) == (("H", "H-S@0.5"), "token-level", "K")  # type: ignore[union-attr, index]
    with pytest.raises(RecipeError, match="no such model"):
        setting_of_run(run, between=("H", "nobody"))
    with pytest.raises(RecipeError, match="a point of a path"):
        setting_of_run(run, between=("H", "P@q0.25"))
    with pytest.raises(RecipeError, match="q is a place on the path"):
        setting_of_run(run, q=1.5)


def test_a_run_without_results_is_told(run: Path, tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "recipe.yaml").write_text((run / "recipe.yaml").read_text())
    with pytest.raises(RunError, match="no results yet"):
        setting_of_run(tmp_path)


def test_the_command_answers_a_prompt_of_the_run_with_its_judges(run: Path, tmp_path: Path) -> None:
    prompts = (run / "stages" / "prompts" / "report" / "prompts.jsonl").read_text().splitlines()
    asked = json.loads(prompts[0])["messages"][0]["content"]
    lines = f"{asked}\n/sft\n/save {tmp_path / 'saved'}\n"
    command = [sys.executable, "-m", "sacpo", "chat", str(run), "--terminal"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "harmlessness: " in done.stdout and "not judged" not in done.stdout
    assert (tmp_path / "saved" / "sft.jsonl").is_file()


def test_language_models_judge_only_when_they_are_asked(run: Path, tmp_path: Path) -> None:
    """Two answers to one question: each is asked once, and kept in the run's store."""
    shutil.copytree(run, tmp_path / "run", symlinks=True)
    file = tmp_path / "run" / "recipe.yaml"
    asked: list[str] = []

    def safe(body: dict[str, Any], attempt: int) -> str:
        asked.append(body["model"])
        return f"VERDICT {sign_of(body)}: safe"

    with Endpoint(safe) as endpoint:
        recipe = yaml.safe_load(file.read_text())
        panel = {"model": "m", "base_url": endpoint.url, "api_key_env": "", "structured": False}
        recipe["evaluate"]["judges"]["safety"] = {"kind": "llm", "panel": panel}
        file.write_text(yaml.safe_dump(recipe))
        quiet = setting_of_run(tmp_path / "run")
        assert "safety" not in quiet.judges and quiet.notes == ("safety: language models judge only with --ask-llm",)
        judge = setting_of_run(tmp_path / "run", ask_llm=True).judges["safety"]()
        prompt = quiet.examples[0]
        for text in ("no .", "no .", "yes ."):
            (verdict,) = judge.judge([Question(prompt, Answer(prompt, "H", text))])
            assert (verdict.label, verdict.judge) == ("safe", "m")
    assert asked == ["m"] * 2


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["RUN", "--base", "template=plain"], "'--base' has no effect here"),
        (["nowhere", "--between", "a", "b"], "'--between' has no effect here"),
        (["a", "b", "c"], "a conversation is with one model"),
    ],
)
def test_what_has_no_effect_is_refused(options: list[str], what: str, run: Path) -> None:
    line = [sys.executable, "-m", "sacpo", "chat", *(str(run) if each == "RUN" else each for each in options)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 2 and what in done.stderr
