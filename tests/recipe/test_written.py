"""A value of the environment is used and never written: recipe.yaml, manifests, results and report keep the name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sacpo.pipeline.run import resolved_yaml
from sacpo.recipe import Recipe, load_recipe, parse_recipe
from sacpo.recipe.notices import notices
from sacpo.system.runs import RunFolder

TOKEN = "correct-horse-battery-9"
TEXT = """\
name: secretive
base: {model: "${PLACE}/base"}
data:
  p: {format: preference, path: ["${PLACE}/a.jsonl", b.jsonl], as: pairs}
steps:
  - {name: H, criterion: h, from: sft, beta: "${BETA}", dataset: p}
prompts: {r: {role: report, format: prompts, path: r.jsonl}}
evaluate:
  judges:
    helpfulness:
      kind: llm
      panel: [{model: m, extra: {headers: {authorization: "Bearer ${MY_TOKEN}"}, keys: ["${MY_TOKEN}"]}}]
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    for name, value in (("MY_TOKEN", TOKEN), ("PLACE", "/some/place"), ("BETA", "0.5")):
        monkeypatch.setenv(name, value)
    (tmp_path / "r.yaml").write_text(TEXT)
    return load_recipe(tmp_path / "r.yaml")


def test_the_value_is_used(recipe: Recipe) -> None:
    extra = recipe.evaluate.judges["helpfulness"].judges[0].extra
    assert extra == {"headers": {"authorization": f"Bearer {TOKEN}"}, "keys": [TOKEN]}
    assert recipe.base.model == "/some/place/base"
    assert recipe.data["p"].paths == ("/some/place/a.jsonl", "b.jsonl")
    assert recipe.steps[0].betas == (0.5,)


def test_the_copies_of_a_recipe_keep_the_name_and_mean_the_same(recipe: Recipe, tmp_path: Path) -> None:
    text = resolved_yaml(recipe)
    assert TOKEN not in text
    assert "/some/place" not in text
    written = yaml.safe_load(text)
    assert written["evaluate"]["judges"]["helpfulness"]["panel"][0]["extra"] == {
        "headers": {"authorization": "Bearer ${MY_TOKEN}"},
        "keys": ["${MY_TOKEN}"],
    }
    assert written["data"]["p"]["path"] == ["${PLACE}/a.jsonl", "b.jsonl"]
    assert written["steps"][0]["from"] == "sft"
    (tmp_path / "again.yaml").write_text(text)
    assert load_recipe(tmp_path / "again.yaml").model_dump() == recipe.model_dump()


def test_a_manifest_shows_the_name_and_its_key_knows_the_value(recipe: Recipe, tmp_path: Path) -> None:
    def work(out: Path) -> None:
        (out / "x").write_text("x")

    config = {"judge": recipe.evaluate.judges["helpfulness"].model_dump(mode="json"), "base": recipe.base.model}
    inputs = {"base.model": json.dumps({"hub": recipe.base.model, "token": TOKEN})}
    with RunFolder(tmp_path / "run", hidden=recipe.hidden) as folder:
        done = folder.do("s", config, inputs, work)
        assert folder.do("s", config, inputs, work) == done
        assert done.key == folder.key("s", config, inputs)
        other = {**config, "base": "elsewhere"}
        assert folder.key("s", other, inputs) != done.key
    text = (done.path / "manifest.json").read_text()
    assert TOKEN not in text
    assert done.manifest()["config"]["base"] == "${PLACE}/base"
    assert done.manifest()["inputs"] == {"base.model": json.dumps({"hub": "${PLACE}/base", "token": "${MY_TOKEN}"})}


def minimal(**changes: Any) -> dict[str, Any]:
    return {"name": "r", "base": {"model": "x"}, **changes}


def test_values_that_are_shown_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TITLE", "Ours")
    assert notices(parse_recipe(minimal(report={"title": "Run of ${MY_TITLE}"}))) == [
        "the value of Run of ${MY_TITLE} is published: results and reports show 'report.title'"
    ]
    assert notices(parse_recipe(minimal(base={"model": "x", "template": "${MY_TITLE} {prompt}"}))) == []


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"api_key": "x"}, True),
        ({"h": {"Authorization": "Basic abc"}}, True),
        ({"h": "Bearer abcdefghijklmnopqrstuv"}, True),
        ({"h": "hf_abcdefghijklmnopqrstuv"}, True),
        ({"h": "sk-abcdefghijklmnopqrstuv"}, True),
        ({"api_key": "${MY_TOKEN}"}, False),
        ({"eos_token": "</s>", "task": "ask-me-anything-you-want"}, False),
    ],
)
def test_a_secret_in_the_recipe_itself_is_said(
    extra: dict[str, Any], told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", TOKEN)
    judge = {"kind": "llm", "panel": {"model": "m", "extra": extra}}
    prompts = {"r": {"role": "report", "format": "prompts", "path": "r.jsonl"}}
    found = notices(parse_recipe(minimal(evaluate={"judges": {"h": judge}}, prompts=prompts)))
    assert ["looks like a secret" in text for text in found] == ([True] if told else [])


def test_what_vllm_does_not_answer_is_said() -> None:
    """Two steps, one of them with adapters, and a token-level merge of both."""
    steps = [
        {"name": name, "criterion": "help", "dataset": "d", "beta": 0.1, "from": "sft", **more}
        for name, more in (("H", {}), ("S", {"lora": {"r": 2}}))
    ]
    merge = [{"name": "T", "method": "token-level", "models": ["H", "S"], "q": 0.5}]
    prompts = {"r": {"role": "report", "format": "prompts", "path": "r.jsonl"}}
    data = {"d": {"format": "preference", "path": "d.jsonl"}}
    shared = {"steps": steps, "merge": merge, "prompts": prompts, "data": data}
    found = notices(parse_recipe(minimal(evaluate={"generation": {"engine": "vllm"}}, **shared)))
    assert found == [
        "vLLM mixes no logits: T answers with transformers",
        "adapters answer on the base that stays loaded, not by vLLM: S",
    ]
    assert notices(parse_recipe(minimal(**shared))) == []


@pytest.mark.parametrize(
    ("sft", "h", "s", "told"),
    [
        (None, {}, {}, "H, S, P, sum"),
        ({"r": 2}, None, None, "sft"),
        ({"r": 2}, {}, {}, "sft, H, S, P, sum"),
        (None, {}, None, "H"),  # S has weights of its own: a merge with it is written
        (None, {"use_dora": True}, {"bias": "all"}, None),
        ({"r": 2, "use_dora": True}, {"r": 2}, {"r": 2}, "H, S, P, sum"),
    ],
)
def test_adapters_that_vllm_does_not_answer_for_are_those_that_are_written_so(
    sft: dict[str, Any] | None, h: dict[str, Any] | None, s: dict[str, Any] | None, told: str | None
) -> None:
    """LoRA that is not plain is written merged; a merge is adapters where its models are, on one base."""
    steps = [
        {"name": name, "criterion": "help", "dataset": "d", "beta": 0.1, "from": "sft", "lora": lora}
        for name, lora in (("H", h), ("S", s))
    ]
    methods = {"P": "linear", "sum": "task-vectors"}
    shared = {
        "steps": steps,
        "merge": [{"name": n, "method": m, "models": ["H", "S"], "q": 0.5} for n, m in methods.items()],
        "sft": {"dataset": "s", "lora": sft},
        "prompts": {"r": {"role": "report", "format": "prompts", "path": "r.jsonl"}},
        "data": {"d": {"format": "preference", "path": "d.jsonl"}, "s": {"format": "alpaca", "path": "s.jsonl"}},
        "evaluate": {"generation": {"engine": "vllm"}},
    }
    words = "adapters answer on the base that stays loaded, not by vLLM: "
    assert notices(parse_recipe(minimal(**shared))) == ([words + told] if told else [])
