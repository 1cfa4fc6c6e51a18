"""A result as a line of text, and all of them as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import SECTIONS, SPARE

SHOWN = 4
"""Of so many steps of a training one is shown."""


def said(line: dict[str, Any]) -> str:
    """Return a line of a run as text; "" for what goes to the file alone."""
    writers = {
        "plan": _plan,
        "begun": _begun,
        "environment": _environment,
        "matmul": lambda x: f"matrix product {x['side']}^3 {x['kind']}: {x['tflops']:.3g} TFLOP/s",
        "copy": lambda x: f"copy in memory: {x['gb_per_s']:.0f} GB/s",
        "agreement": _agreement,
        "disagrees": lambda x: f"{_form(x)}: {x['error']} at {x['place']}: {x['message']}",
        "step": _step,
        "side": _side,
        "kernels": _kernels,
        "resumed": _resumed,
        "generated": lambda x: (
            f"{x['by']}: {x['tokens_per_second']:.0f} tokens/s ({x['tokens']} in {x['seconds']:.2f} s)"
        ),
        "sampled": lambda x: f"{x['by']}: mean log-prob of {x['tokens']} tokens, top_p {x['top_p']}: {x['mean']:.3f}",
        "same": lambda x: f"the same greedy tokens as {x['peer']}: {x['share']:.1%}",
        "written": lambda x: f"two checkpoints written: {x['gb']:.2f} GB in {x['seconds']:.1f} s",
        "merged": _merged,
        "notice": lambda x: f"notice: {x['text']}",
        "not run": lambda x: f"not run: {x['reason']}",
        "failed": _failed,
    }
    writer = writers.get(line["part"])
    if writer is None:
        return ""
    label = f" {line['label']}:" if line["label"] else ""
    text = writer(line)
    return f"[{line['section']}]{label} {text}" if text else ""


def _plan(line: dict[str, Any]) -> str:
    told = ", ".join(f"{name} {seconds:.0f}" for name, seconds in line["budgets"].items())
    whole = sum(line["budgets"].values())
    return f"seconds at most, in this order: {told}; in all {whole:.0f}, of which {line['left']:.0f} are there"


def _begun(line: dict[str, Any]) -> str:
    return f"{line['title']} ({line['left']:.0f} s left)"


def _environment(line: dict[str, Any]) -> str:
    packages = " ".join(f"{name} {version}" for name, version in line["packages"].items())
    return (
        f"{line['card']}, {line['memory_gb']:.0f} GB, driver {line['driver']}, torch {line['torch']}, "
        f"CUDA {line['cuda']}, transformers {line['transformers']}, {line['cores']} cores, "
        f"C compiler {line['compiler']}; {packages}; missing: {', '.join(line['missing']) or 'nothing'}"
    )


def _form(line: dict[str, Any]) -> str:
    return f"{line['dtype']} {line['layout']} {line['attention']}"


def _agreement(line: dict[str, Any]) -> str:
    gradient = "no gradient" if line["gradient"] is None else f"gradient {line['gradient']:.2g}"
    return f"{_form(line)}: log-probs {line['logps_max']:.2g} at most, {line['logps_mean']:.2g} on average, {gradient}"


def _step(line: dict[str, Any]) -> str:
    """Return what some of the steps have come to, "" for the others: few lines are shown, all are kept."""
    losses = " ".join(f"{loss:.5f}" for loss in line["losses"])
    told = f"step {line['step']}: {line['pairs_per_second']:.2f} pairs/s so far, losses {losses}"
    return "" if line["step"] % SHOWN else told


def _side(line: dict[str, Any]) -> str:
    share = f", {line['share']:.1%} of the bf16 rate" if line["share"] else ""
    return (
        f"{line['pairs_per_second']:.2f} pairs/s, {line['step_seconds']:.3f} s a step, peak {line['peak_gb']:.1f} GB"
        f"{share}, reference pass {line['reference_seconds']:.2f} s, {line['steps']} steps, in all "
        f"{line['whole_seconds']:.1f} s" + (f", rows {line['layout']}" if "layout" in line else "")
    )


def _kernels(line: dict[str, Any]) -> str:
    kinds = sorted(line["by_kind"].items(), key=lambda item: -item[1])
    told = ", ".join(f"{kind} {ms:.0f}" for kind, ms in kinds)
    return f"a step of {line['step_ms']:.0f} ms has {sum(ms for _, ms in kinds):.0f} ms of kernels: {told}"


def _resumed(line: dict[str, Any]) -> str:
    apart = f"at most {line['apart']:.2g} apart" if line["apart"] else "equal"
    return f"resumed: {line['steps']} losses {apart}; they have moved by up to {line['moved']:.2g}"


def _merged(line: dict[str, Any]) -> str:
    return (
        f"{line['gb']:.2f} GB each ({line['layers']} layers): {line['seconds']:.2f} s, peak {line['peak_gib']:.2f} GiB"
    )


def _failed(line: dict[str, Any]) -> str:
    kind = "out of memory" if line.get("memory") else "failed"
    return f"{kind}: {line['error']} at {line.get('place', '?')}: {line['message']}"


def read(path: Path) -> list[dict[str, Any]]:
    """Return a run's lines; one that was cut off is left out."""
    found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found


def compared(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the pairs of sides that can be compared: rates, memory and losses, ours over the peer's."""
    sides = {(line["section"], line["label"]): line for line in lines if line["part"] == "side"}
    found = []
    for section in (*SECTIONS, *SPARE):
        for own, other in section.pairs:
            ours, theirs = sides.get((section.name, own)), sides.get((section.name, other))
            if ours is None or theirs is None:
                continue
            losses = [*zip(ours["losses"], theirs["losses"], strict=False)]
            found.append(
                {
                    "section": section.name,
                    "title": section.title,
                    "ours": ours,
                    "theirs": theirs,
                    "rate": ours["pairs_per_second"] / theirs["pairs_per_second"],
                    "memory": ours["peak_gb"] / theirs["peak_gb"],
                    "apart": max((abs(a - b) for a, b in losses), default=None),
                }
            )
    return found


def ratio(pair: dict[str, Any]) -> str:
    """Return a comparison as a line of text."""
    apart = "no common step" if pair["apart"] is None else f"losses at most {pair['apart']:.1e} apart"
    return (
        f"[{pair['section']}] {pair['ours']['label']} beside {pair['theirs']['label']}: {pair['rate']:.2f} times the "
        f"pairs/s, {pair['memory']:.2f} of the peak memory, {apart}"
    )


def table(lines: list[dict[str, Any]]) -> str:
    """Return a run as Markdown, with the card's name."""
    known = next((line for line in lines if line["part"] == "environment"), None)
    about = (
        f"{known['card']}, torch {known['torch']}, transformers {known['transformers']}" if known else "unknown card"
    )
    rates = [f"{line['kind']} {line['tflops']:.3g}" for line in lines if line["part"] == "matmul"]
    parts = [f"Measured on {about}. Matrix products, TFLOP/s: {', '.join(rates) or 'not measured'}."]
    rows = [_pair(pair) for pair in compared(lines)]
    if rows:
        head = "| training | sacpo | peer | pairs/s | ratio | peak memory | ratio | share of bf16 rate | losses apart |"
        parts += ["", head, "|---|---|---|---|---|---|---|---|---|", *rows]
    kinds = (
        "agreement",
        "disagrees",
        "kernels",
        "resumed",
        "generated",
        "same",
        "sampled",
        "merged",
        "failed",
        "not run",
    )
    others = [f"- {said(line)}" for line in lines if line["part"] in kinds]
    return "\n".join([*parts, *(["", *others] if others else [])])


def _pair(pair: dict[str, Any]) -> str:
    ours, theirs = pair["ours"], pair["theirs"]
    share = "" if ours["share"] is None else f"{ours['share']:.0%}, {theirs['share']:.0%}"
    cells = [
        pair["title"],
        ours["label"],
        theirs["label"],
        f"{ours['pairs_per_second']:.2f}, {theirs['pairs_per_second']:.2f}",
        f"{pair['rate']:.2f}",
        f"{ours['peak_gb']:.1f} GB, {theirs['peak_gb']:.1f} GB",
        f"{pair['memory']:.2f}",
        share,
        "" if pair["apart"] is None else f"{pair['apart']:.1e}",
    ]
    return "| " + " | ".join(cells) + " |"
