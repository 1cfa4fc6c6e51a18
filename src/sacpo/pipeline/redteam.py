"""Red-team prompts as `sacpo.api` has them; what needs torch is imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sacpo.errors import RecipeError
from sacpo.plain import JsonMapping
from sacpo.recipe.explain import checked, did_you_mean
from sacpo.redteam import CATEGORIES
from sacpo.redteam.templates import PER_CATEGORY
from sacpo.system.progress import QUIET, Progress


def make_redteam(
    out: str | Path,
    *,
    n: int = 12,
    categories: Sequence[str] = (),
    paraphrase: str | None = None,
    near: float = 0.8,
    generation: JsonMapping | None = None,
    seed: int = 0,
    base: JsonMapping | None = None,
    progress: Progress = QUIET,
) -> Path:
    """Write adversarial prompts, each with a harmless twin of the same wording, and return their file.

    Args:
        out: The folder: `prompts.jsonl`, `counts.json`.
        n: Prompts of each category, without twins and paraphrases.
        categories: Of BeaverTails; all 14 by default.
        paraphrase: A model, hub id or folder, that says each prompt once more in other words.
        near: Paraphrases that are at least so similar to a prompt or another one are left out.
        generation: Of paraphrases: max_new_tokens, temperature, top_p, batch_size, engine.
        seed: The root of all random numbers.
        base: More about the model: template, dtype, device, revision, trust_remote_code.
        progress: Where to show it.

    Raises:
        UserError: An option, the model or the machine does not allow it.
    """
    _check(n, categories, near)
    if paraphrase is None and (generation or base):
        where = "generation" if generation else "base"
        raise RecipeError(f"'{where}' has no effect without a model", where=where, do="name one as 'paraphrase'")
    from sacpo.merge.source import Checkpoint
    from sacpo.pipeline.collect.drawing import Sampler
    from sacpo.pipeline.single import do_single
    from sacpo.pipeline.stages.redteam import RedTeam
    from sacpo.recipe.schema import BaseSpec, GenerationSpec

    sampler = None
    if paraphrase is not None:
        spec = checked(BaseSpec, base, model=str(paraphrase))
        options = checked(GenerationSpec, {"do_sample": True, **(generation or {})})
        sampler = Sampler("paraphrases", Checkpoint(paraphrase, spec.revision), spec, options)
    stage = RedTeam(tuple(categories) or CATEGORIES, n, near, seed, sampler)
    return stage.read(do_single("redteam", stage, out, progress))


def _check(n: int, categories: Sequence[str], near: float) -> None:
    for name in categories:
        if name not in CATEGORIES:
            raise RecipeError(
                "no such category",
                where="categories",
                value=name,
                allowed=CATEGORIES,
                do=did_you_mean(name, CATEGORIES, "name one of these"),
            )
    if len(set(categories)) < len(categories):
        raise RecipeError("a category is named twice", where="categories", value=[*categories], do="name it once")
    if not 1 <= n <= PER_CATEGORY:
        raise RecipeError(
            "the templates do not make so many prompts of a category",
            where="n",
            value=n,
            allowed=f"1 to {PER_CATEGORY}",
        )
    if not 0 < near <= 1:
        raise RecipeError("a similarity is out of its range", where="near", value=near, allowed="above 0, at most 1")
