"""A frozen head under a large vocabulary: its log-probs and their gradient, before and after.

    python -m benchmarks.head [--pairs 3] [--bf16]

Gemma 3 270M's head (640 to 262,144) and as many targets as eight pairs of PKU-SafeRLHF have. Before: chunks of
targets, whose logits are computed once more for the gradient, as for a head that is trained. After: blocks of the
vocabulary, and the gradient with the log-probs. Both alternate in one process; the times are CPU seconds, which
neighbours disturb least.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from statistics import median
from typing import Any, cast

import torch
from torch import nn

from sacpo.losses.frozen_head import FrozenHead, frozen_logps
from sacpo.losses.head import LOGITS_AT_ONCE, _LinearLogps

HIDDEN, VOCABULARY, TARGETS = 640, 262_144, 949


def products(hidden: torch.Tensor, weight: torch.Tensor) -> None:
    """Do the two products that are needed, by blocks of the vocabulary, and nothing else."""
    for part in weight.split(4096):
        (hidden @ part.T) @ part


def before(hidden: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the log-probs as a head that is trained computes them."""
    chunk = LOGITS_AT_ONCE // len(weight)
    options = (None, 1.0, None, chunk, False, None)  # no bias, scale, cap; no logits kept, no statistics
    return cast(torch.Tensor, cast(Any, _LinearLogps.apply)(hidden, targets, weight, *options))


def after(hidden: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the log-probs as a frozen head computes them."""
    return cast(torch.Tensor, frozen_logps(FrozenHead(weight, None, 1.0, None), hidden, targets, None, None))


def spent(work: Callable[[], object]) -> float:
    """Return the CPU seconds of all threads that some work takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Parse the command line, run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head", description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="how often both sides run, one after the other")
    parser.add_argument("--bf16", action="store_true", help="under autocast to bfloat16")
    options = parser.parse_args()
    torch.manual_seed(0)
    weight = torch.randn(VOCABULARY, HIDDEN) / HIDDEN**0.5
    hidden, targets = torch.randn(TARGETS, HIDDEN), torch.randint(VOCABULARY, (TARGETS,))
    dtype = torch.bfloat16 if options.bf16 else torch.float32
    autocast = torch.autocast("cpu", dtype=torch.bfloat16) if options.bf16 else contextlib.nullcontext()
    nn.functional.linear(hidden, weight[:4096])  # the first product starts threads
    found: dict[str, list[float]] = {"before": [], "after": [], "products": []}
    gradients: dict[str, torch.Tensor] = {}

    def train(name: str, side: Callable[..., torch.Tensor]) -> None:
        leaf = hidden.clone().requires_grad_()
        with autocast:
            logps = side(leaf, targets, weight)
        logps.sum().backward()
        gradients[name] = cast(torch.Tensor, leaf.grad)

    for _ in range(options.pairs):
        for name, side in (("before", before), ("after", after)):
            found[name].append(spent(lambda name=name, side=side: train(name, side)))  # type: ignore[misc]
        inputs = hidden.to(dtype), weight.to(dtype)
        found["products"].append(spent(lambda inputs=inputs: products(*inputs)))  # type: ignore[misc]
        print("  ".join(f"{name} {times[-1]:.2f} s" for name, times in found.items()), flush=True)
    ratios = sorted(a / b for a, b in zip(found["before"], found["after"], strict=True))
    share = median(a / b for a, b in zip(found["products"], found["after"], strict=True))
    apart = (gradients["before"] - gradients["after"]).abs().max() / gradients["before"].abs().max()
    print(f"before / after: {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}; {len(ratios)} pairs)")
    print(f"the needed products take {share:.0%} of it; gradients at most {apart:.1e} of the largest apart")


if __name__ == "__main__":
    main()
