"""From what a user gives to a single verb to its stage; `sacpo.api` documents the verbs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sacpo.errors import RecipeError
from sacpo.merge import check_dtype
from sacpo.merge.source import Checkpoint, Merge
from sacpo.pipeline.judges import CriterionJudge, options_of
from sacpo.pipeline.outside import FileAnswers, FilePrompts, FileRecords
from sacpo.pipeline.stages.answers import Answers
from sacpo.pipeline.stages.single import AlignAlone, Exported, Merged
from sacpo.pipeline.stages.train import Align, FineTune, sft_options, step_options
from sacpo.pipeline.stages.verdicts import JudgedAlone
from sacpo.plain import JsonMapping
from sacpo.recipe.explain import checked, did_you_mean
from sacpo.recipe.schema import (
    BaseSpec,
    Data,
    DataSpec,
    GenerationSpec,
    JudgeSpec,
    LoraSpec,
    SftSpec,
    StepSpec,
    TrainingSpec,
)

Options = JsonMapping | None


def fine_tuning(
    model: str | Path, data: Data, format: str, base: Options, training: Options, seed: int, **options: object
) -> FineTune:
    """Return the stage of `sft`; `options` are a recipe's of `sft`."""
    spec = checked(SftSpec, dataset="data", **_with_lora(options))
    return FineTune(
        **_training("sft", model, data, format, "demonstrations", base, training, seed), spec=sft_options(spec)
    )


def alignment(
    model: str | Path,
    data: Data,
    format: str,
    base: Options,
    training: Options,
    seed: int,
    *,
    holdout: float = 0.0,
    **options: object,
) -> Align:
    """Return the stage of `align`; `options` are a recipe's of a step, `holdout` is one of sources given by path."""
    step = checked(StepSpec, name="align", dataset="data", **_with_lora(options))
    sources = _sources(data, format, None, holdout)
    common = _training("align", model, sources, format, None, base, training, seed)
    kind = AlignAlone if any(source.holdout for source in sources) else Align
    return kind(**common, step=step_options(step, step.betas[0]))


def answering(
    model: str | Path,
    prompts: Data,
    name: str | None,
    format: str,
    samples: int,
    generation: Options,
    seed: int,
    base: Options,
) -> Answers:
    """Return the stage of `generate`."""
    if samples < 1:
        raise RecipeError("too few samples", where="samples", value=samples, allowed="1 or more", do="correct it")
    if seed < 0:
        raise RecipeError("a seed cannot be negative", where="seed", value=seed, allowed="0 or more", do="correct it")
    spec = _base(model, base)
    checkpoint = Checkpoint(model, spec.revision)
    files = FileRecords(_sources(prompts, format, "prompts"), seed)
    options = checked(GenerationSpec, generation)
    return Answers(
        title=name or str(model),
        model=checkpoint,
        tokenizer=checkpoint,
        prompts=FilePrompts(files),
        set_name="prompts",
        generation=options,
        base=spec,
        seed=seed,
        samples=samples,
    )


def judging(
    answers: FileAnswers,
    baseline: FileAnswers | None,
    criterion: str,
    kind: str,
    model: str | None,
    base: Options,
    **scoring: Any,
) -> JudgedAlone:
    """Return the stage of `judge` by scores or the refusal detector; `scoring` are a recipe's options of a judge."""
    checked(StepSpec, name="judge", criterion=criterion, dataset="data", beta=1)  # the rule of criteria's names
    _check_scorer(kind, model, scoring["sign"], scoring["unsafe_below"])
    spec = checked(JudgeSpec, kind=kind, model=model, **scoring)
    judge = CriterionJudge(
        criterion=criterion,
        counted=options_of(spec),
        base=checked(BaseSpec, base, model=model or "none"),
        model=None if model is None else Checkpoint(model, spec.revision),
        world=None,
        rubric=None,
        spec=spec,
    )
    return JudgedAlone("answers", answers, baseline, (judge,))


def merging(
    first: str | Path,
    later: str | Path,
    q: float | Sequence[float],
    method: str,
    origin: object,
    scale: float,
    dtype: str | None,
) -> Merged:
    """Return the stage of `merge`."""
    weights = (float(q),) if isinstance(q, int | float) else tuple(q)
    _check_merge(weights, method, origin, scale)
    check_dtype(dtype)
    ends = Checkpoint(first), Checkpoint(later)
    row = 1.0 - weights[0], weights[0]
    merge = Merge(method, ends, row, scale, None if origin is None else Checkpoint(origin))  # type: ignore[arg-type]
    _ = [end.folder for end in (*ends, merge.origin) if end is not None]  # what is not there is refused first
    return Merged(merge, weights, tuple(str(place) for place in (first, later, origin)), dtype)


def exporting(model: str | Path, adapter: bool) -> Exported:
    """Return the stage of `export`."""
    found = Checkpoint(model)
    found.stack()
    return Exported(found, adapter)


def _training(
    title: str, model: object, data: Data, format: str, as_: str | None, base: Options, training: Options, seed: int
) -> dict[str, Any]:
    """Return what all trainings have."""
    spec = _base(model, base)
    return {
        "title": title,
        "model": Checkpoint(model, spec.revision),
        "base": spec,
        "records": (FileRecords(_sources(data, format, as_), seed),),
        "training": checked(TrainingSpec, {"seed": seed, **(training or {})}).options(),
        "seed": seed,
    }


def _base(model: object, base: Options) -> BaseSpec:
    return checked(BaseSpec, base, model=str(model))


def _with_lora(options: Mapping[str, Any]) -> dict[str, Any]:
    lora = options.get("lora")
    return {**options, "lora": None if lora is None else checked(LoraSpec, lora)}


def _sources(data: Data, format: str, as_: str | None, holdout: float = 0.0) -> tuple[DataSpec, ...]:
    items = [data] if isinstance(data, str | Path | DataSpec) else list(data)
    held = {"holdout": holdout} if holdout else {}
    return tuple(
        item if isinstance(item, DataSpec) else checked(DataSpec, format=format, path=str(item), **{"as": as_}, **held)
        for item in items
    )


def _check_scorer(kind: str, model: str | None, sign: int, unsafe_below: float | None) -> None:
    if (kind == "reward-model") != (model is not None):
        raise RecipeError(
            "a reward-model judge needs a model, and other judges take none",
            where="model",
            value=model,
            do="name a model for kind 'reward-model' only",
        )
    if model is None and (sign != 1 or unsafe_below is not None):
        raise RecipeError(
            "only a reward or cost model gives scores; the refusal detector would ignore this option",
            where="sign" if sign != 1 else "unsafe_below",
            value=sign if sign != 1 else unsafe_below,
            do="name the model that scores, or leave the option out",
        )


def _check_merge(weights: Sequence[float], method: str, origin: object, scale: float) -> None:
    for weight in weights:
        if not 0 <= weight <= 1:
            raise RecipeError(
                "a merge weight is outside its range", where="q", value=weight, allowed="0 to 1", do="correct q"
            )
    names = [f"{weight:g}" for weight in weights]
    if len(set(names)) < len(names):
        raise RecipeError("a merge weight is given twice", where="q", value=names, do="remove one of them")
    known = ("linear", "task-vectors")
    if method not in known:
        raise RecipeError(
            "no such method of merging",
            where="method",
            value=method,
            allowed=known,
            do=did_you_mean(method, known, "choose one of these; token-level merges have no weights to write"),
        )
    if (method == "task-vectors") != (origin is not None):
        raise RecipeError(
            "method 'task-vectors' needs the model that both came from, and 'linear' takes none",
            where="base",
            value=origin,
            do="name that model: --from on the command line, base= in Python" if origin is None else "leave it out",
        )
    if not (scale == 1 or (origin is not None and 0 < scale < math.inf)):
        raise RecipeError(
            "'scale' is a number above 0 for method 'task-vectors', and 'linear' takes none",
            where="scale",
            value=scale,
            do="correct it, or leave it out",
        )
