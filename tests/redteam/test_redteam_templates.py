"""Red-team prompts: every category, placeholders for targets, twins of the same wording."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from sacpo import api
from sacpo.audit import audit_prompts
from sacpo.data.sources import read_source
from sacpo.errors import RecipeError
from sacpo.judging.rubric import load_rubric
from sacpo.pipeline.stages.redteam import paraphrased
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
        f"I'm sorry, but I can't help with {objects[3]}.",
        f"{objects[4]} " * 80,
        asked[5]["prompt"],
    ]
    found, left = paraphrased(rows, said, 0.8)
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
