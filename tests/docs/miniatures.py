"""Miniatures of the experiments: a recipe's own file with smaller numbers, run to its end in this process.

No recipe is named here. A size is divided by the same number wherever it stands, so what is a quarter or twice of
something else stays so: steps, judges, stages and the models that they give are those of the file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from sacpo.pipeline.run import Run, plan, run
from sacpo.recipe import Recipe, parse_recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes" / "experiments").glob("*.yaml"))
BASE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
WORLD = {"ordinary": 8, "restricted": 6, "borderline": 4}
SFT = {"num_train_epochs": 6, "per_device_train_batch_size": 16, "learning_rate": 1.5e-2}
"""With this the base learns to write sentences and to end them; of babble no two models' figures differ."""
DIVIDED = {
    "per_device_train_batch_size": 2,
    "max_steps": 4,
    "logging_steps": 5,
    "eval_steps": 5,
    "answers": 8,
    "max_prompts": 25,
    "kl_prompts": 25,
    "max_new_tokens": 2,
}
"""What a size is divided by, wherever it stands; none gets below 1."""
LIMITS = {"data": 50, "prompts": 25}
"""What the limits of data sets and of prompt sets are divided by."""
DEMONSTRATIONS = 320
SHOWN = 0.9
"""A bound that so few tuning prompts can show."""
LEARNT, MARGIN = 64, 4
"""Pairs of which a score is learned, at least: fewer are refused; and prompts more, of which some have no pair."""


def miniature(path: Path) -> dict[str, Any]:
    """Return an experiment's recipe with smaller numbers."""
    raw: dict[str, Any] = smaller(yaml.safe_load(path.read_text(encoding="utf-8")))
    raw["training"]["warmup_steps"] = 0  # it would be all of so few steps
    for part, divisor in LIMITS.items():
        for spec in raw[part].values():
            spec["limit"] = divided(spec["limit"], divisor)
    for bound in raw.get("constraints", []):
        bound |= {"at_most": SHOWN} if "at_most" in bound else {}
    config = raw["base"]["config"]
    config.update(BASE)
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"][-config["num_hidden_layers"] :]
    raw["world"] |= WORLD
    raw["sft"]["training"] |= SFT
    raw["data"][raw["sft"]["dataset"]]["limit"] = DEMONSTRATIONS
    learnt = {name for step in raw["steps"] for name in step.get("resample", {}).get("learn", {}).values()}
    for step in raw["steps"]:
        if step["name"] in {name.partition("@")[0] for name in learnt}:
            spec = raw["data"][step["dataset"]["prompts"]]
            spec["limit"] = max(spec["limit"], LEARNT)
        resample = step.get("resample", {})
        for label in resample.get("label", {}).values():
            pairs = resample.get("batches", 1) / label.get("pairs", 1)
            spec = raw["data"][label.get("prompts", step["dataset"])]
            spec["limit"] = max(spec["limit"], round(LEARNT * pairs) + MARGIN * ("pairs" in label))
    return raw


def smaller(node: Any) -> Any:
    """Return a copy of YAML in which every size is divided."""
    if isinstance(node, list):
        return [smaller(item) for item in node]
    if not isinstance(node, dict):
        return node
    small = {key: smaller(value) for key, value in node.items()}
    return small | {key: divided(node[key], by) for key, by in DIVIDED.items() if isinstance(node.get(key), int)}


def divided(size: int, divisor: int) -> int:
    """Return a size divided, rounded up."""
    return -(-size // divisor)


def lacking(path: Path) -> str | None:
    """Return why a recipe has no miniature here; None: it has one."""
    text = path.read_text(encoding="utf-8")
    if (model := yaml.safe_load(text)["base"].get("model")) is not None:
        return f"{path.name} starts from the weights {model}, and no smaller ones can take their place"
    unset = sorted({name for name in re.findall(r"\$\{(\w+)", text) if name not in os.environ})
    return f"{path.name} reads real data: set {', '.join(unset)}" if unset else None


def run_miniature(path: Path, runs: Path) -> tuple[Recipe, Run]:
    """Run a recipe's miniature; a stage that another run in the folder has finished is copied from there."""
    recipe = parse_recipe(miniature(path), source=path.name)
    manifests = runs.glob("*/stages/**/manifest.json")
    finished = {json.loads(place.read_text(encoding="utf-8"))["key"]: place.parent for place in manifests}
    for status in plan(recipe, runs=runs).statuses:
        if status.state == "open" and status.key in finished:
            shutil.copytree(finished[status.key], runs / recipe.name / "stages" / status.stage.name)
    return recipe, run(recipe, runs=runs, preflight=False)
