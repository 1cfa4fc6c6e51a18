"""What each part of the engine brings: `python -m benchmarks.ablation`, the whole beside the whole without one part.

A DPO training as in `benchmarks.cases`, its reference pass included. Every variant runs in a process of its own, all of
them in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

from benchmarks.cases import CASES, DATA, Case
from benchmarks.measure import machine, run_side
from benchmarks.sides import records_of, run_sacpo, write_base


def whole() -> None:
    """Take nothing away."""


def own_rows() -> None:
    """Give every completion a row of its own, padded to the longest."""
    _lay_out("padded", "padded_rows")


def own_prompts() -> None:
    """Give every completion a prompt of its own in the flat row."""
    from sacpo.data import packing

    _put(packing, "WIDTH", 0)  # trees of one prompt are not joined again

    def rows(trees: Sequence[Any], *, pad_id: int) -> Any:
        alone = [replace(tree, completions=(one,)) for tree in trees for one in tree.completions]
        return packing.flat_rows(alone, pad_id=pad_id)

    _lay_out("flat", rows)


def bounded_rows() -> None:
    """Fill rows of 512 tokens, padded, under a dense mask."""
    _lay_out("packed", "packed_rows")


def all_logits() -> None:
    """Compute the logits of all positions."""
    from sacpo.losses import logps

    _put(logps, "split_model", lambda model: None)


def given_back() -> None:
    """Give freed memory back to the system at once."""
    from sacpo.system import memory as allocator

    _put(allocator, "_glibc", lambda: None)


def known_reference() -> None:
    """Find the reference log-probs in the cache, as later epochs and other strengths do."""


VARIANTS: dict[str, tuple[Callable[[], None], str]] = {
    "whole": (whole, "all of it"),
    "known_reference": (known_reference, "reference log-probs found in the cache"),
    "own_prompts": (own_prompts, "a prompt for each completion, in one flat row"),
    "bounded_rows": (bounded_rows, "rows of 512 tokens, padded, with a dense mask"),
    "own_rows": (own_rows, "one completion a row, padded"),
    "all_logits": (all_logits, "logits of all positions"),
    "given_back": (given_back, "freed memory given back at once"),
}


def _lay_out(name: str, rows: Any) -> None:
    from sacpo.align.engine.layout import RowLayout
    from sacpo.align.reference import source
    from sacpo.data import packing

    layout = getattr(packing, rows) if isinstance(rows, str) else rows

    def choose(wanted: str, model: Any, trees: Sequence[Any], pad_id: int, progress: Any, **options: Any) -> RowLayout:
        return RowLayout(name, partial(layout, pad_id=pad_id))  # type: ignore[arg-type]

    _put(source, "choose_layout", choose)


def _put(module: ModuleType, name: str, value: Any) -> None:
    """Put something in the place of a module's own, which must be there: else nothing would be taken away."""
    getattr(module, name)
    setattr(module, name, value)


def main() -> None:
    """Run all variants of both data sets, or one variant (for itself), and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--pairs", type=int, default=48, help="pairs to train on")
    parser.add_argument("--rounds", type=int, default=3, help="how often every variant runs")
    parser.add_argument("--toy", action="store_true", help="a tiny model and 8 pairs: to see that everything runs")
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], Case.parse(options.one[1]))))
        return
    if DATA is None:
        sys.exit("set SACPO_DATA to the folder of real data (hh_rlhf/, pku_saferlhf/)")
    print(f"machine: {', '.join(f'{name} {value}' for name, value in machine().items())}")
    for name in ("dpo-hh", "dpo-pku"):
        case = CASES[name].as_toy() if options.toy else replace(CASES[name], n=options.pairs)
        runs: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
        for _ in range(options.rounds):
            for variant, found in runs.items():
                found.append(run_side("benchmarks.ablation", "--one", variant, case.dump()))
        print(f"\n{case.title}, {case.n} pairs, {options.rounds} rounds")
        for line in describe(runs):
            print(line)


def describe(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return a Markdown table: seconds, times the whole's in the same round with its ends, peak memory."""
    lines = [
        "| what is different | seconds | times the whole's (ends) | peak memory | losses apart |",
        "|---|---|---|---|---|",
    ]
    for variant, found in runs.items():
        ratios = [run["seconds"] / base["seconds"] for run, base in zip(found, runs["whole"], strict=True)]
        apart = max(abs(a - b) for a, b in zip(found[0]["losses"], runs["whole"][0]["losses"], strict=True))
        seconds, peak = median(run["seconds"] for run in found), max(run["peak_mb"] for run in found)
        spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {VARIANTS[variant][1]} | {seconds:.1f} | {spread} | {peak:.0f} MB | {apart:.1e} |")
    return lines


def measure(variant: str, case: Case) -> dict[str, Any]:
    """Train once without a part and return seconds, losses and the peak of memory."""
    VARIANTS[variant][0]()
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(sys.stderr):
        folder = Path(name)
        base = write_base(folder / "base", case)
        records = records_of(case, base)
        if variant == "known_reference":
            run_sacpo(base, records, folder, case)
            (folder / "out-0").rename(folder / "before")
        started = time.perf_counter()
        losses = run_sacpo(base, records, folder, case)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "losses": losses, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    main()
