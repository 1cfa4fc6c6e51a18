"""Steps in rounds: their models and stages, the reference that stays, verdicts that are paid once."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from judging.endpoint import Endpoint, share, sign_of
from pipeline_toys import RECIPE, recipe, stages

from sacpo.errors import RecipeError, RunError
from sacpo.pipeline.run import plan, run
from sacpo.pipeline.stages.pairs import Pairs
from sacpo.pipeline.stages.samples import Samples
from sacpo.pipeline.stages.train import Align
from sacpo.recipe import model_graph, parse_recipe
from sacpo.recipe.models import MergedModel, StepModel
from sacpo.report.results import ModelInfo
from sacpo.report.round_tables import round_table, share_of_ties

SHARES = "sample_from: {sft: 0.5, policy: 0.5}"
DATASET = f"steps.H-S.dataset={{prompts: asked, judge: harmlessness, {SHARES}, max_new_tokens: 8}}"
MERGES = "merge=[{name: P, models: [H, H-S-2@0.1], q: 0.5}]"
TWO = (DATASET, "steps.H-S.rounds=2", MERGES, "prompts={}", "constraints=[]", "objective=null", "theory=null")


def trained(*overrides: str) -> dict[str, Align]:
    return {stage.title: stage for stage in stages(*overrides) if isinstance(stage, Align)}


def place(stage: Any) -> str:
    return stage.place.name


def test_every_round_goes_on_from_the_one_before_and_keeps_the_steps_reference() -> None:
    """Pairs of round 2 are sampled from SFT and from the model of round 1; log-ratios are to H in both."""
    found = trained(*TWO)
    first, second = found["H-S-1@0.1"], found["H-S-2@0.1"]
    assert (place(first.model), first.reference) == ("align/H", None)
    assert second.reference is not None
    assert (place(second.model), place(second.reference)) == ("align/H-S-1@0.1", "align/H")
    one, two = first.records[0], second.records[0]
    assert isinstance(one, Pairs) and isinstance(two, Pairs)
    assert (one.name, two.name) == ("pairs/H+H-S-1", "pairs/H-S-1@0.1+H-S-2")
    assert {role: name for role, (name, _) in two.models.items()} == {"sft": "sft", "policy": "H-S-1@0.1"}
    assert not {*one.seeds.values()} & {*two.seeds.values()}
    assert found["H-S-1@0.4"].records == first.records and first.seed != second.seed


def test_a_third_round_leaves_two_finished_ones_as_they_are_and_a_step_without_rounds_too() -> None:
    two, three = trained(*TWO), trained(*TWO[:1], "steps.H-S.rounds=3", *TWO[2:])
    assert {name: two[name].key for name in two} == {name: three[name].key for name in two}
    assert "H-S-3@0.4" in three
    once = trained(DATASET, *TWO[3:], "merge=[]")
    assert once["H-S@0.1"].records[0].name == "pairs/H+H-S"
    assert once["H"].key == two["H"].key


def test_the_steps_name_means_the_last_round_where_a_step_starts_or_models_are_merged() -> None:
    changed = recipe(
        DATASET.replace("H-S", "H"), "steps.H.rounds=2", "steps.S-H.from=H", "merge=[{name: P, models: [H, S], q: 0.5}]"
    )
    nodes = model_graph(changed)
    later, merged = nodes["S-H"], nodes["P"]
    assert isinstance(later, StepModel) and isinstance(merged, MergedModel)
    assert (later.parent, merged.models) == ("H-2", ("H-2", "S"))
    first, second = nodes["H-1"], nodes["H-2"]
    assert isinstance(first, StepModel) and isinstance(second, StepModel)
    assert first.strengths == second.strengths == (("helpfulness", 0.2),)
    assert later.strengths == (("helpfulness", 0.2), ("helpfulness", 0.2))


def test_rounds_of_rwr_sample_from_the_model_before_and_correct_their_weights() -> None:
    """In round 1 the model as it stands is SFT itself: one proposal of 16 samples; in round 2 there are two of 8."""
    rwr = (
        "{name: S, criterion: harmlessness, algorithm: rwr, from: sft, beta: 0.2, rounds: 2, dataset: asked, "
        f"resample: {{judge: harmlessness, {SHARES}}}}}"
    )
    found = [s for s in stages("steps=[" + rwr + "]", "merge=[]", *TWO[3:]) if isinstance(s, Samples)]
    assert [[(name, count) for name, _, count in stage.models] for stage in found] == [
        [("sft", 16)],
        [("sft", 8), ("S-1", 8)],
    ]
    assert found[0].seeds[0] != found[1].seeds[0]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("steps.S.beta=[0.5, 0.50]",), "'beta' has 0.5 twice"),
        (("steps.S.rounds=2",), "give 'sample_from' a share of 'policy'"),
        ((DATASET, "steps.H-S.rounds=2", "steps.H-S.beta=auto"), "leave out 'beta: auto' and 'dual'"),
        ((DATASET.replace("H-S", "S"), "steps.S.rounds=2", "steps.H.name=S-1"), "two models have the same name"),
        (("data.asked.holdout=0.5", "steps=[]", "merge=[]", "theory=null"), "none are sampled from this source"),
        (("data.asked.holdout=1",), "so no pair is left to train on"),
        (("evaluate.judges.r={kind: reward-model, dataset: " + DATASET.split("=", 1)[1] + "}",), "and no policy"),
    ],
)
def test_what_cannot_be_is_refused(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(*overrides)
    assert said in str(caught.value)


def test_banks_of_a_policy_are_named_by_the_model_that_it_starts_from() -> None:
    """H-S is trained at two strengths: each start answers for itself, in a folder of its own."""
    weights = {"helpfulness": 1.0, "harmlessness": 2.0}
    resample = {"judge": weights, "samples": 4, "sample_from": {"sft": 0.5, "policy": 0.5}}
    step = {"name": "W", "criterion": "joint", "algorithm": "rwr", "from": "H-S", "beta": 0.5, "dataset": "asked"}
    asked = recipe(steps=[*RECIPE["steps"], {**step, "resample": resample}], merge=[])
    names = [status.stage.name for status in plan(asked, runs="nowhere").statuses]
    assert len(names) == len({*names})
    assert len([name for name in names if name.startswith("samples/")]) == 2


def llm(url: str, rubric: str) -> dict[str, Any]:
    panel = {"model": "m", "base_url": url, "api_key_env": "", "structured": False}
    return {"kind": "llm", "rubric": rubric, "panel": panel}


def labelled_by(url: str, rubric: str = "helpfulness", **more: Any) -> dict[str, Any]:
    """A recipe of one step in two rounds, whose pairs a language model labels."""
    data = copy.deepcopy({key: RECIPE[key] for key in ("name", "world", "base")})
    data["base"]["config"] |= {"intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    data["data"] = {"asked": {"format": "world", "split": "pairs", "limit": 6, "holdout": 0.3}}
    dataset = {"prompts": "asked", "judge": "help", "labels": "soft", "ties": "keep", "max_new_tokens": 6}
    dataset |= {"sample_from": {"policy": 1.0}, **more}
    step = {"name": "H", "criterion": "helpfulness", "beta": 0.2, "rounds": 2, "max_length": 64, "dataset": dataset}
    data["steps"] = [{**step, "training": {"max_steps": 2, "learning_rate": 0.05}}]
    data["evaluate"] = {"judges": {"help": llm(url, rubric)}}
    return data


def judging(body: dict[str, Any], attempt: int) -> str:
    text = body["messages"][-1]["content"]
    if "carry the mark " not in text:
        return "yes"  # the request by which a run looks whether somebody is there
    return f"VERDICT {sign_of(body)}: {1 + int(9 * share('a', text))} {1 + int(9 * share('b', text))}"


def test_language_models_label_rounds_and_no_verdict_is_paid_twice(tmp_path: Path) -> None:
    """Six prompts, one pair each, both orders: 12 verdicts a round, those of held-out prompts among them."""
    with Endpoint(judging) as server:
        data = labelled_by(server.url)
        short = parse_recipe({**data, "evaluate": {**data["evaluate"], "budget": {"max_requests": 15}}})
        with pytest.raises(RunError, match="the budget is spent"):
            run(short, runs=tmp_path, preflight=False)
        assert len(server.bodies) == 15
        done = run(parse_recipe(data), runs=tmp_path, preflight=False)
        assert len(server.bodies) == 24
    stages_of = done.folder / "stages"
    first, second = (
        json.loads((stages_of / "pairs" / name / "report.json").read_text()) for name in ("H-1", "H-1+H-2")
    )
    assert first["heldout"] >= 1 and first["train"] + first["heldout"] == first["records"] == 6
    labels = [json.loads(line)["p"] for line in (stages_of / "pairs/H-1/train.jsonl").read_text().splitlines()]
    assert {*labels} <= {0.5, 0.75, 1.0} and second["name"] == "pairs of help, round 2"
    summary = json.loads((stages_of / "align" / "H-2" / "summary.json").read_text())
    assert abs(summary["first_loss"] - 0.693147) > 1e-4  # it is no longer its reference


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rubric": "safety"}, "this judge's rubric gives labels, and pairs need comparisons or scores"),
        ({"score_scale": 2.0}, "language models compare, and give no scores"),
        ({"judge": {"help": 1.0, "other": 2.0}}, "this judge's rubric gives comparisons, and a sum needs scores"),
    ],
)
def test_language_models_that_cannot_label_pairs_are_refused(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    data = labelled_by("http://127.0.0.1:1/v1", **more)
    data["evaluate"]["judges"]["other"] = llm("http://127.0.0.1:1/v1", "helpfulness")
    with pytest.raises(RecipeError, match=said):
        run(parse_recipe(data), runs=tmp_path, preflight=False)
    assert not [*tmp_path.iterdir()]


def test_the_table_of_rounds_has_the_share_of_ties_kept_or_dropped() -> None:
    """Two ties kept among 8 pairs, 2 more dropped: 4 of 10."""
    report = {"kind": "pairs", "records": 8, "dropped": {"tie": 2, "equal answers": 5}, "labels": {"ties": 2}}
    assert share_of_ties(report) == pytest.approx(0.4)
    measured = {"value": 0.75, "ci95": (0.5, 1.0), "n": 4}
    info = ModelInfo(
        kind="step", round=2, sampled="pairs/x", implicit={"pairs/x/implicit": measured}, kl_reference={"value": 0.5},
        training={"records": 7, "first_loss": 0.7, "last_loss": 0.6},
    )  # fmt: skip
    results: Any = type(
        "Some", (), {"models": {"sft": ModelInfo(kind="base"), "H-2": info}, "data": {"pairs/x": report}}
    )
    table = round_table(results)
    assert table is not None
    assert [cell.text for cell in table.rows[0].cells] == ["2", "7", "40.0 %", "75.0 %", "0.5", "0.7", "0.6"]
    results.models = {"sft": ModelInfo(kind="base")}
    assert round_table(results) is None
