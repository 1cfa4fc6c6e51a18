"""A plan counts what a training's loss is a mean over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pipeline_toys import recipe as toy

from sacpo import parse_recipe
from sacpo.pipeline.run import plan
from sacpo.pipeline.show import _summary, _trainings
from sacpo.pipeline.sizes import judgings, trainings


@pytest.mark.parametrize(
    ("algorithm", "format", "records"),
    [("dpo", "preference", 6), ("ipo", "preference", 6), ("kto", "preference", 12), ("kto", "unpaired", 6)],
)
def test_a_pair_is_two_completions_for_kto_and_a_completion_is_one(
    algorithm: str, format: str, records: int, base: Path, tmp_path: Path
) -> None:
    """6 rows in batches of 2: 3 steps, 6 where every row becomes two completions."""
    answers = {"preference": {"chosen": "w1", "rejected": "w2"}, "unpaired": {"completion": "w1", "label": True}}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"w5 w{i}", **answers[format]}) + "\n" for i in range(6, 12)))
    recipe = parse_recipe(
        {
            "name": "planned",
            "base": {"model": str(base), "template": "plain"},
            "data": {"rows": {"format": format, "path": str(path)}},
            "training": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "num_train_epochs": 1},
            "steps": [{"name": "H", "criterion": "help", "algorithm": algorithm, "dataset": "rows", "beta": 0.1}],
        }
    )
    (training,) = trainings(recipe, plan(recipe, runs=tmp_path / "runs"))
    assert (training.records, training.steps, training.at_most) == (records, records // 2, False)
    recipe = recipe.model_copy(update={"steps": (recipe.steps[0].model_copy(update={"too_long": "drop"}),)})
    (training,) = trainings(recipe, plan(recipe, runs=tmp_path / "runs"))
    assert (training.records, training.steps, training.at_most) == (records, records // 2, True)


def test_a_base_of_unknown_size_leaves_memory_and_disk_unknown(tmp_path: Path) -> None:
    """Its files are not here, and its name holds no number of parameters."""
    recipe = parse_recipe(
        {
            "name": "planned",
            "base": {"model": "nobody/nothing", "template": "plain"},
            "data": {"rows": {"format": "preference", "path": str(tmp_path / "rows.jsonl")}},
            "steps": [{"name": "H", "criterion": "help", "dataset": "rows", "beta": 0.1}],
        }
    )
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "w5", "chosen": "w1", "rejected": "w2"}) + "\n")
    (training,) = trainings(recipe, plan(recipe, runs=tmp_path / "runs"))
    assert (training.memory, training.disk) == (None, None)
    said = _summary(None, [training.disk])
    assert "peak memory is unknown" in said and "trained models take is unknown" in said and "0 B" not in said
    assert _summary(replace(training, memory=4000), [2000, 3000]).endswith("; trained models 5 KB of disk")
    assert _summary(None, []) == "no language model is trained"


def test_resampled_answers_are_counted_by_prompt(base: Path, tmp_path: Path) -> None:
    """6 pairs of 6 prompts; 3 answers of at most 5 tokens are drawn for each: 18 records of 5 tokens, about."""
    path = tmp_path / "rows.jsonl"
    rows = ({"prompt": f"w5 w{i}", "chosen": "w1", "rejected": "w2"} for i in range(6, 12))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    resample = {"judge": "help", "learn": {"help": "rows"}, "keep": 3, "max_new_tokens": 5}
    step = {"name": "D", "criterion": "help", "algorithm": "rwr", "dataset": "rows", "beta": 0.1, "resample": resample}
    recipe = parse_recipe(
        {
            "name": "planned",
            "base": {"model": str(base), "template": "plain"},
            "data": {"rows": {"format": "preference", "path": str(path)}},
            "training": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "num_train_epochs": 1},
            "steps": [step],
        }
    )
    (training,) = trainings(recipe, plan(recipe, runs=tmp_path / "runs"))
    assert (training.records, training.steps, training.at_most) == (18, 9, True)
    table = _trainings([training, replace(training, at_most=False, tokens=None)])
    assert [[*column.cells] for column in table.columns][1:4] == [
        ["at most 18", "18"],
        ["at most 9", "9"],
        ["at most 90", "known once read"],
    ]


def test_every_sample_of_a_forecast_is_a_question() -> None:
    """Two models answer 8 tuning prompts 16 times each; a language model labels each answer once."""
    judge = "evaluate.judges.safety={kind: llm, panel: {model: m}, prompts: [tuning]}"
    searched = toy("steps.H-S.beta=auto", "steps.H-S.criterion=safety", "merge=[]", judge)
    (asked,) = judgings(searched, plan(searched, runs="nowhere"))
    assert (asked.criterion, asked.requests) == ("safety", 2 * 8 * 16)
