"""Collecting preference data: pairs, labels of oracles, language models and people, the file and its card."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import typer.main
from judging.endpoint import Endpoint, Fault, Script, share, sign_of
from typer.testing import CliRunner

from sacpo import api
from sacpo.cli.command_line import app
from sacpo.data.records import Answer, read_jsonl
from sacpo.data.sources import read_source
from sacpo.errors import RecipeError, RunError
from sacpo.judging.llm.store import Store
from sacpo.judging.people import Session
from sacpo.judging.people.items import read_items
from sacpo.judging.refusal import RefusalJudge
from sacpo.judging.verdicts import judge_answers
from sacpo.models.loading import build_model, save_model
from sacpo.recipe.schema import DataSpec, WorldSpec
from sacpo.world import World

WORLD = {"seed": 0, "ordinary": 6, "restricted": 4, "borderline": 4}
ORACLES = {"world": WORLD, "judges": {"helpfulness": {"kind": "oracle"}, "harmlessness": {"kind": "oracle"}}}
BY_LOT = {**ORACLES, "ties": "draw"}
"""Answers of a model that has learnt nothing are mostly equally bad."""
OPTIONS: dict[str, Any] = {
    "format": "world",
    "draw": {"limit": 8, "samples": 3},
    "generation": {"max_new_tokens": 8},
    "base": {"template": "chat", "device": "cpu"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    tokenizer = World(WorldSpec(**WORLD)).tokenizer()
    config = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
              "num_attention_heads": 2, "max_position_embeddings": 96}  # fmt: skip
    save_model(build_model(config, tokenizer, 0), tokenizer, folder)
    return folder


def parsed(line: str) -> tuple[str, Any]:
    """Return a printed command's verb and its parameters, read as the command line reads them."""
    _, verb, *arguments = shlex.split(line)
    group: Any = typer.main.get_command(app)
    return verb, group.commands[verb].make_context(verb, arguments)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_worlds_oracle_labels_pairs_that_a_step_learns_from(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = api.collect(model, "pairs", out, judges=BY_LOT, **OPTIONS)
    found, world = rows(data), World(WorldSpec(**WORLD))
    prompts = {prompt.text: prompt for prompt in world.prompts("pairs", 8, seed=0)}
    assert len(found) >= 4
    different = 0
    for row in found:
        prompt, texts = prompts[row["prompt"]], [row["response_0"], row["response_1"]]
        rewards = [world.reward(prompt, text) for text in texts]
        assert row["better_response_id"] == rewards.index(max(rewards)) or rewards[0] == rewards[1]
        different += rewards[0] != rewards[1]
        assert [row["is_response_0_safe"], row["is_response_1_safe"]] == [
            world.label(prompt, t) == "safe" for t in texts
        ]
    assert different
    assert parquet.read_table(data.with_suffix(".parquet")).to_pylist() == found
    for label in ("better", "safer"):
        spec = DataSpec(format="pku-safe-rlhf", path=str(data.with_suffix(".parquet")), label=label)
        assert len(read_source(spec, name="x", seed=0).records) == len(found)
    card = json.loads((data.parent / "card.json").read_text())
    assert card["audit"]["files"][0]["faults"] == []
    assert card["rows"] == len(found) == card["drawing"]["pairs"] - sum(card["left"].values())
    text = (data.parent / "README.md").read_text()
    assert not any(row["response_0"] in text or row["prompt"] in text for row in found)
    trained = api.align(
        model, [DataSpec(format="pku-safe-rlhf", path=str(data), label="safer")], tmp_path / "step", max_length=96,
        base=OPTIONS["base"], training={"max_steps": 1, "per_device_train_batch_size": 2},
    )  # fmt: skip
    assert (trained / "config.json").is_file()
    shutil.rmtree(data.parent)
    again = data.parent.parent / "pairs"
    before = (again / "answers.jsonl").stat().st_mtime_ns
    assert rows(api.collect(model, "pairs", out, judges=BY_LOT, **OPTIONS)) == found
    assert (again / "answers.jsonl").stat().st_mtime_ns == before


def judging(body: dict[str, Any], attempt: int) -> str:
    """Scores, labels and levels that follow from what is shown."""
    text = body["messages"][1]["content"]
    if "moderate" in text:
        return f"VERDICT {sign_of(body)}: severe"
    if "animal_abuse" in text:
        return f"VERDICT {sign_of(body)}: {'unsafe; self_harm' if share('s', text) < 0.5 else 'safe'}"
    return f"VERDICT {sign_of(body)}: {1 + int(9 * share('a', text))} {1 + int(9 * share('b', text))}"


def test_language_models_label_and_are_paid_once(model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    asked = [prompt.text for prompt in World(WorldSpec(**WORLD)).prompts("pairs", 6, seed=1)]
    prompts.write_text("".join(json.dumps({"prompt": text, "category": "how-to"}) + "\n" for text in asked))
    options = {**OPTIONS, "format": "prompts", "draw": {"temperatures": [1.0, 2.0], "samples": 1}}
    with Endpoint(judging) as server:
        judge = {"kind": "llm", "panel": {"model": "m", "base_url": server.url, "api_key_env": "", "structured": False,
                                          "price": {"prompt": 1.0, "completion": 2.0}}}  # fmt: skip
        judges = {name: dict(judge) for name in ("helpfulness", "harmlessness", "safety", "severity")}
        judges["helpfulness"]["repeats"] = 2
        spec = {"judges": judges, "ties": "draw"}
        with pytest.raises(RunError, match="the budget is spent"):
            api.collect(model, prompts, tmp_path / "out", judges={**spec, "budget": {"max_requests": 5}}, **options)
        assert len(server.bodies) == 5
        data = api.collect(model, prompts, tmp_path / "out", judges=spec, **options)
        paid = len(server.bodies)
        shutil.rmtree(data.parent)
        found = rows(api.collect(model, prompts, tmp_path / "out", judges=spec, **options))
        assert len(server.bodies) == paid
    pairs = len(read_jsonl(tmp_path / "out" / "pairs" / "answers.jsonl", Answer))
    answers = {(row["prompt"], row[f"response_{i}"]) for row in found for i in (0, 1)}
    assert paid == pairs * (2 * 2 + 2) + 2 * len(answers) and len(found) == pairs
    for row in found:
        for i in (0, 1):
            safe = row[f"is_response_{i}_safe"]
            assert row[f"response_{i}_severity_level"] == (0 if safe else 3)
            assert [name for name, applies in row[f"response_{i}_harm_category"].items() if applies] == (
                [] if safe else ["self_harm"]
            )
    card = json.loads((data.parent / "card.json").read_text())
    (used,) = card["usage"]
    assert (used["verdicts"], used["prompt_tokens"]) == (paid, 100 * paid)
    assert used["cost"] == pytest.approx((100 * paid + 2 * 10 * paid) / 1e6)
    helpful = next(row for row in card["reliability"] if row["criterion"] == "helpfulness")
    assert helpful["repeat_agreement"]["value"] == 1 and helpful["noise"] == 0
    assert {row["response_0_source"] for row in found} <= {f"{model.parent.name}/model@{t}" for t in (1, 2)}


def test_ratings_label_pairs_and_what_could_not_be_read_is_asked_again(model: Path, tmp_path: Path) -> None:
    """The first answer that is rated gets "seven or eight": its pair is left out until it is asked again."""
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out"
    prompts.write_text("".join(json.dumps({"prompt": f"how do i wash a {what} ?"}) + "\n" for what in ("car", "dog")))
    clear = False
    unread: set[str] = set()

    def script(body: dict[str, Any], attempt: int) -> str:
        text = body["messages"][1]["content"]
        if "the answer's score" not in text:
            return judging(body, attempt)
        if not clear and (not unread or text in unread):
            unread.add(text)
            return "It is seven or eight."
        return f"VERDICT {sign_of(body)}: {1 + int(9 * share('r', text))}"

    with Endpoint(script) as server:
        panel = {"model": "m", "base_url": server.url, "api_key_env": "", "structured": False, "rereads": 0}
        judge = {"kind": "llm", "panel": panel}
        rated = {**judge, "rubric": "helpfulness-rating"}
        spec = {"judges": {"helpfulness": rated, "harmlessness": judge, "safety": judge}, "ties": "draw"}
        options = {**OPTIONS, "format": "prompts", "judges": spec}
        card = api.collect(model, prompts, out, **options).parent / "card.json"
        assert json.loads(card.read_text())["left"] == {"no verdict was read: helpfulness": 1}
        shares = {(row["criterion"], row["kind"]): row["unparsed_rate"] for row in reliability(card)}
        assert shares["helpfulness", "rating"]["value"] == 1 / shares["helpfulness", "rating"]["n"] == 0.25
        assert shares["safety", "label"]["value"] == 0
        said = json.loads(card.read_text())
        assert sum(used["prompt_tokens"] for used in said["usage"]) == 100 * len(server.bodies)
        assert [used["unread"] for used in said["usage"]] == [1]
        harmless = next(row for row in said["reliability"] if row["criterion"] == "harmlessness")
        assert (
            harmless["longer_share"]["unparsed"] == 0
            and "_helpfulness_rating" in card.with_name("README.md").read_text()
        )
        nothing_is_lost_by_asking_again_in_vain(model, prompts, out, options)
        paid, clear = len(server.bodies), True
        assert len(rows(api.collect(model, prompts, out, **options))) == 1 and len(server.bodies) == paid
        found = rows(api.collect(model, prompts, out, ask_again=True, **options))
        assert len(server.bodies) == paid + 1
        another_endpoint_makes_other_data(model, prompts, out, options, script)
        with pytest.raises(RecipeError, match="'orders' has no effect"):
            judges = {**spec["judges"], "helpfulness": {**rated, "orders": ["ab"]}}  # type: ignore[dict-item]
            api.collect(model, prompts, out, **{**options, "judges": {"judges": judges}})
    assert len(found) == 2
    for row in found:
        first, second = (row[f"response_{i}_helpfulness_rating"] for i in (0, 1))
        assert first == second or row["better_response_id"] == int(second > first)
        p = row["better_probability"] if row["better_response_id"] == 0 else 1 - row["better_probability"]
        assert p == pytest.approx(1 / (1 + math.exp(second - first)))


def nothing_is_lost_by_asking_again_in_vain(model: Path, prompts: Path, out: Path, options: dict[str, Any]) -> None:
    """The budget is spent, then the key is refused: the data, the verdicts and the paid replies stay as they were."""
    data, store = out / "data" / "data.jsonl", out / "cache" / "verdicts.sqlite"
    with Store(store) as kept:
        before, unread = data.read_bytes(), kept.unparsed()
    assert list(unread.values()) == [1]
    with pytest.raises(RunError, match="the budget is spent"):
        spent = {**options["judges"], "budget": {"max_requests": 0}}
        api.collect(model, prompts, out, ask_again=True, **{**options, "judges": spent})
    with Endpoint(lambda body, attempt: Fault(401)) as closed, pytest.raises(RunError):
        api.collect(model, prompts, out, ask_again=True, **{**options, "judges": elsewhere(options, closed.url)})
    with Store(store) as kept:
        assert (data.read_bytes(), kept.unparsed()) == (before, unread)
    assert api.collect(model, prompts, out, **options).read_bytes() == before


def elsewhere(options: dict[str, Any], url: str) -> dict[str, Any]:
    judges = options["judges"]["judges"]
    moved = {name: {**judge, "panel": {**judge["panel"], "base_url": url}} for name, judge in judges.items()}
    return {**options["judges"], "judges": moved}


def another_endpoint_makes_other_data(
    model: Path, prompts: Path, out: Path, options: dict[str, Any], script: Script
) -> None:
    """Another endpoint makes other data: refused without --ask-again, and with it put in the old one's place."""
    before = (out / "data" / "manifest.json").read_bytes()
    with Endpoint(script) as other:
        moved = {**options, "judges": elsewhere(options, other.url)}
        with pytest.raises(RunError, match="holds another stage's result"):
            api.collect(model, prompts, out, **moved)
        assert not other.bodies and (out / "data" / "manifest.json").read_bytes() == before
        api.collect(model, prompts, out, ask_again=True, **moved)
        assert other.bodies and (out / "data" / "manifest.json").read_bytes() != before
    api.collect(model, prompts, out, ask_again=True, **options)  # back again, at no cost


def reliability(card: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(card.read_text())["reliability"]
    return found


def test_people_label_pairs_that_were_only_drawn(model: Path, tmp_path: Path) -> None:
    out, labels = tmp_path / "out", tmp_path / "labels.db"
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "".join(json.dumps({"prompt": f"how do i {task} ?"}) + "\n" for task in ("wash a car", "paint a wall"))
    )
    options = {**OPTIONS, "format": "prompts", "draw": {"samples": 3}}
    folder = api.collect(model, prompts, out, **options)
    firsts, seconds = (read_jsonl(folder / name, Answer) for name in ("answers.jsonl", "baseline.jsonl"))
    assert [(a.prompt.id, a.sample) for a in firsts] == [(b.prompt.id, b.sample) for b in seconds]
    assert ({a.model for a in firsts}, {b.model for b in seconds}) == ({"response_0"}, {"response_1"})
    assert judge_answers(RefusalJudge(), firsts, seconds)  # as any verb takes them, the page for people too
    expected = {}
    for criterion in ("helpfulness", "harmlessness"):
        items = read_items(folder / "answers.jsonl", folder / "baseline.jsonl", annotator="ada")
        session = Session(items, lambda: Store(labels), "ada", criterion)
        for item in items:
            session.label(item.id, "first" if criterion == "helpfulness" else "second")
            shown_first = 1 if item.swapped else 0
            expected[item.answer.prompt.text, criterion] = (
                shown_first if criterion == "helpfulness" else 1 - shown_first
            )
        session.close()
    for side in ("answers.jsonl", "baseline.jsonl"):
        items = read_items(folder / side, None, annotator="ada")
        session = Session(items, lambda: Store(labels), "ada", "safety")
        for item in items:
            session.label(item.id, "unsafe")
        session.close()
    people = {name: str(labels) for name in ("helpfulness", "harmlessness", "safety")}
    found = rows(api.collect(model, prompts, out, judges={"people": people}, **options))
    assert len(found) == len(firsts)
    for row in found:
        assert row["better_response_id"] == expected[row["prompt"], "helpfulness"]
        assert row["safer_response_id"] == expected[row["prompt"], "harmlessness"]
        assert row["is_response_0_safe"] is row["is_response_1_safe"] is False


def test_bad_input_is_told(model: Path, tmp_path: Path) -> None:
    def refused(match: str, error: type[Exception] = RecipeError, **options: Any) -> None:
        with pytest.raises(error, match=match):
            api.collect(model, "pairs", tmp_path / "out", **{**OPTIONS, "judges": ORACLES, **options})
        assert not (tmp_path / "out").exists()

    refused("nobody labels harmlessness", judges={"judges": {"helpfulness": {"kind": "oracle"}}, "world": WORLD})
    refused("need a 'world'", judges={"judges": ORACLES["judges"]})
    refused(
        "cannot label helpfulness",
        judges={**ORACLES, "judges": {**ORACLES["judges"], "helpfulness": {"kind": "refusal"}}},
    )
    refused("no such store of labels", judges={**ORACLES, "people": {"severity": "nowhere.db"}})
    refused("are too few for 'pairs: 2'", draw={"samples": 3, "pairs": 2})
    refused("both models have one name", draw={"limit": 8, "second": str(model)})
    refused("need a world, a split and a limit", draw={})
    refused("near", draw={"near": 2.0})
    refused("names one twice", draw={"temperatures": [1, 1]})
    refused("'votes' has no effect", judges={**ORACLES, "votes": 3})
    refused("nobody can be asked again", ask_again=True)
    llm = {"kind": "llm", "panel": {"model": "m", "api_key_env": ""}}
    asked = {"helpfulness": llm, "harmlessness": llm, "safety": llm}
    compared = {"format": "prompts"}
    refused("'score_scale' has no effect", judges={"judges": asked, "score_scale": 2}, **compared)
    labelling = {**asked, "helpfulness": {**llm, "rubric": "safety"}}
    refused("compares two answers, or rates each", judges={"judges": labelling}, **compared)


def test_the_command_says_where_the_data_is(model: Path, tmp_path: Path) -> None:
    judges = tmp_path / "judges.yaml"
    judges.write_text(json.dumps(BY_LOT))
    arguments = [
        "--prompts",
        "pairs",
        "--format",
        "world",
        "--draw",
        "limit=4",
        "--draw",
        "samples=3",
        "--draw",
        "temperatures=[2]",
        "--out",
        str(tmp_path / "o"),
        "--judges",
        str(judges),
    ]
    more = [
        "--generation",
        "max_new_tokens=8",
        "--base",
        "template=chat",
        "--base",
        "device=cpu",
        "--quiet",
    ]
    done = CliRunner().invoke(app, ["collect", str(model), *arguments, *more])
    assert done.exit_code == 0, done.output
    first, title, *steps = done.stdout.splitlines()
    assert (first, title) == (f"data: {tmp_path / 'o' / 'data' / 'data.jsonl'}", "next:")
    told = [step[step.index("sacpo align") :] for step in steps]
    for line, label in zip(told, ("better", "safer"), strict=True):
        verb, found = parsed(line)
        assert (verb, found.params["format"], found.params["label"]) == ("align", "pku-safe-rlhf", label)
        read = DataSpec(format="pku-safe-rlhf", path=str(found.params["data"][0]), label=label)
        assert read_source(read, name="data", seed=0).records


def test_pairs_that_people_are_to_label_come_with_the_commands(model: Path, tmp_path: Path) -> None:
    """No data/ is made, and none is told."""
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "o"
    prompts.write_text(json.dumps({"prompt": "how do i wash a car ?"}) + "\n")
    arguments = ["--prompts", str(prompts), "--out", str(out), "--draw", "samples=3", "--base", "device=cpu"]
    done = CliRunner().invoke(app, ["collect", str(model), *arguments, "--generation", "max_new_tokens=8"])
    assert done.exit_code == 0, done.output
    first, title, *steps, last = done.stdout.splitlines()
    assert (first, title, (out / "data").exists()) == (f"pairs: {out / 'pairs'}", "next:", False)
    asked = [parsed(step[step.index("sacpo label") :])[1].params for step in steps]
    criteria = [(one["criterion"], one["baseline"] is not None, Path(one["answers"]).name) for one in asked]
    answers, baseline = "answers.jsonl", "baseline.jsonl"
    assert criteria == [
        ("helpfulness", True, answers),
        ("harmlessness", True, answers),
        ("safety", False, answers),
        ("safety", False, baseline),
    ]
    assert all(Path(one["answers"]).is_file() for one in asked) and "--judges" in last


def test_a_model_paraphrases_red_team_prompts(model: Path, tmp_path: Path) -> None:
    """A model that has learnt nothing does not come to an end: every paraphrase is left out and counted."""
    options = {"generation": {"max_new_tokens": 4}, "base": {"template": "chat", "device": "cpu"}}
    path = api.make_redteam(tmp_path / "out", n=1, categories=["self_harm"], paraphrase=str(model), **options)
    counts = json.loads((path.parent / "counts.json").read_text())
    assert counts == {
        "prompts": 2,
        "kinds": {"borderline": 1, "restricted": 1},
        "left": {"cut off": 1},
    }
