"""Time and memory of `sacpo stats` and of the report as verdicts and models grow.

    python -m benchmarks.scale [--verdicts 10000 100000 1000000] [--models 20 200] [--no-report]

Verdicts are drawn from a seed: half of them compare a model with the baseline in both orders, the other half label
answers as safe or not. A line is one process: CPU seconds, seconds and the most memory it had. The report's line tells
how large the page is, too; its answers are of 400 characters, 100 prompts, as a recipe shows by default.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CATEGORIES = ("crime", "hate", "privacy", "weapons")
ORDERS = ("ab", "ba")
PAGE = """
import json, sys
from pathlib import Path
from sacpo.report.build import build_report
given = json.loads(Path(sys.argv[1]).read_text())
build_report(given["results"], given["answers"], Path(sys.argv[2]))
"""


def verdict_rows(n: int, models: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield `n` verdicts on `models` models, as many of each; a quarter of the prompts are borderline."""
    rng = random.Random(seed)
    for i in range(n // 4):
        prompt, model = divmod(i, models)
        skill = model / models
        kind = "borderline" if prompt % 4 == 3 else "restricted"
        common = {
            "prompt_id": f"p{prompt}",
            "cluster": f"p{prompt}",
            "model": f"m{model:03}",
            "answer_hash": f"{prompt}-{model}",
            "category": CATEGORIES[prompt % 4],
            "kind": kind,
        }
        beside = {"baseline": "sft", "baseline_hash": f"{prompt}-sft", "criterion": "helpfulness", "judge": "a"}
        for order in ORDERS:
            outcome = rng.choices(("win", "tie", "loss"), (0.2 + 0.5 * skill, 0.1, 0.7 - 0.5 * skill))[0]
            yield {**common, **beside, "outcome": outcome, "order": order}
        said = "unsafe" if rng.random() < 0.3 * (1 - skill) else "safe"
        yield {**common, "criterion": "harmlessness", "judge": "b", "label": said}
        said = "refusal" if rng.random() < 0.2 else "compliance"
        yield {**common, "criterion": "refusal", "judge": "c", "label": said}


def results(models: int, prompts: int = 100, length: int = 400) -> dict[str, Any]:
    """Return results of `models` models at two strengths and on two prompt sets, and their answers."""
    names = [f"H-S@{i / models:.4f}" for i in range(models)]
    rate = {"value": 0.25, "ci95": [0.2, 0.31], "n": 450, "clusters": 450}
    own = dict.fromkeys(("win_rate/helpfulness", "unsafe_rate", "refusal_rate", "over_refusal_rate", "kl"), rate)
    measured = {"metrics": own, "categories": {name: {"unsafe_rate": rate} for name in CATEGORIES}}
    curve = [{"step": float(s), "loss": 0.69, "rewards/margins": 0.1 * s, "logps/chosen": -40.0} for s in range(40)]
    info = [
        {"kind": "step", "parents": ["sft"], "beta": (i + 1) / models, "line": "H-S", "curve": curve, "training": {}}
        for i in range(models)
    ]
    text = " ".join(f"word{i}" for i in range(length // 7))
    shown = {"text": text, "flags": [], "verdicts": {"helpfulness": "win", "harmlessness": "safe"}}
    return {
        "results": {
            "name": "many",
            "recipe": {},
            "seed": 0,
            "models": {"sft": {"kind": "base"}, **dict(zip(names, info, strict=True))},
            "prompts": {"tune": {"role": "tuning", "n": 450}, "test": {"role": "report", "n": 450}},
            "measures": {name: {"tune": measured, "test": measured} for name in names},
        },
        "answers": [
            {
                "prompt": f"prompt {i}",
                "set": "test",
                "kind": "restricted",
                "answers": {name: {**shown, "text": f"{name} {i} {text}"} for name in names},
            }
            for i in range(prompts)
        ],
    }


def measure(command: Sequence[str]) -> dict[str, float]:
    """Run a command in a process of its own; return its seconds, CPU seconds and peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed")
    return {"seconds": time.perf_counter() - start, **_used(used)}


def _used(used: resource.struct_rusage) -> dict[str, float]:
    return {"cpu": used.ru_utime + used.ru_stime, "MB": used.ru_maxrss / 1024}


def main() -> None:
    """Measure, and print a line a size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--verdicts", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--models", type=int, nargs="*", default=[20, 200])
    parser.add_argument("--no-report", action="store_true")
    parser.add_argument("--option", action="append", default=[], help="a further argument of sacpo stats")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for n in options.verdicts:
            for models in options.models:
                file = place / "verdicts.jsonl"
                with file.open("w", encoding="utf-8") as lines:
                    lines.writelines(json.dumps(row) + "\n" for row in verdict_rows(n, models))
                used = measure([sys.executable, "-m", "sacpo", "stats", str(file), "--json", *options.option])
                _show(f"stats, {n:,} verdicts, {models} models", used)
        for models in [] if options.no_report else options.models:
            file = place / "results.json"
            file.write_text(json.dumps(results(models)), encoding="utf-8")
            used = measure([sys.executable, "-c", PAGE, str(file), str(place / "report")])
            sizes = [page.stat().st_size / 1e6 for page in (place / "report").glob("*.html")]
            _show(f"report, {models} models", used, f", {len(sizes)} pages of at most {max(sizes):.2f} MB")


def _show(what: str, used: dict[str, float], more: str = "") -> None:
    print(f"{what}: {used['cpu']:.1f} s of CPU, {used['seconds']:.1f} s, {used['MB']:.0f} MB{more}", flush=True)


if __name__ == "__main__":
    main()
