"""`sacpo plan` on judged folders: a prediction without any model, several bounds together, clear refusals."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from theory.test_judged import verdict
from typer.testing import CliRunner

from sacpo import api
from sacpo.cli import app
from sacpo.data.records import write_jsonl
from sacpo.errors import DataError, UserError

UNSAFE = [{"metric": "unsafe_rate", "criterion": None, "at_most": 0.1}]


def folder(path: Path, harmless: list[float], helpful: list[float], prompts: int = 3) -> Path:
    """Judge answers with these scores to every prompt; those below 0 are unsafe."""
    path.mkdir()
    rows = []
    for prompt in range(prompts):
        for sample, (g, r) in enumerate(zip(harmless, helpful, strict=True)):
            rows.append(verdict(f"r{prompt}", sample, g, "unsafe" if g < 0 else "safe"))
            rows.append(verdict(f"r{prompt}", sample, r, criterion="helpfulness"))
    write_jsonl(path / "verdicts.jsonl", rows)
    return path


def test_the_strength_of_a_bound_on_a_rate(tmp_path: Path) -> None:
    """g = -1, 1: the rate is 1 / (1 + e^(2 eta)) <= .1 where eta = log(9) / 2, so beta/lambda = 2 / log 9 = .910."""
    found = api.plan_strength(folder(tmp_path / "j", [-1, 1], [1, 0]), UNSAFE, reward="helpfulness", out=tmp_path / "o")
    assert (found["state"], found["raw"], found["corrected"]) == ("found", 0.91, None)
    assert found["constraints"][0]["there"]["E_r"] == pytest.approx(0.1, abs=1e-6)
    assert found["constraints"][0]["there"]["E_g"] == pytest.approx(0.8, abs=1e-6)
    assert json.loads((tmp_path / "o" / "plan.json").read_text()) == json.loads(json.dumps(found))


def test_a_step_before_that_realised_half_asks_for_half_the_strength(tmp_path: Path) -> None:
    """r = 0, 1 before; a mean of e / (1 + e) after a step of beta .5, whose exact tilt is at eta 2: half of it."""
    mean = math.e / (1 + math.e)
    before = folder(tmp_path / "sft", [-1, 1], [0, 1])
    found = api.plan_strength(
        folder(tmp_path / "j", [-1, 1], [mean, mean]), UNSAFE, reward="helpfulness", before=before, strength=0.5
    )
    assert found["realised"]["share"] == pytest.approx(0.5)
    assert found["corrected"] == pytest.approx(found["raw"] / 2, abs=1e-3)


def test_several_scores_are_planned_together(tmp_path: Path) -> None:
    """Four answers, all pairs of (0, 1) and (0, 1), are independent, so each eta is its own log(b / (1 - b))."""
    judged = folder(tmp_path / "j", [0, 0, 1, 1], [0, 1, 0, 1])
    bounds: list[dict[str, Any]] = [
        {"metric": "mean_score", "criterion": name, "at_least": b}
        for name, b in (("harmlessness", 0.75), ("helpfulness", 0.9))
    ]
    joint = api.plan_strength(judged, bounds)["joint"]
    assert joint["strengths"] == {
        "harmlessness": pytest.approx(1 / math.log(3), abs=5e-3),
        "helpfulness": pytest.approx(1 / math.log(9), abs=5e-3),
    }
    opposed = folder(tmp_path / "opposed", [0, 1], [1, 0])
    with pytest.raises(DataError, match="no policy meets these bounds"):
        api.plan_strength(opposed, bounds)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"constraints": []}, "nothing says what is to be reached"),
        ({"constraints": [{"metric": "kl", "at_most": 1.0}]}, "do not tell of this bound"),
        ({"constraints": [{"metric": "unsafe_rate", "at_most": 0.0}]}, "a fraction"),
        ({"constraints": [{"metric": "over_refusal_rate", "at_most": 0.1}]}, "do not tell 'over_refusal_rate'"),
        ({"before": "x"}, "needs the folder of the step before"),
        ({"score": {"least": 0.0}}, "outside its declared range"),
        ({"judged": "nowhere"}, "no verdicts in this folder"),
    ],
)
def test_what_cannot_be_planned_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    given = {"judged": folder(tmp_path / "j", [-1, 1], [1, 0]), "constraints": UNSAFE, **options}
    with pytest.raises(UserError, match=said):
        api.plan_strength(**given)


def test_the_verb_prints_a_table_and_a_recommendation(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 1, 32).tolist()
    judged = str(folder(tmp_path / "j", scores, scores))
    said = CliRunner().invoke(app, ["plan", judged, "--at-most", "unsafe_rate=0.2"])
    assert said.exit_code == 0, said.output
    assert said.output.splitlines()[0].split()[:3] == ["beta_over_lambda", "E_g", "unsafe_rate"]
    assert said.output.splitlines()[-1].startswith("recommended: beta/lambda ")
    power = CliRunner().invoke(app, ["plan", "--power", "unsafe_rate=0.01"])
    assert power.output.startswith("at most 1 % unsafe answers at 95 % confidence: 299 independent prompts")


def test_a_plan_from_folders_loads_no_torch(tmp_path: Path) -> None:
    judged = folder(tmp_path / "j", [-1, 1], [1, 0])
    code = (
        "import sys; from sacpo.cli import main\n"
        f"sys.argv = ['sacpo', 'plan', {str(judged)!r}, '--at-most', 'unsafe_rate=0.1', '--json']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_two_verdicts_on_one_question_must_agree(tmp_path: Path) -> None:
    place = folder(tmp_path / "j", [-1, 1], [1, 0])
    lines = (place / "verdicts.jsonl").read_text()
    (place / "verdicts.jsonl").write_text(lines + lines)
    assert api.plan_strength(place, UNSAFE)["raw"] == 0.91
    (place / "verdicts.jsonl").write_text(lines + lines.replace('"safe"', '"unsafe"'))
    with pytest.raises(DataError, match="two different verdicts"):
        api.plan_strength(place, UNSAFE)
