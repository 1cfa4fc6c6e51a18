"""Red-team prompts as `sacpo.api` has them; what needs torch is imported when it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo.errors import RecipeError
from sacpo.plain import JsonMapping
from sacpo.recipe.explain import checked, did_you_mean
from sacpo.recipe.llm import BudgetSpec, LlmSpec
from sacpo.redteam import CATEGORIES
from sacpo.redteam.templates import PER_CATEGORY
from sacpo.system.progress import QUIET, Progress

if TYPE_CHECKING:
    from sacpo.pipeline.collect.drawing import Sampler
    from sacpo.pipeline.stages.redteam import Writer

UNUSED = ("structured", "rereads")
"""Settings of language models that judge, and nothing else."""


def make_redteam(
    out: str | Path,
    *,
    n: int = 12,
    categories: Sequence[str] = (),
    paraphrase: str | None = None,
    endpoint: JsonMapping | None = None,
    budget: JsonMapping | None = None,
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
        endpoint: Such a model behind an endpoint: model, base_url, api_key_env, temperature, max_tokens, ... (see
            docs/judges.md); the same call goes on after a break, and no reply is paid twice.
        budget: Limits on what it may use: max_requests, max_tokens, max_cost.
        near: Paraphrases that are at least so similar to a prompt or another one are left out.
        generation: Of paraphrases: max_new_tokens, temperature, top_p, batch_size, engine.
        seed: The root of all random numbers.
        base: More about the model: template, dtype, device, revision, trust_remote_code.
        progress: Where to show it.

    Raises:
        UserError: An option, the model or the machine does not allow it.
        RunError: Replies are missing, because the budget is spent or the endpoint failed; those that are there stay.
    """
    _check(n, categories, near)
    _check_paraphraser(paraphrase, endpoint, {"generation": generation, "base": base}, budget)
    from sacpo.judging.llm.specs import budget_of
    from sacpo.pipeline.single import do_single
    from sacpo.pipeline.stages.redteam import RedTeam

    paraphraser: Any = None
    limits = None
    if endpoint is not None:
        paraphraser = _writer(endpoint)
        limits = budget_of(checked(BudgetSpec, budget), [paraphraser.model.spec])
    elif paraphrase is not None:
        paraphraser = _sampler(paraphrase, base, generation)
    stage = RedTeam(tuple(categories) or CATEGORIES, n, near, seed, paraphraser)
    return stage.read(do_single("redteam", stage, out, progress, budget=limits))


def _sampler(model: str, base: JsonMapping | None, generation: JsonMapping | None) -> Sampler:
    """Return a model on this machine that paraphrases."""
    from sacpo.merge.source import Checkpoint
    from sacpo.pipeline.collect.drawing import Sampler
    from sacpo.recipe.schema import BaseSpec, GenerationSpec

    spec = checked(BaseSpec, base, model=str(model))
    options = checked(GenerationSpec, {"do_sample": True, **(generation or {})})
    return Sampler("paraphrases", Checkpoint(model, spec.revision), spec, options)


def _writer(endpoint: JsonMapping) -> Writer:
    """Return a model behind an endpoint that paraphrases."""
    from sacpo.judging.llm.judge import LlmModel
    from sacpo.pipeline.stages.redteam import Writer

    unused = [name for name in UNUSED if name in endpoint]
    if unused:
        raise RecipeError(
            "this is about verdicts, and a text is asked for", where=f"endpoint.{unused[0]}", do="leave it out"
        )
    keyless = {"api_key_env": ""} if "api_key_env" in endpoint and endpoint["api_key_env"] is None else {}
    model = LlmModel(checked(LlmSpec, {**endpoint, **keyless}))  # `api_key_env=` on the command line
    return Writer(model.settings(), model)


def _check_paraphraser(
    paraphrase: str | None,
    endpoint: JsonMapping | None,
    of_model: Mapping[str, JsonMapping | None],
    budget: JsonMapping | None,
) -> None:
    if paraphrase is not None and endpoint is not None:
        raise RecipeError("one model paraphrases", where="endpoint", do="give either 'paraphrase' or 'endpoint'")
    given = next((name for name, options in of_model.items() if options), None)
    if paraphrase is None and given is not None:
        raise RecipeError(
            f"'{given}' has no effect without a model on this machine", where=given, do="name one as 'paraphrase'"
        )
    if endpoint is None and budget:
        raise RecipeError("'budget' has no effect without an endpoint", where="budget", do="give an 'endpoint'")


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
