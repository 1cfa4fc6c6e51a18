"""A dry run counts the evaluation prompts, and says where the recipe asks for more than there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sacpo import parse_recipe
from sacpo.cli.of_recipe import show_plan
from sacpo.data.records import Kind
from sacpo.errors import DataError
from sacpo.pipeline.prompt_sets import prompt_sets, shortfalls
from sacpo.pipeline.run import plan
from sacpo.recipe import load_recipe
from sacpo.recipe.load import DEMO

LABELS = "certify.labels={n: 300, judges: {harmlessness: {kind: oracle}}}"


def planned(tmp_path: Path, *changes: str) -> tuple[Any, Any]:
    recipe = load_recipe(DEMO, [*changes])
    return recipe, prompt_sets(plan(recipe, runs=tmp_path / "runs"))


def test_prompts_of_the_world_are_counted_and_labels_that_are_not_there_told(tmp_path: Path) -> None:
    """Of 1,500 certification prompts 60 % are restricted."""
    recipe, sets = planned(tmp_path, LABELS)
    by_name = {one.name: one for one in sets}
    assert {(one.role, one.n == one.limit == sum(one.kinds.values())) for one in sets} == {
        ("tuning", True),
        ("report", True),
        ("certification", True),
    }
    certify = recipe.certify
    assert certify is not None
    restricted = by_name[certify.prompts].kinds[Kind.RESTRICTED.value]
    assert restricted == 900 and shortfalls(recipe, sets) == []
    recipe, sets = planned(tmp_path, LABELS.replace("300", str(restricted + 1)))
    assert shortfalls(recipe, sets) == [
        f"certify.labels: n is {restricted + 1:,}, and there are {restricted:,} restricted prompts: "
        "all of their answers are labelled"
    ]


def test_more_prompts_than_the_world_has_are_refused_by_the_plan(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the world has fewer ordinary prompts than that") as caught:
        planned(tmp_path, "prompts.report.limit=1000000")
    assert str(caught.value.where).startswith("prompts.report")
    with pytest.raises(DataError, match="than that") as caught:
        planned(tmp_path, "data.prompts-H.limit=1000000")
    assert str(caught.value.where).startswith("data.prompts-H")


def test_a_file_with_fewer_prompts_than_its_limit_is_told(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three different prompts in four lines."""
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "w5", "chosen": "w1", "rejected": "w2"}\n')
    for role in ("tuning", "report"):
        rows = [{"prompt": f"w6 {role} w{i % 3}", "kind": "restricted" if i % 3 else "ordinary"} for i in range(4)]
        (tmp_path / f"{role}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "few",
        "base": {"model": str(base), "template": "plain"},
        "data": {"rows": {"format": "preference", "path": str(tmp_path / "pairs.jsonl")}},
        "steps": [{"name": "H", "criterion": "help", "dataset": "rows", "beta": 0.1}],
        "prompts": {
            "tuning": {"role": "tuning", "format": "prompts", "path": str(tmp_path / "tuning.jsonl"), "limit": 200},
            "report": {"role": "report", "format": "prompts", "path": str(tmp_path / "report.jsonl")},
        },
        "evaluate": {"judges": {"refusal": {"kind": "refusal"}}},
    }
    parsed = parse_recipe(recipe)
    sets = prompt_sets(plan(parsed, runs=tmp_path / "runs"))
    assert [(one.name, one.n, one.limit, one.kinds) for one in sets] == [
        ("tuning", 3, 200, {"ordinary": 1, "restricted": 2}),
        ("report", 3, None, {"ordinary": 1, "restricted": 2}),
    ]
    assert shortfalls(parsed, sets) == ["prompts.tuning: 3, fewer than its limit of 200"]
    (tmp_path / "few.yaml").write_text(json.dumps(recipe))
    show_plan(tmp_path / "few.yaml", [], tmp_path / "runs", None, "run", as_json=False)
    said = capsys.readouterr().out
    assert "evaluation prompts" in said and "prompts.tuning: 3, fewer than its limit of 200\n" in said
