"""A bank of samples, and pairs, that a language model rates: counted before, killed, resumed, never paid twice."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from judging.endpoint import Endpoint, share, sign_of
from pipeline_toys import RECIPE, stages

from sacpo.data.records import Answer, read_jsonl
from sacpo.pipeline.run import plan, run
from sacpo.pipeline.sizes import judgings
from sacpo.pipeline.stages.optimum import Optimum
from sacpo.recipe import parse_recipe

PROMPTS, SAMPLES, REPEATS = 3, 4, 2
MINE = "name: mine\ncriterion: worth\nkind: rating\nscale: [0, 4]\ntask: What is the answer worth?\n"
JUDGES = ("helpfulness", "worth")
RESAMPLE = {"judge": "worth", "samples": SAMPLES, "keep": 2, "max_new_tokens": 24, "least_ess": 1.0}


def rated_at(url: str, folder: Path, **step: Any) -> dict[str, Any]:
    """A recipe of one step whose samples a user's rubric rates, at an address."""
    (folder / "mine.yaml").write_text(MINE)
    data = copy.deepcopy({key: RECIPE[key] for key in ("name", "world", "base")})
    data["base"]["config"] |= {"intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    data["data"] = {
        "asked": {"format": "world", "split": "pairs", "limit": PROMPTS},
        "shown": {"format": "world", "split": "sft", "limit": 32, "as": "demonstrations"},
    }
    data["sft"] = {"dataset": "shown", "max_length": 64, "training": {"max_steps": 40, "learning_rate": 0.03}}
    rwr = {"algorithm": "rwr", "dataset": "asked", "resample": RESAMPLE}
    own = {"name": "D", "criterion": "joint", "beta": 1.0, "max_length": 64, "training": {"max_steps": 1}}
    data["steps"] = [{**own, **(step or rwr)}]
    model = {"model": "m", "base_url": url, "api_key_env": "", "structured": False, "rereads": 0}
    judge = {"kind": "llm", "rubric": str(folder / "mine.yaml"), "panel": model, "repeats": REPEATS, "concurrency": 1}
    data["evaluate"] = {"judges": {"worth": judge}}
    return data


def shown(body: dict[str, Any]) -> str:
    """The answer's text and whatever stands before it."""
    return str(body["messages"][1]["content"])


def worth(text: str) -> float | None:
    """What the judge says of what it is shown; of one text in five, two scores at once."""
    return None if share("unread", text) < 0.2 else round(4 * share("worth", text), 2)


def judging(body: dict[str, Any], attempt: int) -> str:
    value = worth(shown(body))
    return "Score: 1\nScore: 3" if value is None else f"It is short.\nVERDICT {sign_of(body)}: {value}"


@pytest.mark.slow
def test_a_killed_bank_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    """The process dies at the 9th request, before its reply: that one is asked again, no other."""
    code = (
        "import sys; from pathlib import Path; from test_rated_bank import *\n"
        "run(parse_recipe(rated_at(sys.argv[1], Path(sys.argv[2]))), runs=Path(sys.argv[2]) / 'runs', preflight=False)"
    )
    child: list[subprocess.Popen[bytes]] = []

    def deadly(body: dict[str, Any], attempt: int) -> str:
        if len(server.bodies) == 9 and child:
            child.pop().send_signal(signal.SIGKILL)
        return judging(body, attempt)

    with Endpoint(deadly) as server:
        recipe = parse_recipe(rated_at(server.url, tmp_path))
        planned = judgings(recipe, plan(recipe, runs=tmp_path / "runs"))
        assert [(one.criterion, one.requests) for one in planned] == [("worth", PROMPTS * SAMPLES * REPEATS)]
        places = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        arguments = [sys.executable, "-c", code, server.url, str(tmp_path)]
        child.append(subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL))
        assert child[0].wait(100) == -signal.SIGKILL
        done = run(recipe, runs=tmp_path / "runs", preflight=False)
        again = judgings(recipe, plan(recipe, runs=tmp_path / "runs"))
        bodies = [json.dumps(body) for body in server.bodies]
    place = done.folder / "stages"
    answers = read_jsonl(place / "samples/D/answers.jsonl", Answer)
    texts = {(answer.prompt.id, answer.text) for answer in answers if not answer.truncated}
    assert (len(bodies), again[0].requests) == (len(texts) * REPEATS + 1, 0)
    assert bodies.count(bodies[8]) == 1 + REPEATS
    scores = json.loads((place / "bank/D/scores.json").read_text())["scores"]["worth"]
    said = {text: worth(text) for text in map(shown, server.bodies)}
    for answer, score in zip(answers, scores, strict=True):
        if answer.truncated:  # no use in paying for it
            assert score is None
            continue
        (own,) = {value for text, value in said.items() if f"\n{answer.text}\n<<<END ANSWER" in text}
        assert score == own
    report = json.loads((place / "resampled/D/report.json").read_text())["weights"]
    cut = sum(answer.truncated for answer in answers)
    assert report["answers_not_scored"] == sum(
        s is None and not a.truncated for a, s in zip(answers, scores, strict=True)
    )
    assert (report["truncated"], len(answers)) == (cut, PROMPTS * SAMPLES)


def test_ratings_label_pairs_and_one_that_could_not_be_read_drops_its_pair(tmp_path: Path) -> None:
    """p = sigmoid(2 (s1 - s2)) of the better answer; repeats of a judge at temperature 0 say the same."""
    dataset = {"prompts": "asked", "judge": "worth", "labels": "soft", "score_scale": 2.0, "max_new_tokens": 6}
    with Endpoint(judging) as server:
        data = rated_at(server.url, tmp_path, dataset=dataset)
        del data["sft"], data["data"]["shown"]
        data["data"]["asked"]["limit"] = 8
        recipe = parse_recipe(data)
        assert [one.requests for one in judgings(recipe, plan(recipe, runs=tmp_path / "runs"))] == [8 * 2 * REPEATS]
        done = run(recipe, runs=tmp_path / "runs", preflight=False)
        said = {text: worth(text) for text in map(shown, server.bodies)}
        assert len(server.bodies) == 8 * 2 * REPEATS
    rows = [json.loads(line) for line in (done.folder / "stages/pairs/D/train.jsonl").read_text().splitlines()]

    def score(text: str) -> float | None:
        (own,) = {value for asked, value in said.items() if f"\n{text}\n<<<END ANSWER" in asked}
        return own

    for row in rows:
        chosen, rejected = score(row["chosen"]), score(row["rejected"])
        assert chosen is not None and rejected is not None and chosen > rejected
        assert row["p"] == pytest.approx(1 / (1 + math.exp(2 * (rejected - chosen))))
    dropped = json.loads((done.folder / "stages/pairs/D/report.json").read_text())["dropped"]
    assert (dropped["not scored"] > 0, len(rows) + dropped["not scored"]) == (True, 8)


def test_theory_asks_no_language_model_about_its_samples() -> None:
    rated = "evaluate.judges.worth={kind: llm, rubric: helpfulness-rating, panel: {model: m}}"
    own = {"criterion": "helpfulness", "algorithm": "rwr", "beta": 1, "from": "sft", "dataset": "asked"}
    steps = [*RECIPE["steps"], *({"name": j[0].upper() + "D", **own, "resample": {"judge": j}} for j in JUDGES)]
    (theory,) = (stage for stage in stages(rated, steps=steps) if isinstance(stage, Optimum))
    assert [*theory.resampled] == ["HD"]
