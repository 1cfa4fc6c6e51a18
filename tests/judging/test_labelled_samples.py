"""A run that learns its scores from what language models say of its own samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from endpoint import Endpoint, share, sign_of

import sacpo
from sacpo.data.records import Pair, read_jsonl
from sacpo.pipeline.run import plan
from sacpo.pipeline.sizes import judgings
from sacpo.recipe import parse_recipe

PROMPTS, PAIRS = 30, 4
CRITERIA = ("helpfulness", "harmlessness")
OTHERS = 2 * 2 + 2 * 2  # the report prompts: W beside sft in both orders, and labels of both


def recipe(url: str) -> Any:
    panel = {"model": "m", "base_url": url, "api_key_env": "", "structured": False, "retries": 1}
    training = {"num_train_epochs": 3, "per_device_train_batch_size": 48, "learning_rate": 8.0e-3}
    step = {
        "name": "W",
        "criterion": "joint",
        "algorithm": "rwr",
        "from": "sft",
        "beta": 0.5,
        "max_length": 96,
        "dataset": "asked",
        "training": {"max_steps": 2, "per_device_train_batch_size": 16},
        "resample": {
            "judge": {"helpfulness": 1.0, "harmlessness": 2.0},
            "label": {
                name: {"judge": name, "pairs": PAIRS, "ties": "keep"} for name in ("helpfulness", "harmlessness")
            },
            "samples": 8,
            "draw": "all",
            "max_new_tokens": 40,
            "least_ess": 1.0,
        },
    }
    return parse_recipe(
        {
            "name": "labelled",
            "world": {"seed": 0},
            "base": {
                "config": {
                    "model_type": "llama",
                    "hidden_size": 48,
                    "intermediate_size": 96,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 2,
                    "max_position_embeddings": 96,
                },
                "tokenizer": {"kind": "world"},
                "template": "chat",
                "device": "cpu",
            },
            "data": {
                "demonstrations": {"format": "world", "split": "sft", "limit": 800, "as": "demonstrations"},
                "asked": {"format": "world", "split": "pairs", "limit": PROMPTS},
            },
            "sft": {"dataset": "demonstrations", "max_length": 96, "training": training},
            "steps": [step],
            "prompts": {"report": {"role": "report", "format": "world", "split": "report", "limit": 2}},
            "evaluate": {
                "generation": {"max_new_tokens": 8},
                "kl_prompts": 0,
                "judges": {
                    "helpfulness": {"kind": "llm", "panel": panel},
                    "harmlessness": {"kind": "llm", "rubric": "harmlessness", "panel": panel},
                },
            },
        }
    )


def judging(body: dict[str, Any], attempt: int) -> str:
    """Scores that follow from what is shown."""
    text = body["messages"][1]["content"]
    return f"VERDICT {sign_of(body)}: {1 + int(9 * share('a', text))} {1 + int(9 * share('b', text))}"


def test_models_compare_a_steps_samples_and_what_they_say_is_learnt(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    with Endpoint(judging) as server:
        asked = recipe(server.url)
        planned = sum(one.requests or 0 for one in judgings(asked, plan(asked, runs=tmp_path)))
        sacpo.run(asked, runs=tmp_path)
        paid = len(server.bodies)
        sacpo.run(asked, runs=tmp_path)
        assert len(server.bodies) == paid, "nothing is asked twice"
    assert planned == 2 * 2 * PROMPTS * PAIRS + OTHERS, "both judges compare in both orders"
    assert planned - 60 < paid <= planned, "some prompts have fewer different answers"
    stages = tmp_path / "labelled" / "stages"
    for name in CRITERIA:
        pairs = read_jsonl(stages / "pairs" / "W" / "own" / name / "train.jsonl", Pair)
        assert len({(pair.prompt.id, frozenset((pair.chosen, pair.rejected))) for pair in pairs}) == len(pairs) > 60
        facts = json.loads((stages / "head" / "W" / name / "head.json").read_text())
        assert facts["fit"]["pairs"] == len(pairs)
