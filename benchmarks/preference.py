"""Preference training against TRL: rates, memory and losses, side by side.

A Llama of 33.5M parameters, untied, with a byte-level BPE of 8000 tokens trained on the HH file; batch 16, max_length
1024, no gradient checkpointing. Both sides see the same weights and the same batches in the same order. Tokenising and
the reference pass are part of the time.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean, median
from typing import Any

from benchmarks.cases import CASES, Case
from benchmarks.measure import Results, machine, ratios, run_side

NOT_COMPARABLE = "z0 comes from other mismatches in TRL"


def compare(name: str, pairs: int, results: Results, *, toy: bool = False) -> None:
    """Measure what is not measured yet, and print the case's figures."""
    case = CASES[name].as_toy() if toy else CASES[name]
    exact = _exact(case, results) if case.bf16 else None
    for number in range(len(results.of(case.key)), pairs):
        theirs = None if case.measure == "share" else run_side("benchmarks.sides", "trl", case.dump())
        ours = run_side("benchmarks.sides", "sacpo", case.dump())
        line = {"name": name, "key": case.key, "title": case.title, "peer": case.peer, "measure": case.measure}
        results.add({**line, "pair": number, "machine": machine(), "toy": toy, "ours": ours, "theirs": theirs})
    for text in describe(results.of(case.key)[:pairs], exact):
        print(f"  {text}", flush=True)


def _exact(case: Case, results: Results) -> list[float]:
    """Return the losses in float32, which errors of bf16 are measured against; run once."""
    key = f"{replace(case, bf16=False).key}-exact"
    if not results.of(key):
        ours = run_side("benchmarks.sides", "sacpo", replace(case, bf16=False).dump())
        results.add({"name": "exact", "key": key, "for": case.key, "losses": ours["losses"]})
    found: list[float] = results.of(key)[0]["losses"]
    return found


def describe(lines: list[dict[str, Any]], exact: list[float] | None) -> list[str]:
    """Return what the pairs of a case show, line by line."""
    if not lines:
        return ["nothing measured"]
    ours = [line["ours"] for line in lines]
    if lines[0]["measure"] == "share":
        shares = sorted(run["share"] for run in ours)
        rate = median(run["matmul_flops"] for run in ours)
        return [f"sacpo: {median(shares):.0%} ({shares[0]:.0%} to {shares[-1]:.0%}) of {rate / 1e9:.0f} GFLOP/s"]
    theirs = [line["theirs"] for line in lines]
    found = []
    for side, runs in (("sacpo", ours), (f"TRL, {lines[0]['peer']}", theirs)):
        rates = [run["pairs_per_second"] for run in runs]
        peak = max(run["peak_mb"] for run in runs)
        found.append(f"{side}: {median(rates):.2f} pairs/s ({min(rates):.2f} to {max(rates):.2f}), peak {peak:.0f} MB")
    value = "peak_mb" if lines[0]["measure"] == "memory" else "pairs_per_second"
    found.append(f"{value}: " + ratios([run[value] for run in ours], [run[value] for run in theirs]))
    if value == "peak_mb":
        found.append(f"weights, gradients and Adam's moments alone: {ours[0]['floor_mb']:.0f} MB")
    worst = gap(ours[0]["losses"], theirs[0]["losses"])
    note = f" ({NOT_COMPARABLE})" if lines[0]["name"] == "kto" else ""
    found.append(f"losses step by step: at most {worst:.1e} apart over {len(ours[0]['losses'])} steps{note}")
    if exact is not None:
        errors = [error(runs[0]["losses"], exact) for runs in (ours, theirs)]
        own, peer = errors
        found.append(
            f"error of bf16 losses against fp32, root mean square: {own:.1e}, TRL's {peer:.1e}, {own / peer:.2f}x"
        )
    return found


def gap(first: list[float], other: list[float]) -> float:
    """Return the largest distance of two curves, step by step."""
    return max(abs(a - b) for a, b in zip(first, other, strict=True))


def error(first: list[float], exact: list[float]) -> float:
    """Return the distance of a curve from an exact one as the root mean square over steps: single ones vary widely."""
    return math.sqrt(fmean((a - b) ** 2 for a, b in zip(first, exact, strict=True)))
