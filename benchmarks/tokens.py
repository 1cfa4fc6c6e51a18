"""Tokens that a batch of pairs costs, padded, packed and shared: `python -m benchmarks.tokens`, no model, no timing.

Real pairs in the seeded order of a training, tokenised by the byte-level BPE that the speed benchmarks use.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.cases import CASES, DATA, SEED
from benchmarks.sides import records_of, write_base


def main() -> None:
    """Print the table of every data set."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokens", description=__doc__)
    parser.add_argument("--pairs", type=int, default=2048, help="pairs of each data set")
    options = parser.parse_args()
    if DATA is None:
        sys.exit("set SACPO_DATA to the folder of real data (hh_rlhf/, pku_saferlhf/)")
    with tempfile.TemporaryDirectory() as folder:
        for data in ("hh", "pku"):
            case = replace(CASES[f"dpo-{data}"], n=options.pairs)
            base = write_base(Path(folder) / data, replace(case, toy=False))
            trees = trees_of(records_of(case, base), base)
            print(f"\n{case.title.split(', ')[1]}: {describe(trees)}")
            for batch in (2, 16, 64, 256):
                print(f"  batch {batch:3}: " + _line(ratios(trees, batch)))
            print("  batch  16, pairs of a prompt drawn together: " + _line(ratios(trees, 16, together=True)))


def _line(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in found.items())


def trees_of(records: Sequence[Any], base: Path) -> list[Any]:
    """Return the pairs as prompts with two branches, cut at 1024 tokens."""
    from sacpo.align.objectives.pairs import oriented, pair_trees
    from sacpo.data.templates import make_template
    from sacpo.data.tokenize import tokenize_pairs
    from sacpo.models.loading import load_tokenizer

    tokenizer = load_tokenizer(base)
    pairs, _ = tokenize_pairs(records, tokenizer, make_template("plain", tokenizer), max_length=1024, too_long="drop")
    return pair_trees([oriented(pair) for pair in pairs])


def describe(trees: Sequence[Any]) -> str:
    """Say how many pairs there are, how long their parts are, and how often a prompt comes."""
    prompts = [len(tree.prompt) for tree in trees]
    answers = [len(completion) for tree in trees for completion in tree.completions]
    often = Counter(tree.prompt for tree in trees)
    return (
        f"{len(trees)} pairs, {len(trees) / len(often):.1f} a prompt, median prompt {median(prompts):.0f} tokens, "
        f"median completion {median(answers):.0f}, longest pair {max(map(len, trees))}"
    )


def ratios(trees: Sequence[Any], batch: int, *, together: bool = False) -> dict[str, float]:
    """Return what batches hold, each as a multiple of the tokens that are left once a prompt is computed once a pair.

    `padded`: one completion a row, to the longest of the batch. `plain`: the same without padding. `packed`: the
    columns of the packed rows, their padding included. `flat`: the columns of one flat row. In both the pairs of a
    batch with the same prompt share it, too, and completions what they begin with. `head`: positions that meet the
    output head.
    """
    from sacpo.align.engine.order import EpochShuffle
    from sacpo.data.packing import flat_rows, packed_rows

    order = list(EpochShuffle(len(trees), SEED))
    if together:
        first = {trees[i].prompt: place for place, i in reversed([*enumerate(order)])}
        order.sort(key=lambda i: first[trees[i].prompt])
    totals: Counter[str] = Counter()
    for start in range(0, len(order), batch):
        part = [trees[i] for i in order[start : start + batch]]
        lengths = [len(tree.prompt) + len(c) for tree in part for c in tree.completions]
        totals["padded"] += len(lengths) * max(lengths)
        totals["plain"] += sum(lengths)
        totals["pair"] += sum(map(len, part))
        totals["packed"] += int(np.prod(packed_rows(part, pad_id=0).input_ids.shape))
        totals["flat"] += flat_rows(part, pad_id=0).input_ids.numel()
        totals["head"] += sum(len(c) for tree in part for c in tree.completions)
    return {name: totals[name] / totals["pair"] for name in ("padded", "plain", "packed", "flat", "head")}


if __name__ == "__main__":
    main()
