"""What a race saves: answers, tokens and verdicts of runs with a race beside the same runs without, and their choices.

    sacpo run RECIPE --runs without --set seed=0; sacpo run RECIPE --runs with --set seed=0 --set evaluate.race={}
    python -m benchmarks.race without/NAME with/NAME [without/NAME with/NAME ...]

A verdict is what one judge says of one answer; with an oracle it costs nothing, with a language model a request for
each order and repeat. Only stages of models that the run measured or raced count.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def folders(run: Path, results: dict[str, Any]) -> Iterator[tuple[Path, Path]]:
    """Yield where a run's answers and verdicts are: of measured models by prompt set, of dropped ones in their race."""
    for model, sets in results["measures"].items():
        for prompts in sets:
            yield run / "stages" / "generate" / model / prompts, run / "stages" / "judge" / model / prompts
    for races in results.get("race", {}).values():
        for race in races:
            if race["dropped"]:
                folder = run / "stages" / "race" / race["model"] / race["prompts"]
                yield folder, folder


def spent(run: Path) -> tuple[Counter[str], dict[str, Any]]:
    """Return how many answers, tokens and verdicts a run took, and its results."""
    results: dict[str, Any] = json.loads((run / "results.json").read_text(encoding="utf-8"))
    found: Counter[str] = Counter()
    for answers, verdicts in folders(run, results):
        rows = [json.loads(line) for line in (answers / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
        found["answers"] += len(rows)
        found["tokens"] += sum(row["n_tokens"] for row in rows)
        found["verdicts"] += len((verdicts / "verdicts.jsonl").read_text(encoding="utf-8").splitlines())
    return found, results


def main(runs: list[Path]) -> None:
    """Print a line for each pair of runs."""
    for without, raced in zip(runs[::2], runs[1::2], strict=True):
        (before, plain), (after, found) = spent(without), spent(raced)
        saved = ", ".join(
            f"{100 * (1 - after[name] / before[name]):.1f} % of {before[name]:,} {name}" for name in before
        )
        dropped = sorted(r["answered"] for races in found["race"].values() for r in races if r["dropped"])
        models = len(plain["measures"])
        same = "the same choice" if plain["selection"]["chosen"] == found["selection"]["chosen"] else "ANOTHER CHOICE"
        print(
            f"seed {found['seed']}: saved {saved}; {len(dropped)} of {models} models dropped after {dropped} prompts; "
        )
        print(f"    {same}: {plain['selection']['chosen']}, {found['selection']['chosen']}", flush=True)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
