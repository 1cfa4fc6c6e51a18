"""How waiting threads wait: seconds of small work with the libraries' defaults, asleep at once, and as `sacpo` sets it.

    python -m benchmarks.threads [--times 3] [--toy]

Each setting runs in processes of its own, by turns: training steps of a small network (torch), and a score learned from
pairs (numpy's and scipy's OpenBLAS by turns); with nothing else of ours at work, and beside as many busy processes of
one thread as there are cores. Prints a Markdown table of medians with the least and the most.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks.measure import machine, run_side
from sacpo.system import threads

SETTINGS: dict[str, dict[str, str]] = {
    "the libraries' own": {},
    "asleep at once": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "OPENBLAS_THREAD_TIMEOUT": "4"},
    "`sacpo`": {
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": threads.SPINS,
        "OPENBLAS_THREAD_TIMEOUT": threads.OPENBLAS_CYCLES,
    },
}
NAMES = sorted({name for setting in SETTINGS.values() for name in setting})
WORK = {"steps": "20 training steps", "score": "a score of 1,200 pairs"}
BUSY = "import os\nos.environ['OMP_NUM_THREADS'] = '1'\nimport numpy as np\na = np.ones((256, 256))\nwhile True: a @ a"


def steps(n: int) -> float:
    """Return the seconds of `n` training steps of a Llama of two layers of 128 on 32 rows of 24 tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4
    )
    model, ids = LlamaForCausalLM(config), torch.randint(256, (32, 24))
    optimizer = torch.optim.AdamW(model.parameters())
    started = 0.0
    for step in range(n + 5):
        if step == 5:
            started = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started


def score(n: int) -> float:
    """Return the seconds of learning a score from votes on `n` pairs of 516 traits."""
    import numpy as np

    from sacpo.theory.learned_score import learn_score
    from sacpo.theory.preference_process import PairTraits

    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, n, 516))
    pairs = PairTraits(first, second, random.normal(size=(n, 200)))
    margins = (first - second) @ random.normal(size=516) / 20
    votes = (random.random(n) < 1 / (1 + np.exp(-margins))).astype(float)
    started = time.perf_counter()
    learn_score(pairs, votes, [str(i) for i in range(n)], seed=0)
    return time.perf_counter() - started


@contextmanager
def beside(n: int) -> Iterator[None]:
    """Keep `n` processes busy meanwhile, each with one thread."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def side(work: str, setting: dict[str, str], toy: bool) -> float:
    """Return the seconds of some work in a process with a setting."""
    before = {name: os.environ.pop(name) for name in NAMES if name in os.environ}
    os.environ.update(setting)
    try:
        found: float = run_side("benchmarks.threads", "--side", work, *(["--toy"] if toy else []))["seconds"]
        return found
    finally:
        for name in setting:
            del os.environ[name]
        os.environ.update(before)


def table(times: int, toy: bool = False) -> str:
    """Measure everything by turns and return it."""
    found: dict[tuple[str, str, int], list[float]] = {}
    cores = int(machine()["cores"])
    for _ in range(times):
        for others in (0, cores):
            with beside(others):
                for name, setting in SETTINGS.items():
                    for work in WORK:
                        found.setdefault((name, work, others), []).append(side(work, setting, toy))
    columns = [(work, others) for work in WORK for others in (0, cores)]
    heads = [f"{WORK[work]}, {f'beside {others} busy processes' if others else 'alone'}, s" for work, others in columns]
    rows = [
        f"| {name} | " + " | ".join(_said(found[name, work, others]) for work, others in columns) + " |"
        for name in SETTINGS
    ]
    return "\n".join([f"| waiting threads | {' | '.join(heads)} |", "|---" * (len(columns) + 1) + "|", *rows])


def _said(seconds: list[float]) -> str:
    return f"{median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__)
    parser.add_argument("--times", type=int, default=3, help="how often each runs")
    parser.add_argument("--toy", action="store_true", help="little work: to see that everything runs")
    parser.add_argument("--side", choices=[*WORK], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side == "steps":
        print(f'{{"seconds": {steps(3 if options.toy else 20)}}}')
    elif options.side == "score":
        print(f'{{"seconds": {score(90 if options.toy else 1200)}}}')
    else:
        print(f"machine: {', '.join(f'{name} {value}' for name, value in machine().items())}\n")
        print(table(options.times, options.toy))


if __name__ == "__main__":
    main()
