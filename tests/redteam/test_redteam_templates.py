"""Red-team prompts: every category, placeholders for targets, twins of the same wording."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from judging.endpoint import Endpoint, Fault, share

from sacpo import api
from sacpo.audit import audit_prompts
from sacpo.data.sources import read_source
from sacpo.errors import RecipeError, RunError
from sacpo.judging.llm.budget import Budget
from sacpo.judging.llm.judge import LlmModel
from sacpo.judging.llm.texts import write_texts
from sacpo.judging.rubric import load_rubric
from sacpo.pipeline.stages.redteam import paraphrased
from sacpo.recipe.llm import LlmSpec
from sacpo.recipe.schema import DataSpec
from sacpo.redteam import CATEGORIES, FORMS, make_prompts
from sacpo.redteam.templates import ACTS, PER_CATEGORY


def test_the_categories_are_those_of_the_safety_rubric() -> None:
    assert set(CATEGORIES) == set(load_rubric("safety").categories)
    assert set(Counter(act.category for act in ACTS).values()) == {6}
    assert PER_CATEGORY == 6 * len(FORMS) == 72


def test_harmful_objects_are_placeholders_and_harmless_ones_are_not() -> None:
    for act in ACTS:
        assert re.search(r"\[.+\]", act.harm) and "[" not in act.harmless + act.act, act.id
        assert act.act.count("{}") == 1, act.id


def test_a_twin_differs_from_its_prompt_in_the_object_alone() -> None:
    rows = make_prompts(CATEGORIES, 72, seed=1)
    by_id = {row["id"]: row for row in rows}
    acts = {act.id: act for act in ACTS}
    assert len(by_id) == len(rows) == 2 * 14 * 72
    assert len({row["prompt"] for row in rows}) == len(rows)
    for row in rows:
        twin = by_id[row["twin"]]
        assert twin["twin"] == row["id"] and twin["form"] == row["form"]
        if row["kind"] == "restricted":
            act = acts[row["cluster"]]
            assert row["prompt"].replace(act.harm, act.harmless) == twin["prompt"] != row["prompt"]
            assert twin["kind"] == "borderline" and twin["cluster"] != row["cluster"]


def test_few_prompts_of_a_category_have_different_acts() -> None:
    rows = make_prompts(["self_harm"], 6, seed=0)
    assert len({row["cluster"] for row in rows if row["kind"] == "restricted"}) == 6
    assert make_prompts(["self_harm"], 6, seed=0) == rows != make_prompts(["self_harm"], 6, seed=1)


def test_what_is_made_is_read_and_audited(tmp_path: Path) -> None:
    """Twelve prompts of each of 14 categories are 84 acts: without a failure they leave 1 - .05^(1/84) = .035 open."""
    path = api.make_redteam(tmp_path / "out", n=12)
    found = read_source(DataSpec(format="prompts", path=str(path)), name="x", seed=0).records
    assert len(found) == 2 * 14 * 12
    (audit,) = audit_prompts([str(path)])["files"]
    for kind in audit["kinds"]:
        assert (kind["prompts"], kind["independent"]) == (168, 84)
        assert kind["undetected"] == pytest.approx(1 - 0.05 ** (1 / 84))
    assert len(audit["categories"]) == 28
    assert json.loads((path.parent / "counts.json").read_text())["kinds"] == {"borderline": 168, "restricted": 168}


def test_paraphrases_of_no_use_are_left_out_and_counted() -> None:
    rows = make_prompts(["animal_abuse"], 6, seed=0)
    asked = [row for row in rows if row["kind"] == "restricted"]
    objects = [next(act for act in ACTS if act.id == row["cluster"]).harm for row in asked]
    said = [
        f'\n"Somebody wants to learn what one has to do with {objects[0]}; tell them."\nAnd more.',
        "",
        "a sentence without the object",
        "I'm sorry, but I can't help with that.",
        f"{objects[4]} " * 80,
        asked[5]["prompt"],
    ]
    found, left = paraphrased(rows, [(text, "") for text in said], 0.8)
    assert [row["kind"] for row in found] == ["restricted", "borderline"]
    assert found[0]["prompt"] == f"Somebody wants to learn what one has to do with {objects[0]}; tell them."
    assert objects[0] not in found[1]["prompt"] and found[1]["twin"] == found[0]["id"]
    assert left == {"a refusal": 1, "does not name the object": 1, "empty": 1, "near-duplicate": 1, "too long": 1}


def test_bad_input_is_told(tmp_path: Path) -> None:
    for match, options in (
        ("no such category", {"categories": ["self_harms"]}),
        ("named twice", {"categories": ["self_harm", "self_harm"]}),
        ("do not make so many", {"n": 73}),
        ("has no effect without a model", {"generation": {"temperature": 0.5}}),
        ("similarity is out of its range", {"near": 0.0}),
    ):
        with pytest.raises(RecipeError, match=match):
            api.make_redteam(tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


# A model behind an endpoint


def paraphrase(body: dict[str, Any], attempt: int) -> Any:
    """Another wording of most prompts; of the others a refusal, the same words again, or the endpoint's filter."""
    request = body["messages"][-1]["content"].split("\n\n", 1)[1]
    share_of = share("kind", request)
    if share_of < 0.2:
        return "I cannot help with that request."
    if share_of < 0.4:
        return request
    if share_of < 0.5:
        return Fault(400, body=json.dumps({"error": {"code": "content_filter", "message": "filtered"}}))
    thing = next(act.harm for act in ACTS if act.harm in request)
    return f"Tell a curious reader what it takes to deal with {thing} (note {share('x', request):.6f})."


def test_an_endpoint_paraphrases_is_paid_once_and_its_refusals_are_no_prompts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of 14 x 3 prompts each is asked once, whatever breaks; what is left out is counted, what stays has a twin."""
    with Endpoint(paraphrase) as server:
        model = {
            "model": "m",
            "base_url": server.url,
            "api_key_env": None,
            "temperature": 0.7,
        }  # --endpoint api_key_env=
        with pytest.raises(RunError, match="32 of 42 texts are missing: the budget is spent"):
            api.make_redteam(tmp_path / "out", n=3, endpoint=model, budget={"max_requests": 10})
        assert len(server.bodies) == 10 and not (tmp_path / "out").exists()
        path = api.make_redteam(tmp_path / "out", n=3, endpoint=model)
        assert len(server.bodies) == 42
        assert api.make_redteam(tmp_path / "out", n=3, endpoint=model) == path and len(server.bodies) == 42
        bodies = [body["messages"][-1]["content"].split("\n\n", 1)[1] for body in server.bodies]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    own = [row for row in rows if row["form"] == "paraphrase"]
    kinds = [share("kind", text) for text in bodies]
    counts = json.loads((path.parent / "counts.json").read_text())
    assert counts["left"] == {
        "a refusal": sum(kind < 0.2 for kind in kinds),
        "near-duplicate": sum(0.2 <= kind < 0.4 for kind in kinds),
        "the endpoint: filtered": sum(0.4 <= kind < 0.5 for kind in kinds),
    }
    assert all(counts["left"].values())
    assert len(own) == 2 * sum(kind >= 0.5 for kind in kinds) == 2 * (42 - sum(counts["left"].values()))
    assert not any("cannot help" in row["prompt"] for row in rows)
    by_id = {row["id"]: row for row in rows}
    assert all(by_id[row["twin"]]["twin"] == row["id"] and "[" not in by_id[row["twin"]]["prompt"]
               for row in own if row["kind"] == "restricted")  # fmt: skip
    said = capfd.readouterr()
    assert not any(row["prompt"] in said.out + said.err for row in rows)


def test_a_reply_that_a_killed_process_half_wrote_is_asked_for_again(tmp_path: Path) -> None:
    kept = tmp_path / "replies.jsonl"
    with Endpoint(lambda body, attempt: f"said {body['messages'][0]['content']}") as server:
        model = LlmModel(LlmSpec(model="m", base_url=server.url, api_key_env=""))
        assert [one.text for one in write_texts(model, ["a", "b"], kept, budget=Budget())] == ["said a", "said b"]
        lines = kept.read_text().splitlines()
        kept.write_text(f"{lines[0]}\n{lines[1][:20]}")
        assert [one.text for one in write_texts(model, ["a", "b"], kept, budget=Budget())] == ["said a", "said b"]
        assert len(server.bodies) == 3 and "response_format" not in server.bodies[0]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"endpoint": {"model": "m"}, "paraphrase": "x"}, "one model paraphrases"),
        ({"endpoint": {"model": "m"}, "base": {"dtype": "float32"}}, "no effect without a model on this machine"),
        ({"endpoint": {"model": "m", "rereads": 1}}, "this is about verdicts"),
        ({"budget": {"max_requests": 1}}, "no effect without an endpoint"),
        ({"endpoint": {"modle": "m"}}, "modle"),
    ],
)
def test_what_an_endpoint_cannot_use_is_told(options: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=match):
        api.make_redteam(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
