"""What the models' code names mean, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from sacpo.report.lookup import chain, number, weights_words
from sacpo.report.results import ModelInfo, Results


def meanings(results: Results) -> dict[str, str]:
    """Return what each model is, by its code name."""
    return {name: meaning(results, name) for name in results.models}


def meaning(results: Results, model: str) -> str:
    """Say what a model is, without algorithms' names where that is possible."""
    info = results.models[model]
    if info.kind == "base":
        return "the model before alignment" + (", fine-tuned on demonstrations" if results.recipe.get("sft") else "")
    if info.kind == "merge":
        return _merged(info)
    steps = chain(results, model)
    before = [0, *(len(step.strengths) for step in steps)]
    trained = [_step(step, step.strengths[n:]) for step, n in zip(steps, before, strict=False)]
    return "the model before alignment, trained " + ", then ".join(trained)


def _step(step: ModelInfo, own: Sequence[tuple[str, float]]) -> str:
    """Say what a step trains for; `own` are the criteria and strengths that it adds to those before it."""
    if step.algorithm == "rwr":  # the closed form: a step of its own kind, for several criteria at once
        aims = " and ".join(f"{criterion} (strength {number(beta)})" for criterion, beta in own)
        words = f"on sampled answers, which count the more the better they score, for {aims or step.criterion}"
    else:
        words = f"for {step.criterion} (strength {number(step.beta)})"
    if step.round is None:
        return words
    return f"{words} in {step.round} round{'s' if step.round > 1 else ''} of sampling and training"


def _merged(info: ModelInfo) -> str:
    if len(info.parents) != 2:
        return f"a merge of {', '.join(info.parents)}; {weights_words(info)}"
    first, later = info.parents
    how = {"linear": "weights averaged", "token-level": "answers mixed word by word"}.get(info.method or "")
    if how is None:
        return f"what training changed in {first} and in {later}, added; q = {number(info.q)}"
    return f"between {first} and {later}, {100 * (info.q or 0):g} % of the way; {how}"
