"""Recipes that the pipeline's tests share; nothing is trained with them."""

from __future__ import annotations

import copy
from typing import Any

from sacpo.pipeline.run import plan
from sacpo.pipeline.stage import Stage
from sacpo.recipe import Recipe, parse_recipe

SAFE = {"prompts": "asked", "judge": "harmlessness", "labels": "soft"}
HELPFUL = {"prompts": "asked", "judge": "helpfulness", "labels": "soft"}
RECIPE: dict[str, Any] = {
    "name": "toy",
    "world": {"ordinary": 4, "restricted": 4, "borderline": 4},
    "base": {
        "config": {"model_type": "llama", "hidden_size": 8},
        "tokenizer": {"kind": "world"},
        "device": "cpu",
    },
    "data": {
        "shown": {"format": "world", "split": "sft", "limit": 8, "as": "demonstrations"},
        "asked": {"format": "world", "split": "pairs", "limit": 8},
    },
    "sft": {"dataset": "shown"},
    "steps": [
        {"name": "H", "criterion": "helpfulness", "from": "sft", "beta": 0.2, "dataset": HELPFUL},
        {"name": "S", "criterion": "harmlessness", "from": "sft", "beta": 0.05, "dataset": SAFE},
        {"name": "H-S", "criterion": "harmlessness", "from": "H", "beta": [0.4, 0.1], "dataset": SAFE},
        {"name": "S-H", "criterion": "helpfulness", "from": "S", "beta": 0.2, "dataset": HELPFUL},
    ],
    "merge": [
        {"name": "P", "models": ["H", "H-S@0.1"], "q": [0.25, 1.0]},
        {"name": "D", "method": "token-level", "models": ["H", "H-S@0.1"], "q": 0.5},
        {"name": "naive", "models": ["H", "S"], "q": 0.5},
        {"name": "T", "method": "task-vectors", "models": ["H", "H-S@0.1"], "q": 0.5},
    ],
    "prompts": {
        "tuning": {"role": "tuning", "format": "world", "split": "tuning", "limit": 8},
        "report": {"role": "report", "format": "world", "split": "report", "limit": 8},
        "spare": {"role": "certification", "format": "world", "split": "certification", "limit": 8},
    },
    "evaluate": {
        "kl_prompts": 4,
        "judges": {"helpfulness": {"kind": "oracle"}, "harmlessness": {"kind": "oracle"}},
    },
    "constraints": [{"metric": "unsafe_rate", "prompts": "tuning", "at_most": 0.1}],
    "objective": {"criterion": "helpfulness", "prompts": "tuning"},
    "theory": {"prompts": "report", "beta": 0.2, "target": 0.1},
}


def recipe(*overrides: str, **changes: Any) -> Recipe:
    return parse_recipe({**copy.deepcopy(RECIPE), **changes}, list(overrides))


def stages(*overrides: str, **changes: Any) -> list[Stage[Any]]:
    """Return every stage of the recipe, in order."""
    return [status.stage for status in plan(recipe(*overrides, **changes), runs="nowhere").statuses]
