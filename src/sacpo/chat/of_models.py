"""Talking to models by folder or hub id: one, or the path between two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sacpo.chat.setting import Setting, checked_q, why_alone
from sacpo.errors import RecipeError
from sacpo.judging.refusal import RefusalJudge
from sacpo.merge.source import Checkpoint, Merge
from sacpo.plain import JsonMapping
from sacpo.recipe.explain import checked
from sacpo.recipe.schema import BaseSpec, GenerationSpec

METHODS = ("linear", "token-level")


def setting_of_models(
    models: Sequence[str],
    *,
    q: float | None = None,
    method: Literal["linear", "token-level"] = "linear",
    beside: str | None = None,
    base: JsonMapping | None = None,
    generation: JsonMapping | None = None,
    seed: int = 0,
) -> Setting:
    """Return the setting of one model, or of the path from the first to the second.

    Args:
        models: One or two folders or hub ids.
        q: Where the slider stands first; None: at the later model.
        method: "linear" moves the weights, "token-level" mixes logits.
        beside: The model whose answer stands beside; None: the first of two, none beside one.
        base: Template, dtype, device, ...
        generation: Options of `sacpo.recipe.schema.GenerationSpec`.
        seed: Of sampled answers.

    Raises:
        RecipeError: There are more than two models, or an option is not known.
    """
    if not 1 <= len(models) <= 2:
        raise RecipeError(
            "a conversation is with one model, or with the path between two",
            where="MODEL",
            value=list(models),
            allowed="1 or 2",
            do="name one or two",
        )
    if len(models) == 1 and (q is not None or method != "linear"):
        raise RecipeError("one model has no path to move along", where="--q, --method", do="name two models")
    if method not in METHODS:
        raise RecipeError("no such way along a path", where="--method", value=method, allowed=METHODS, do="name one")
    spec = checked(BaseSpec, base, model=models[-1])
    ends = [Checkpoint(model) for model in models]
    names = _names(models)
    other = (names[0], ends[0]) if len(models) == 2 else None
    if beside is not None:
        other = _names([beside])[0], Checkpoint(beside)
    return Setting(
        title=" to ".join(names),
        path=ends[0] if len(models) == 1 else Merge(method, tuple(ends), (0.0, 1.0)),
        ends=names,
        base=spec,
        generation=checked(GenerationSpec, generation),
        q=1.0 if q is None else checked_q(q),
        line=f"{names[0]}..{names[-1]}",
        beside=other,
        judges={"refusal": RefusalJudge},
        alone=why_alone(spec.template, world=False),
        seed=seed,
    )


def _names(models: Sequence[str]) -> tuple[str, ...]:
    """Return short names of models, those that tell them apart: the last part of a place that is not "model"."""
    parts = [[part for part in Path(model).parts if part not in ("/", "model")] for model in models]
    short = [found[-1] if found else model for found, model in zip(parts, models, strict=True)]
    return tuple(short) if len({*short}) == len(short) else tuple(models)
