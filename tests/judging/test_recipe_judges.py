"""Recipes that judge by language models, end to end: the store, kills, budgets, keys, panels, plans and the page."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from endpoint import KEY_VARIABLE, Endpoint, Fault, Script, share, sign_of

import sacpo
from sacpo.cli import main
from sacpo.data.records import Answer, Outcome, Verdict, read_jsonl
from sacpo.errors import RunError
from sacpo.judging import Store
from sacpo.pipeline.sizes import judgings
from sacpo.recipe import parse_recipe
from sacpo.recipe.schema import Recipe, WorldSpec
from sacpo.world import World

RECIPE = Path(__file__).with_name("judged.yaml")
PAIRWISE = 2 * 2 * 2 * 6  # two judges, two orders, two repeats, six prompts: of one model and one prompt set
LABELS = 6
EVERYTHING = 2 * PAIRWISE + 2 * 2 * LABELS + 2 * LABELS  # H on both sets; safety of both models; refusal on report
SECRET = "sk-test-4f7d2a91c0ffee"


def scores(text: str) -> tuple[int, int]:
    return 1 + int(9 * share("a", text)), 1 + int(9 * share("b", text))


def judging(body: dict[str, Any], attempt: int) -> str:
    """Scores and labels that follow from what is shown, repeats included, and from nothing else."""
    text = body["messages"][1]["content"]
    if "full_refusal" in text:
        return f"VERDICT {sign_of(body)}: {'full_refusal' if share('r', text) < 0.5 else 'full_compliance'}"
    if "animal_abuse" in text:
        return f"VERDICT {sign_of(body)}: {'unsafe; self_harm' if share('s', text) < 0.5 else 'safe'}"
    return "VERDICT {}: {} {}".format(sign_of(body), *scores(text))


def recipe_at(url: str, pairs: Path, **judges: Any) -> Recipe:
    """The recipe with all judges at this address; keyword arguments change every judge's settings."""
    data = yaml.safe_load(RECIPE.read_text())
    data["data"]["pairs"]["path"] = str(pairs)
    for judge in data["evaluate"]["judges"].values():
        panel = judge["panel"] if isinstance(judge["panel"], list) else [judge["panel"]]
        judge["panel"] = [{**one, "base_url": url, **judges} for one in panel]
    return parse_recipe(data)


def write_pairs(path: Path) -> Path:
    world = World(WorldSpec(seed=0, ordinary=6, restricted=4, borderline=4))
    rows = [
        {"prompt": one.prompt.messages[0].content, "chosen": one.completion, "rejected": "i do not know ."}
        for one in world.demonstrations(8, seed=7)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pairs and a run whose judges said everything."""
    folder = tmp_path_factory.mktemp("judged")
    torch.set_num_threads(1)
    with Endpoint(judging) as server:
        run = sacpo.run(recipe_at(server.url, write_pairs(folder / "pairs.jsonl")), runs=folder / "runs")
        assert len(server.bodies) == EVERYTHING
    assert run.chosen in ("sft", "H")
    return folder


@pytest.fixture
def again(made: Path, undrawn: None, tmp_path: Path) -> Callable[..., Recipe]:
    """Copies the run; at another address its judges were never asked, while answers and models are kept."""
    shutil.copytree(made / "runs", tmp_path / "runs")

    def at(url: str, **judges: Any) -> Recipe:
        return recipe_at(url, made / "pairs.jsonl", **judges)

    return at


def verdicts(runs: Path, model: str, prompts: str) -> list[Verdict]:
    return read_jsonl(runs / "judged" / "stages" / "judge" / model / prompts / "verdicts.jsonl", Verdict)


def results(runs: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((runs / "judged" / "stages" / "report" / "results.json").read_text())
    return found


def test_every_verdict_is_there_and_a_panels_figure_is_the_mean_of_its_judges(made: Path) -> None:
    told = verdicts(made / "runs", "H", "report")
    asked = {(v.criterion, v.judge, v.prompt_id, v.order, v.repeat) for v in told}
    assert (len(asked), len(told)) == (PAIRWISE + 2 * LABELS, PAIRWISE + 2 * LABELS)
    measures = results(made / "runs")["measures"]["H"]["report"]
    own = measures["judges"]["helpfulness"]
    assert [*own] == ["<one>", "two"]
    mean = sum(one["metrics"]["win_rate"]["value"] for one in own.values()) / 2
    assert measures["metrics"]["win_rate/helpfulness"]["value"] == pytest.approx(mean)
    for name, one in own.items():
        by_order = [
            sum({"win": 1.0, "tie": 0.5}.get(str(v.outcome), 0.0) for v in members) / len(members)
            for order in ("ab", "ba")
            if (members := [v for v in told if (v.judge, v.order) == (name, order)])
        ]
        assert [one["by_order"][order]["value"] for order in ("ab", "ba")] == pytest.approx(by_order)
        assert one["metrics"]["win_rate"]["value"] == pytest.approx(sum(by_order) / 2)


def test_labels_feed_the_unsafe_and_the_over_refusal_rate(made: Path) -> None:
    metrics = results(made / "runs")["measures"]["H"]["report"]["metrics"]
    told = verdicts(made / "runs", "H", "report")
    for metric, criterion, kind, bad in (
        ("unsafe_rate", "safety", "restricted", "unsafe"),
        ("over_refusal_rate", "refusal", "borderline", "full_refusal"),
    ):
        labels = [v.label for v in told if v.criterion == criterion and v.kind == kind]
        assert metrics[metric]["value"] == labels.count(bad) / len(labels)


def test_equal_answers_are_ties_that_nobody_was_asked_about(made: Path) -> None:
    own = [v for v in verdicts(made / "runs", "sft", "report") if v.criterion == "helpfulness"]
    assert (len(own), {v.outcome for v in own}) == (PAIRWISE, {Outcome.TIE})
    with Store(made / "runs" / "judged" / "cache" / "verdicts.sqlite") as store:
        assert all(v.answer_hash != v.baseline_hash for v in store.verdicts())
    (one, two, *labels) = results(made / "runs")["reliability"]["report"]
    assert (one["verdicts"], two["verdicts"], [found["kind"] for found in labels]) == (24, 24, ["label", "label"])
    assert (one["repeat_agreement"]["value"], one["unparsed_rate"]["value"]) == (1, 0)


def test_the_page_shows_reliability_and_names_of_judges_as_text(made: Path) -> None:
    page = (made / "runs" / "judged" / "stages" / "report" / "report.html").read_text()
    section = page.split('<h2 id="judges">')[1].split("<h2 id=")[0]
    assert "&lt;one&gt;" in section
    assert "<one>" not in page
    for words in ("flips with the order", "repeats agree", "win rate, adjusted for the order", "worst case to best"):
        assert words in section


def test_a_stage_that_is_done_again_pays_nothing(again: Callable[..., Recipe], tmp_path: Path) -> None:
    with Endpoint(judging) as server:
        first = sacpo.run(again(server.url), runs=tmp_path / "runs")
        assert len(server.bodies) == EVERYTHING
        shutil.rmtree(tmp_path / "runs" / "judged" / "stages" / "judge")
        second = sacpo.run(again(server.url), runs=tmp_path / "runs", start="measure")
        assert len(server.bodies) == EVERYTHING
    assert second.results == first.results


def test_a_changed_answer_is_judged_anew(again: Callable[..., Recipe], tmp_path: Path) -> None:
    """With another number of tokens the answers change: each verdict is what the judge says of the new text."""
    with Endpoint(judging) as server:
        recipe = again(server.url)
        sacpo.run(recipe, runs=tmp_path / "runs")
        generation = recipe.evaluate.generation.model_copy(update={"max_new_tokens": 5})
        evaluate = recipe.evaluate.model_copy(update={"generation": generation})
        sacpo.run(recipe.model_copy(update={"evaluate": evaluate}), runs=tmp_path / "runs")
        asked = [body["messages"][1]["content"] for body in server.bodies]
    answers = read_jsonl(tmp_path / "runs/judged/stages/generate/H/report/answers.jsonl", Answer)
    texts = {answer.prompt.id: answer.text for answer in answers}
    told = [v for v in verdicts(tmp_path / "runs", "H", "report") if v.criterion == "safety"]
    assert len(told) == LABELS
    for verdict in told:
        (shown,) = {t for t in asked if f"\n{texts[verdict.prompt_id]}\n<<<END ANSWER " in t and "animal_abuse" in t}
        assert verdict.label == ("unsafe" if share("s", shown) < 0.5 else "safe")


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_if_nobody_had_killed_it(
    again: Callable[..., Recipe], made: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, sacpo; from pathlib import Path; from test_recipe_judges import recipe_at\n"
        "sacpo.run(recipe_at(sys.argv[1], Path(sys.argv[2])), runs=sys.argv[3])\n"
    )
    child: list[subprocess.Popen[bytes]] = []

    def deadly(body: dict[str, Any], attempt: int) -> str:
        if len(server.bodies) >= 70 and child:
            child.pop().send_signal(signal.SIGKILL)
        return judging(body, attempt)

    folders = [tmp_path / "runs", tmp_path / "other"]
    shutil.copytree(folders[0], folders[1])
    with Endpoint(deadly, latency=0.01) as server:
        recipe = again(server.url)
        paths = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        arguments = [sys.executable, "-c", code, server.url, str(made / "pairs.jsonl"), str(folders[0])]
        process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
        child.append(process)
        assert process.wait(200) == -signal.SIGKILL
        sacpo.run(recipe, runs=folders[0])
        in_flight = len(server.bodies) - EVERYTHING
        assert 0 <= in_flight <= 2 * 16
        sacpo.run(recipe, runs=folders[1])
    assert results(folders[0]) == results(folders[1])


def test_a_spent_budget_stops_the_stage_and_the_same_command_goes_on(
    again: Callable[..., Recipe], tmp_path: Path
) -> None:
    stops = 0
    with Endpoint(judging) as server:
        recipe = again(server.url)
        budget = recipe.evaluate.budget.model_copy(update={"max_requests": 50})
        recipe = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"budget": budget})})
        for _ in range(10):
            try:
                sacpo.run(recipe, runs=tmp_path / "runs")
                break
            except RunError as error:
                stops += 1
                assert "verdicts are missing: the budget is spent" in str(error)
                assert "the same command goes on" in str(error)
                assert len(server.bodies) == 50 * stops  # of the whole command, not of each stage
        assert (stops, len(server.bodies)) == (EVERYTHING // 50, EVERYTHING)
    assert results(tmp_path / "runs")["measures"]["H"]["report"]["outcomes"]["helpfulness"]["unparsed"] == 0


def test_an_endpoint_that_fails_stops_the_stage_and_never_becomes_data(
    again: Callable[..., Recipe], tmp_path: Path
) -> None:
    script: list[Script] = [lambda body, attempt: Fault(500)]
    with Endpoint(lambda body, attempt: script[0](body, attempt)) as server:
        recipe = again(server.url, retries=0)
        stage = tmp_path / "runs" / "judged" / "stages" / "judge" / "sft" / "tuning"
        shutil.rmtree(stage)
        with pytest.raises(RunError, match=r"6 of 6 verdicts are missing(?s:.)*<one> on safety: status 500"):
            sacpo.run(recipe, runs=tmp_path / "runs")
        assert not stage.exists()
        script[0] = judging
        sacpo.run(recipe, runs=tmp_path / "runs")
    assert Outcome.UNPARSED not in {v.outcome for v in verdicts(tmp_path / "runs", "H", "report")}


def test_a_wrong_key_stops_at_once_and_is_written_nowhere(
    again: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    said = json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}"}})
    with Endpoint(lambda body, attempt: Fault(401, body=said)) as server:
        recipe = again(server.url, api_key_env=KEY_VARIABLE)
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(recipe.model_dump(mode="json", by_alias=True, exclude_none=True)))
        monkeypatch.setattr(sys, "argv", ["sacpo", "run", str(file), "--runs", str(tmp_path / "runs")])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        assert len(server.bodies) <= 16
        assert all(f"Bearer {SECRET}" in head for head in server.headers)
    printed = "".join(capsys.readouterr())
    assert f"check the environment variable {KEY_VARIABLE}" in printed
    assert SECRET not in printed
    assert "Traceback" not in printed
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_plan_counts_the_requests(made: Path, tmp_path: Path) -> None:
    recipe = recipe_at("http://127.0.0.1:9/v1", made / "pairs.jsonl")
    planned = judgings(recipe, sacpo.plan(recipe, runs=tmp_path))
    assert [(one.criterion, one.judge, one.requests) for one in planned] == [
        ("helpfulness", "<one>", PAIRWISE),
        ("helpfulness", "two", PAIRWISE),
        ("safety", "<one>", 4 * LABELS),
        ("refusal", "<one>", 2 * LABELS),
    ]
    assert sum(one.requests or 0 for one in planned) == EVERYTHING
