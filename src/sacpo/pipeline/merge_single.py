"""Merging and exporting as single stages; `sacpo.api` offers them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sacpo.errors import RecipeError
from sacpo.merge import (
    Combination,
    check_dtype,
    copy_companions,
    linear,
    local_checkpoint,
    merge_checkpoints,
    tabulate,
    task_vectors,
    write_merged,
    write_one_adapter,
)
from sacpo.models.adapters.factors import write_stack
from sacpo.models.adapters.stack import Stack, blend, stack_of
from sacpo.models.loading import weights_key
from sacpo.pipeline.single import do_single
from sacpo.recipe.explain import did_you_mean
from sacpo.system.progress import QUIET, Progress


def merge(
    first: str | Path,
    later: str | Path,
    out: str | Path,
    *,
    q: float | Sequence[float],
    method: Literal["linear", "task-vectors"] = "linear",
    base: str | Path | None = None,
    scale: float = 1.0,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    progress: Progress = QUIET,
) -> list[Path]:
    """Merge two models at one or several weights q of the later one, in one pass, and return the merged folders.

    Between a step's reference and the step's model `linear` is P-SACPO (section 6 of the paper). Models that are
    plain LoRA adapters on one base merge exactly, into adapters on that base; `export` writes merged weights.

    Args:
        first: The model at q = 0.
        later: The model at q = 1.
        out: The output folder: one folder `q0.25` for each q.
        q: Weights in [0, 1].
        method: (1 - q) first + q later, or first + q scale (later - base).
        base: task-vectors only: the model that both came from.
        scale: task-vectors only.
        dtype: What merged weights are stored in; None: the later model's dtype. The sums run in float32 either way.
        progress: Where to show it.

    Raises:
        ModelError: The models do not fit together.
    """
    weights = [q] if isinstance(q, int | float) else list(q)
    _check_merge(weights, method, base, scale)
    check_dtype(dtype)
    folders = {str(path): local_checkpoint(path) for path in (first, later, base) if path is not None}
    combinations = [_combination(folders, first, later, base, weight, scale) for weight in weights]
    names = [f"q{weight:g}" for weight in weights]

    stacks = [_blend(first, later, base, weight, scale) for weight in weights]
    if dtype is not None and any(stack is not None for stack in stacks):
        raise RecipeError(
            "models on one base merge into adapters, whose weights are not stored anew",
            where="dtype",
            value=dtype,
            do="leave it out, or write merged weights of both models first: sacpo export MODEL --out FOLDER",
        )

    def work(folder: Path) -> None:
        for name, stack in zip(names, stacks, strict=True):
            if stack is not None:
                write_stack(stack, folder / name, Path(out) / name)
                copy_companions(folders[str(later)], folder / name)
        if None not in stacks:
            return
        terms, rows = tabulate(combinations)
        merge_checkpoints(terms, rows, [folder / name for name in names], dtype=dtype, progress=progress)

    models = {"first": first, "later": later, "base": base}
    config = {"method": method, "q": weights, "scale": scale, **{role: str(path) for role, path in models.items()}}
    config |= {} if dtype is None else {"dtype": dtype}
    inputs = {name: weights_key(folder) for name, folder in folders.items()}
    done = do_single("merge", Path(out), config, inputs, work, progress)
    return [done.path / name for name in names]


def _check_merge(weights: Sequence[float], method: str, base: Any, scale: float) -> None:
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
    if (method == "task-vectors") != (base is not None):
        raise RecipeError(
            "method 'task-vectors' needs the model that both came from, and 'linear' takes none",
            where="base",
            value=base,
            do="name that model: --from on the command line, base= in Python" if base is None else "leave it out",
        )
    if not (scale == 1 or (base is not None and 0 < scale < math.inf)):
        raise RecipeError(
            "'scale' is a number above 0 for method 'task-vectors', and 'linear' takes none",
            where="scale",
            value=scale,
            do="correct it, or leave it out",
        )


def _combination(folders: Mapping[str, Path], first: Any, later: Any, base: Any, q: float, scale: float) -> Combination:
    if base is None:
        return linear(folders[str(first)], folders[str(later)], q)
    return task_vectors(folders[str(first)], folders[str(later)], folders[str(base)], q, scale)


def _blend(first: Any, later: Any, base: Any, q: float, scale: float) -> Stack | None:
    """Return a merge as adapters on the models' one base, or None where they have weights of their own."""
    stack = blend(stack_of(first), stack_of(later), q, stack_of(base) if base is not None else None, scale)
    return stack if stack is not None and stack.members else None


def export(
    model: str | Path,
    out: str | Path,
    *,
    adapter: bool = False,
    progress: Progress = QUIET,
) -> Path:
    """Write a model of a base and adapters as one standard folder, and return the folder.

    Args:
        model: Hub id or folder: what a LoRA step wrote, a merge of such models, or an adapter of peft's.
        out: The output folder.
        adapter: Write one adapter of concatenated rank on the base, which peft and vLLM load, not merged weights.
        progress: Where to show it.

    Raises:
        ModelError: The model has no adapters to write as one, or the base is not what they were trained on.
    """
    stack = stack_of(model)

    def work(folder: Path) -> None:
        if adapter:
            write_one_adapter(model, folder)
        else:
            write_merged(stack, folder, Path(model) if stack.members else None, progress=progress)

    config = {"adapter": adapter}
    return do_single("export", Path(out), config, {"model": weights_key(model)}, work, progress).path
