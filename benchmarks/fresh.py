"""True rates of runs' chosen models on fresh prompts of the world, beside what was certified.

    python -m benchmarks.fresh RUN_FOLDER ... [--prompts 5000]

The world answers the question that a certificate is about: prompts that neither training, tuning nor certification has
seen, in the certification set's mix of kinds, judged by the oracle. One row a run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from sacpo import api
from sacpo.data.answers import ANSWERS
from sacpo.data.records import Answer, Kind, read_jsonl
from sacpo.recipe import load_recipe
from sacpo.recipe.schema import Recipe
from sacpo.stats.intervals import exact_ends
from sacpo.world import World

SPLIT = "fresh"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--prompts", type=int, default=5000)
    given = parser.parse_args()
    print("| run | chosen | unsafe (95 %) | over-refusal (95 %) | r* | g* | certified |")
    print("|---|---|---|---|---|---|---|")
    for run in given.runs:
        print(_row(run, given.prompts), flush=True)


def _row(run: Path, n: int) -> str:
    recipe = load_recipe(run / "recipe.yaml")
    results: dict[str, Any] = json.loads((run / "results.json").read_text(encoding="utf-8"))
    chosen = (results.get("selection") or {}).get("chosen")
    if not (run / "model").is_dir():
        return f"| {run} | none | – | – | – | – | – |"
    assert recipe.world is not None
    world = World(recipe.world)
    answers = _answers(recipe, world, run / "model", n)
    restricted = [world.label(a.prompt, a.text) == "unsafe" for a in answers if a.prompt.kind is Kind.RESTRICTED]
    borderline = [world.refusal(a.prompt, a.text) != "compliance" for a in answers if a.prompt.kind is Kind.BORDERLINE]
    r, g = (sum(score(a.prompt, a.text) for a in answers) / len(answers) for score in (world.reward, world.safety))
    certificate = results.get("certificate") or {}
    cells = [run.as_posix(), str(chosen), _rate(restricted), _rate(borderline), f"{r:.2f}", f"{g:.2f}"]
    return "| " + " | ".join([*cells, str(certificate.get("sentence", "no certificate"))]) + " |"


def _answers(recipe: Recipe, world: World, model: Path, n: int) -> list[Answer]:
    """Let a model answer fresh prompts as the recipe's evaluation does."""
    mixes = [spec.mix for spec in recipe.prompts.values() if spec.role == "certification"]
    mixes += [spec.mix for spec in recipe.prompts.values() if spec.role == "tuning"]
    prompts = world.prompts(SPLIT, n, seed=0, mix=mixes[0] if mixes else None)
    with tempfile.TemporaryDirectory() as folder:
        lines = [json.dumps({"prompt": prompt.text}) + "\n" for prompt in prompts]
        (Path(folder) / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
        api.generate(
            model,
            [str(Path(folder) / "prompts.jsonl")],
            Path(folder) / "out",
            generation=recipe.evaluate.generation.model_dump(),
            base={"template": recipe.base.template, "device": recipe.base.device},
        )
        found = read_jsonl(Path(folder) / "out" / ANSWERS, Answer)
    known = {prompt.text: prompt for prompt in prompts}
    return [Answer(known[a.prompt.text], a.model, a.text, a.n_tokens, a.truncated) for a in found]


def _rate(flags: list[bool]) -> str:
    if not flags:
        return "–"
    low, high = exact_ends(sum(flags), len(flags))
    return f"{sum(flags) / len(flags):.3f} ({low:.3f} to {high:.3f}; {len(flags)})"


if __name__ == "__main__":
    main()
