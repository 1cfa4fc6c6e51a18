"""Merging: two checkpoints of 1.2 GB in bf16 into three merge weights q, all written, against mergekit.

`SACPO_MERGEKIT` names the Python of an environment that has mergekit 0.1.5, which wants other versions of libraries.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Results, machine, ratios, run_side

WEIGHTS = (0.25, 0.5, 0.75)
PEER, TITLE = "mergekit 0.1.5, linear", "two 1.2 GB bf16 checkpoints into 3 values of q"
SHAPE = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 1536,
    "intermediate_size": 4096,
    "num_hidden_layers": 18,
    "num_attention_heads": 16,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
KEY = hashlib.sha256(json.dumps([WEIGHTS, SHAPE]).encode()).hexdigest()[:12]


def compare(pairs: int, results: Results) -> None:
    """Measure what is not measured yet, both sides in turn, and print times and the ratio."""
    peer = mergekit() is not None
    key = KEY if peer else f"{KEY}-alone"  # one side alone is measured again once there is a peer
    done = len(results.of(key))
    if done < pairs:
        with tempfile.TemporaryDirectory() as folder:
            run_side("benchmarks.merging", "write", folder)
            for number in range(done, pairs):
                theirs = run_side("benchmarks.merging", "mergekit", folder) if peer else None
                ours = run_side("benchmarks.merging", "sacpo", folder)
                sides = {"pair": number, "machine": machine(), "ours": ours, "theirs": theirs}
                results.add({"name": "merge", "key": key, "title": TITLE, "peer": PEER, "measure": "merge", **sides})
    for text in describe(results.of(key)[:pairs]):
        print(f"  {text}")


def describe(lines: list[dict[str, Any]]) -> list[str]:
    """Return what the pairs of runs show, line by line; without mergekit, this package alone."""
    compared = [(line["theirs"], line["ours"]) for line in lines if line["theirs"]]
    found = []
    for name, runs in (("sacpo", [line["ours"] for line in lines]), ("mergekit", [other for other, _ in compared])):
        if runs:
            seconds, peak = [run["seconds"] for run in runs], max(run["peak_mb"] for run in runs)
            spread = f"{median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"
            found.append(f"{name}: {spread}, peak {peak:.0f} MB")
    if not compared:
        advice = "pip install mergekit==0.1.5 in an environment of its own, SACPO_MERGEKIT=its Python"
        return [*found, f"no mergekit: {advice}"]
    found.append(ratios([other["seconds"] for other, _ in compared], [own["seconds"] for _, own in compared]))
    memory = median(own["peak_mb"] / other["peak_mb"] for other, own in compared)
    return [*found, f"peak memory: {memory:.2f} of mergekit's"]


def mergekit() -> Path | None:
    """Return mergekit's command: that of the environment which `SACPO_MERGEKIT` names, or of this one."""
    python = os.environ.get("SACPO_MERGEKIT")
    if python is None and importlib.util.find_spec("mergekit") is None:
        return None
    command = Path(python or sys.executable).with_name("mergekit-yaml")
    if not command.is_file():
        sys.exit(f"no mergekit-yaml beside {python or sys.executable}")
    return command


def main() -> None:
    """Run one side and print what was measured as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["write", "sacpo", "mergekit"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    {"write": write, "sacpo": run_sacpo, "mergekit": run_mergekit}[options.side](options.folder)
    seconds = time.perf_counter() - started
    who = resource.RUSAGE_CHILDREN if options.side == "mergekit" else resource.RUSAGE_SELF
    print(json.dumps({"seconds": seconds, "peak_mb": resource.getrusage(who).ru_maxrss / 1024}))


def write(folder: Path) -> None:
    """Write the two checkpoints."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    for seed, name in enumerate(("A", "B")):
        torch.manual_seed(seed)
        options = {key: value for key, value in SHAPE.items() if key != "model_type"}
        config = AutoConfig.for_model(str(SHAPE["model_type"]), **options)
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder / name)


def run_sacpo(folder: Path) -> None:
    """Merge into all weights in one pass."""
    from sacpo.merge import linear, merge_checkpoints, tabulate

    terms, rows = tabulate([linear(folder / "A", folder / "B", q) for q in WEIGHTS])
    merge_checkpoints(terms, rows, [folder / f"sacpo-{q}" for q in WEIGHTS])


def run_mergekit(folder: Path) -> None:
    """Merge into one weight after the other, as mergekit does."""
    command = mergekit()
    assert command is not None
    for q in WEIGHTS:
        models = [{"model": str(folder / name), "parameters": {"weight": w}} for name, w in (("A", 1 - q), ("B", q))]
        recipe = folder / f"mergekit-{q}.yaml"
        recipe.write_text(json.dumps({"merge_method": "linear", "dtype": "bfloat16", "models": models}))
        subprocess.run([command, recipe, folder / f"mergekit-{q}"], check=True, capture_output=True)


if __name__ == "__main__":
    main()
