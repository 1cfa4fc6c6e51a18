"""Run each recipe of recipes/experiments on each seed: `run_experiments.py RUNS 1 2 3 4`, as `make experiments` does.

A finished run is not done again, and a killed one goes on. A recipe whose data or weights are not on this machine is
left out, with a line that says what is missing. The first command that fails ends the script with its exit code.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
DATA = "SACPO_DATA"


def missing(recipe: Path) -> str | None:
    """Return what a recipe needs that this machine does not have; None: nothing.

    A base that a recipe names is a folder of weights: no experiment downloads a model.
    """
    text = recipe.read_text(encoding="utf-8")
    if DATA in text and not os.environ.get(DATA):
        return f"its data; export {DATA}=FOLDER (docs/gemma.md says which files)"
    model = yaml.safe_load(text)["base"].get("model")
    if model is not None and not Path(model).is_dir():
        return f"the weights {model} (docs/gemma.md says how they are made)"
    return None


def options(recipe: Path, runs: Path, seed: str) -> list[str]:
    """Return the options of `sacpo run`: a recipe with a world has a world of its own for each seed."""
    set_seed = ["--set", f"seed={seed}"]
    if "world" in yaml.safe_load(recipe.read_text(encoding="utf-8")):
        set_seed += ["--set", f"world.seed={seed}"]
    return [str(recipe), "--runs", str(runs / f"seed-{seed}"), *set_seed]


def main() -> None:
    """Run them."""
    if len(sys.argv) < 3:
        sys.exit("say run_experiments.py RUNS SEED ...")
    runs, seeds = Path(sys.argv[1]), sys.argv[2:]
    if wrong := [seed for seed in seeds if not seed.isdecimal()]:
        sys.exit(f"a seed is a whole number, not '{wrong[0]}': say run_experiments.py RUNS SEED ...")
    for recipe in sorted((ROOT / "recipes" / "experiments").glob("*.yaml")):
        if (lacks := missing(recipe)) is not None:
            print(f"{recipe.name} is left out: this machine lacks {lacks}")
            continue
        for seed in seeds:
            done = subprocess.run([sys.executable, "-m", "sacpo", "run", *options(recipe, runs, seed)], check=False)
            if done.returncode:
                sys.exit(done.returncode)


if __name__ == "__main__":
    main()
