"""`ModelSource`: a model's weights as a value, the only place that knows the four kinds.

    Checkpoint    a folder or hub id: weights of its own, or LoRA adapters on a base
    Merge         a linear combination of checkpoints (adapters again where they stand on one base), or mixed logits

Either can be loaded, written as a standard folder, described as a stack, and named by its content. Methods import what
they need: a stage has models among its fields, and not every stage loads one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sacpo.errors import ModelError
from sacpo.models.adapters.stack import Stack, blend, is_adapter, stack_of
from sacpo.system.machine import machine_errors
from sacpo.system.progress import QUIET, Progress

if TYPE_CHECKING:
    from sacpo.merge.weights import Combination

Method = Literal["linear", "task-vectors", "token-level"]


@dataclass(frozen=True)
class Checkpoint:
    """A model in a folder or on the hub, with weights of its own or as adapters and the way to their base.

    Attributes:
        place: Hub id or folder; in a run also the stage that writes it, until `at` says where that is.
        revision: The hub revision.
    """

    place: Any
    revision: str | None = None

    @cached_property
    def content(self) -> str:
        """The content key of its weights; see `sacpo.models.loading.weights_key`."""
        from sacpo.models.keys import weights_key

        return weights_key(self.place, self.revision)

    def at(self, where: Callable[[object], str | Path]) -> Checkpoint:
        """Return it with the place that `where` names."""
        return replace(self, place=where(self.place))

    @property
    def folder(self) -> Path:
        """Its folder; a hub model is downloaded."""
        from sacpo.merge.locate import local_checkpoint

        return local_checkpoint(self.place, self.revision)

    @property
    def companions(self) -> Path:
        """The folder whose tokenizer and configuration a model made of it takes."""
        return Path(self.place)

    def stack(self) -> Stack:
        """Return it as a base and adapters; one that has weights of its own is a base without adapters."""
        return stack_of(self.place, self.revision)

    def load(self, *, quantization: Any = None, **options: Any) -> Any:
        """Return its base in memory; adapters are put on by `sacpo.models.adapters.loading.on_stack`."""
        from sacpo.models.loading import load_model

        stack = self.stack()
        return load_model(stack.base, revision=stack.revision, quantization=quantization, **options)

    def write(self, out: Path, *, progress: Progress = QUIET) -> None:
        """Write it as a standard folder that needs nothing else: adapters are added to the base's weights."""
        from sacpo.merge.stacked import write_merged
        from sacpo.merge.streamed import copy_companions

        stack = self.stack()
        if stack.members or is_adapter(Path(stack.base)):
            write_merged(stack, out, self.companions, progress=progress)
            return
        source = self.folder
        copy_companions(source, out)
        with machine_errors(out):
            for path in sorted(source.glob("*.safetensors*")):
                shutil.copyfile(path, out / path.name)


@dataclass(frozen=True)
class Merge:
    """A merge of two checkpoints or more.

    Attributes:
        method: "linear" (`sum_k w_k model_k`, of two models `(1 - q) first + q later`, P-SACPO between a reference and
            its step), "task-vectors" (`first + sum_k w_k scale (model_k - origin)` over the others) or "token-level"
            (mixed logits, which have no weights).
        models: The models, the later one last: configuration and tokenizer are its own.
        weights: One for each model; of two models `(1 - q, q)`.
        scale: task-vectors only.
        origin: task-vectors only: the model that all came from.
    """

    method: Method
    models: tuple[Checkpoint, ...]
    weights: tuple[float, ...]
    scale: float = 1.0
    origin: Checkpoint | None = None

    def at(self, where: Callable[[object], str | Path]) -> Merge:
        """Return it with the places that `where` names."""
        origin = self.origin and self.origin.at(where)
        return replace(self, models=tuple(model.at(where) for model in self.models), origin=origin)

    @property
    def later(self) -> Checkpoint:
        """The last model."""
        return self.models[-1]

    @property
    def folders(self) -> list[Path]:
        """The models' folders; hub models are downloaded."""
        return [model.folder for model in self.models]

    @property
    def has_weights(self) -> bool:
        """Whether it is a model with weights, and no mixture of logits."""
        return self.method != "token-level"

    def stack(self) -> Stack | None:
        """Return it as a base and adapters; None for models on different bases and for mixed logits."""
        if not self.has_weights:
            return None
        origin = self.origin.stack() if self.origin is not None else None
        return blend([model.stack() for model in self.models], self.weights, origin, self.scale)

    def combination(self) -> Combination:
        """Return it as a linear combination of folders."""
        from sacpo.merge.weights import linear, task_vectors

        if self.origin is None:
            return linear(self.folders, self.weights)
        return task_vectors(self.folders, self.origin.folder, self.weights, self.scale)

    def load(self, *, quantization: Any = None, **options: Any) -> Any:
        """Return it in memory; of a merge of adapters the base, as `Checkpoint.load` does."""
        from sacpo.merge.memory import merged_model
        from sacpo.merge.mixing import mixed_model
        from sacpo.merge.weights import tabulate
        from sacpo.models.loading import load_model

        stack = self.stack()
        if stack is not None:
            return load_model(stack.base, revision=stack.revision, quantization=quantization, **options)
        if not self.has_weights:
            return mixed_model(self.folders, self.weights, quantization=quantization, **options)
        terms, (row,) = tabulate([self.combination()])
        return merged_model(terms, row, **options)

    def write(self, out: Path, *, progress: Progress = QUIET) -> None:
        """Write it as a standard folder that needs nothing else.

        Raises:
            ModelError: Mixed logits have no weights to write.
        """
        from sacpo.merge.stacked import merge_checkpoints, write_merged
        from sacpo.merge.weights import tabulate

        if not self.has_weights:
            raise ModelError("mixed logits have no weights to write", where=self.method, do="merge with 'linear'")
        stack = self.stack()
        if stack is not None and (stack.members or is_adapter(Path(stack.base))):
            write_merged(stack, out, self.later.companions, progress=progress)
            return
        terms, rows = tabulate([self.combination()])
        merge_checkpoints(terms, rows, [out], progress=progress)


ModelSource = Checkpoint | Merge
