"""What the models' code names mean, in plain words."""

from __future__ import annotations

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
    return "the model before alignment, trained " + ", then ".join(_step(step) for step in chain(results, model))


def _step(step: ModelInfo) -> str:
    """Say what a step trains for."""
    if step.algorithm == "rwr":  # the closed form aims at weights of the SFT model: all of its strengths are its own
        aims = " and ".join(f"{criterion} (strength {number(beta)})" for criterion, beta in step.strengths)
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
