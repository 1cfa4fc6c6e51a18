"""The last line of `sacpo sft` and `sacpo align`: what the training's own files say of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from sacpo.plain import JsonMapping, JsonObject
from sacpo.system.files import read_json

ACCURACY = "rewards/accuracies"
LEAST_FALL = 0.001
"""A loss that fell by less than this share of the first one is taken for one that did not fall."""


def training_outcome(folder: Path, *, preferences: bool = True) -> JsonObject:
    """Return what `summary.json` and `metrics.jsonl` of a training say; nothing is computed anew.

    Args:
        folder: The training's.
        preferences: Whether it learned preferences; a fine-tuning on demonstrations has no accuracy.
    """
    summary = read_json(folder / "summary.json")
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    held = folder / "heldout.json"
    found = outcome(summary, [json.loads(line) for line in lines], preferences=preferences)
    return {**found, "heldout": read_json(held)} if held.is_file() else found


def outcome(summary: JsonMapping, log: Sequence[Mapping[str, float]], *, preferences: bool = True) -> JsonObject:
    """Return records, steps, losses, the last logged training accuracy (null: none is logged) and a warning, or null.

    That accuracy is of the pairs that the last logged steps trained on; only a training on preferences has one.
    """
    accuracy = next((entry[ACCURACY] for entry in reversed(log) if ACCURACY in entry), None)
    first, last = _compared(summary, log, preferences)
    warning = None
    if len(log) < 2:
        warning = "one step was logged, which cannot show whether anything was learnt (training.logging_steps)"
    elif first - last < LEAST_FALL * abs(first):
        parts = ("last loss", "first") if preferences else ("mean loss of the last quarter", "one of the first")
        others = ", a larger learning_rate or a smaller beta" if preferences else " or a larger learning_rate"
        fell = f"the {parts[0]} is not {LEAST_FALL:.1%} below the {parts[1]}"
        warning = f"nothing was learnt: {fell}; give more steps{others}"
    records = summary.get("records", {})
    return {
        "records": {name: records.get(name) for name in ("records", "truncated", "dropped")},
        "steps": summary["steps"],
        "first_loss": summary["first_loss"],
        "last_loss": summary["last_loss"],
        **({"training_accuracy": accuracy} if preferences else {}),
        "warning": warning,
    }


def _compared(summary: JsonMapping, log: Sequence[Mapping[str, float]], preferences: bool) -> tuple[float, float]:
    """Return the losses that tell whether anything was learnt.

    A training on preferences starts at a loss that all records share. One on demonstrations starts at that of its first
    batch, so that the means of the first and the last quarter of its log are compared.
    """
    losses = [entry["loss"] for entry in log if "loss" in entry]
    if preferences or not losses:
        return summary["first_loss"], summary["last_loss"]
    part = -(-len(losses) // 4)
    return sum(losses[:part]) / part, sum(losses[-part:]) / part


def closing_line(found: JsonMapping) -> str:
    """Return the outcome as one line."""
    parts = [f"{found['steps']:,} steps", f"loss {found['first_loss']:.4f} to {found['last_loss']:.4f}"]
    if "training_accuracy" in found:
        parts.append(_held(found) or _logged(found["training_accuracy"]))
    line = ", ".join(parts) + _not_whole(found["records"])
    return line if found["warning"] is None else f"{line}; warning: {found['warning']}"


def _logged(accuracy: float | None) -> str:
    return "no accuracy was logged" if accuracy is None else f"last logged accuracy on training pairs {accuracy:.1%}"


def _not_whole(records: JsonMapping) -> str:
    """Return how many records were cut or left out, in words."""
    every = records["records"]
    said = [
        f"{n:,} of {every:,} records left out ({reason})" for reason, n in sorted((records["dropped"] or {}).items())
    ]
    if records["truncated"]:
        said.insert(0, f"{records['truncated']:,} of {every:,} records cut at max_length")
    return "".join(f"; {one}" for one in said)


def _held(found: JsonMapping) -> str:
    held = found.get("heldout")
    if held is None:
        return ""
    if held["accuracy"] is None:
        return "no held-out pair is left that is no tie"
    value, (low, high) = held["accuracy"]["value"], held["accuracy"]["ci95"]
    ends = "" if low is None else f" ({low:.1%} to {high:.1%})"
    chose = "" if held.get("independent", True) else ", which chose its weights: no independent estimate"
    return f"accuracy on {held['pairs']} held-out pairs {value:.1%}{ends}{chose}"
