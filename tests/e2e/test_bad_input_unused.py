"""Keys that have no effect on what they stand in: refused, or said once where nothing can go wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bad_input_cases import ABSENT, Case, changed, check, lay_out, sacpo

from sacpo.pipeline.run import resolved_yaml
from sacpo.recipe import load_recipe, parse_recipe
from sacpo.recipe.notices import notices

SAMPLED = {"prompts": "demos", "judge": "refusal"}
LLM = {"kind": "llm", "panel": {"model": "m", "base_url": "http://127.0.0.1:1/v1", "api_key_env": ""}}
LEARNED = {"kind": "reward-model", "dataset": "pairs"}
GIVEN = {"kind": "reward-model", "model": "somewhere"}
UNUSED = [
    Case(
        f"unused-{name}",
        changes,
        what=f"'{changes_key}' has no effect here",
        where=f"recipe.yaml, {where}",
        do="correct",
    )
    for name, changes_key, where, changes in [
        ("sign-of-refusals", "sign", "evaluate.judges.refusal", {"evaluate.judges.refusal.sign": -1}),
        (
            "unsafe-below-of-refusals",
            "unsafe_below",
            "evaluate.judges.refusal",
            {"evaluate.judges.refusal.unsafe_below": 0},
        ),
        ("orders-of-refusals", "orders", "evaluate.judges.refusal", {"evaluate.judges.refusal.orders": ["ab"]}),
        (
            "training-of-refusals",
            "training",
            "evaluate.judges.refusal",
            {"evaluate.judges.refusal.training.max_steps": 3},
        ),
        ("length-of-refusals", "max_length", "evaluate.judges.refusal", {"evaluate.judges.refusal.max_length": 7}),
        ("sign-of-llm", "sign", "evaluate.judges.h", {"evaluate.judges.h": {**LLM, "sign": -1}}),
        ("max-length-of-llm", "max_length", "evaluate.judges.h", {"evaluate.judges.h": {**LLM, "max_length": 7}}),
        ("revision-of-llm", "revision", "evaluate.judges.h", {"evaluate.judges.h": {**LLM, "revision": "main"}}),
        ("repeats-of-a-reward-model", "repeats", "evaluate.judges.h", {"evaluate.judges.h": {**LEARNED, "repeats": 3}}),
        (
            "revision-of-a-trained-one",
            "revision",
            "evaluate.judges.h",
            {"evaluate.judges.h": {**LEARNED, "revision": "x"}},
        ),
        (
            "training-of-a-given-one",
            "training",
            "evaluate.judges.h",
            {"evaluate.judges.h": {**GIVEN, "training": {"max_steps": 1}}},
        ),
        ("cut-of-a-given-one", "too_long", "evaluate.judges.h", {"evaluate.judges.h": {**GIVEN, "too_long": "drop"}}),
        ("mix-of-a-file", "mix", "data.pairs", {"data.pairs.mix": {"ordinary": 1.0}}),
        ("unseen-tasks-of-a-file", "unseen_tasks", "prompts.report", {"prompts.report.unseen_tasks": True}),
        (
            "kind-of-xstest",
            "kind",
            "prompts.report",
            {"prompts.report.format": "xstest", "prompts.report.kind": "ordinary"},
        ),
        ("ties-of-demonstrations", "ties", "data.demos", {"data.demos.ties": "drop"}),
        ("hard-demonstrations", "soft_labels", "data.demos", {"data.demos.soft_labels": "harden"}),
        ("held-out-demonstrations", "holdout", "data.demos", {"data.demos.holdout": 0.5}),
        (
            "scale-of-hard-labels",
            "score_scale",
            "steps.0.dataset",
            {"steps.0.dataset": {**SAMPLED, "labels": "hard", "score_scale": 2}},
        ),
        ("temperature-of-greedy", "temperature", "evaluate.generation", {"evaluate.generation.temperature": 0.7}),
        ("nucleus-of-greedy", "top_p", "evaluate.generation", {"evaluate.generation.top_p": 0.9}),
        ("revision-of-a-config", "revision", "base", {"base.revision": "main"}),
        ("code-of-a-config", "trust_remote_code", "base", {"base.trust_remote_code": True}),
        ("type-of-8-bits", "type", "base.quantization", {"base.quantization": {"bits": 8, "type": "fp4"}}),
        (
            "size-of-the-worlds-words",
            "vocab_size",
            "base.tokenizer",
            {"base.tokenizer": {"kind": "world", "vocab_size": 400}},
        ),
        ("criterion-of-a-rate", "criterion", "constraints.0", {"constraints.0.criterion": "refusal"}),
    ]
]
UNUSED_TOGETHER = [
    Case(
        "budget-without-llm",
        {"evaluate.budget.max_requests": 5},
        what="a budget has no effect here",
        where="evaluate.budget",
        value="5",
        do="leave it out",
    ),
    Case(
        "orders-of-labels",
        {"evaluate.judges.safety": {**LLM, "orders": ["ba"]}},
        what="'orders' has no effect here",
        where="evaluate.judges.safety.orders",
        value="ba",
        do="leave it out",
    ),
    Case("no-dropout-of-all", {"steps.0.lora.lora_dropout": 1}, what="range", where="steps.0.lora.lora_dropout"),
]


@pytest.mark.parametrize("case", [*UNUSED, *UNUSED_TOGETHER], ids=lambda case: case.name)
def test_a_key_without_effect_is_refused(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(case)
    check(case, sacpo(("validate", "recipe.yaml"), capsys, monkeypatch))


@pytest.mark.parametrize("judge", [{"kind": "refusal"}, LLM, LEARNED, GIVEN], ids=lambda judge: judge["kind"])
def test_a_recipe_with_all_its_defaults_can_be_read_back(judge: dict[str, Any], tmp_path: Path) -> None:
    recipe = parse_recipe(changed({"evaluate.judges": {"helpfulness": judge}}))
    path = tmp_path / "recipe.yaml"
    path.write_text(resolved_yaml(recipe))
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.more": {"format": "preference", "path": "pairs.jsonl"}}, "nothing names the data source 'more'"),
        ({"world": {"seed": 3}}, "no part of the recipe uses the 'world'"),
        ({"prompts": ABSENT, "constraints": ABSENT}, "without 'prompts' nothing is evaluated"),
        ({"evaluate.generation.engine": "vllm", "evaluate.generation.batch_size": 4}, "vLLM fills its batches itself"),
    ],
)
def test_what_does_no_harm_is_said(changes: dict[str, Any], words: str) -> None:
    quiet = {"constraints": ABSENT}
    assert notices(parse_recipe(changed(quiet))) == []
    (found,) = notices(parse_recipe(changed({**quiet, **changes})))
    assert words in found


def test_a_source_that_is_only_held_out_is_used() -> None:
    held = {"format": "preference", "path": "pairs.jsonl", "holdout": 1}
    recipe = changed({"constraints": ABSENT, "data.more": held})
    assert notices(parse_recipe(recipe)) == []
