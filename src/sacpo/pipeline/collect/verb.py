"""`collect` as `sacpo.api` has it; what needs torch is imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sacpo.plain import JsonMapping
from sacpo.recipe.collect import DrawSpec
from sacpo.recipe.explain import checked
from sacpo.system.progress import QUIET, Progress


def collect(
    model: str | Path,
    prompts: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    judges: str | Path | JsonMapping | None = None,
    draw: JsonMapping | None = None,
    format: str = "prompts",
    generation: JsonMapping | None = None,
    seed: int = 0,
    ask_again: bool = False,
    base: JsonMapping | None = None,
    progress: Progress = QUIET,
) -> Path:
    """Sample pairs of answers to prompts, label them for helpfulness and for safety, and return the data.

    Args:
        model: Hub id or folder.
        prompts: Files or hub ids of prompts; with format "world" a split of the judges' world.
        out: The folder: `pairs/` (answers.jsonl, baseline.jsonl), `data/` (data.jsonl, data.parquet, README.md, ...)
            and `cache/` (paid verdicts).
        judges: Who labels: a YAML file or what would stand in it (see docs/collect.md); without it the pairs are only
            drawn, as for people who label them.
        draw: second (another model), samples, temperatures, pairs (of a prompt), near, limit (of prompts).
        format: The format of the prompts.
        generation: max_new_tokens, top_p, batch_size, engine.
        seed: The root of all random numbers.
        ask_again: Ask again what no verdict could be read from; else such replies are kept. Data that was made in
            another way is replaced.
        base: More about the models: template, dtype, device, revision, trust_remote_code, attn_implementation,
            quantization.
        progress: Where to show it.

    Raises:
        UserError: The prompts, a model, a judge or the machine does not allow it.
        RunError: Verdicts are missing, because the budget is spent or an endpoint failed. Those that are there are
            kept; the same call goes on.
    """
    from sacpo.pipeline.collect.single import collecting

    asked = checked(DrawSpec, draw), (generation, base), seed, ask_again
    return collecting(model, prompts, Path(out), judges, format, *asked, progress)
