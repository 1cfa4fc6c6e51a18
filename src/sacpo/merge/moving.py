"""Models of a path in memory, to talk to: the weight q moves, and nothing is loaded again.

    adapters    one base; q is a weight of adapters, and moving it takes no time
    weights     one model's memory, whose weights are filled anew from the files, piece by piece
    logits      both models in memory, whose logits are mixed

Memory for models of W bytes: adapters and weights take W and a few megabytes (nothing is kept of the ends but their
files), logits take 2 W. A model beside the path is one more weight of adapters, or one more filling; beside mixed
logits it takes another W, unless it is an end.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftModel

from sacpo.errors import ModelError
from sacpo.merge.compatible import check_mergeable
from sacpo.merge.mixing import MixedModel, mixed_model
from sacpo.merge.source import Checkpoint, Merge
from sacpo.merge.stacked import open_model
from sacpo.merge.streamed import merged_pieces, one_thread
from sacpo.merge.tensors import readers
from sacpo.merge.weights import Combination
from sacpo.models.adapters.loading import activate, on_stack
from sacpo.models.adapters.stack import Stack
from sacpo.models.architecture import architecture_of
from sacpo.models.loading import load_model


class Moving(Protocol):
    """A path of models, of which one can be used at a time: what was returned before changes with the next call."""

    how: str

    def at(self, q: float) -> Any:
        """Return the model at weight q, in evaluation mode."""

    def of(self, model: Checkpoint) -> Any:
        """Return a model beside the path, one that was named when it was opened."""


def open_moving(path: Merge | Checkpoint, beside: Checkpoint | None = None, **options: object) -> Moving:
    """Load what is needed to move along a path.

    Args:
        path: The merge whose q moves, or one model.
        beside: A model to compare with: on the same base, or of the same architecture.
        options: `dtype`, `device`, `trust_remote_code`, `attn_implementation`, `quantization` of
            `sacpo.models.loading.load_model`.

    Raises:
        ModelError: The models do not fit together, or cannot be moved between.
    """
    if isinstance(path, Merge) and not path.has_weights:
        return MovingLogits(path, options)
    ends = [path] if isinstance(path, Checkpoint) else [*path.models, *filter(None, [path.origin])]
    stacks = [model.stack() for model in (*ends, *filter(None, [beside]))]
    one_base = len({stack.place for stack in stacks}) == 1
    if one_base and any(stack.members for stack in stacks):
        return MovingAdapters(path, options)
    return MovingWeights(path, beside, options)


class MovingAdapters:
    """One base, and adapters whose weights follow q."""

    how = "adapters"

    def __init__(self, path: Merge | Checkpoint, options: dict[str, Any]) -> None:
        self._path = path
        self._base = (path if isinstance(path, Checkpoint) else path.later).load(**options)
        self._with_adapters: PeftModel | None = None

    def at(self, q: float) -> Any:
        """Return the base with the adapters of q on it."""
        stack = at_weight(self._path, q).stack()
        assert stack is not None
        return self._become(stack)

    def of(self, model: Checkpoint) -> Any:
        """Return the base with a model's adapters on it."""
        return self._become(model.stack())

    def _become(self, stack: Stack) -> Any:
        if stack.members:
            self._with_adapters = on_stack(self._base, stack, self._with_adapters)
        elif self._with_adapters is not None:
            activate(self._with_adapters, stack)
        return self._base if self._with_adapters is None else self._with_adapters.get_base_model()


class MovingWeights:
    """One model's memory, filled with any combination of the files.

    A filling reads the files of the models that the combination names, once; its weights are bit for bit those that
    `sacpo merge` writes, cast to the loaded dtype.
    """

    how = "weights"

    def __init__(self, path: Merge | Checkpoint, beside: Checkpoint | None, options: dict[str, Any]) -> None:
        if options.get("quantization") is not None:
            raise ModelError(
                "weights in few bits cannot be filled anew",
                where="base.quantization",
                do="leave it out, or mix logits: --method token-level",
            )
        self._path = path
        last = path.folder if isinstance(path, Checkpoint) else path.later.folder
        named = [*_combination(path, 0.5), *([beside.folder] if beside is not None else [])]
        self._terms = [*(term for term in dict.fromkeys(named) if term != last), last]
        checkpoints = [open_model(term) for term in self._terms]
        self._found = check_mergeable(checkpoints)
        self._model = load_model(last, **{**options, "adapters": "merged"})
        self._places = self._tensors(checkpoints[-1].folder)
        self._filled: Combination | None = None

    def at(self, q: float) -> Any:
        """Return the model filled with the combination of q."""
        return self._fill(_combination(self._path, q))

    def of(self, model: Checkpoint) -> Any:
        """Return the model filled with another's weights."""
        return self._fill({model.folder: 1.0})

    def _tensors(self, folder: Path) -> dict[str, torch.Tensor]:
        """Return the loaded model's memory by the names in the later model's files, but for what it computes itself."""
        architecture = architecture_of(folder)
        state = self._model.state_dict()
        names = {stored: architecture.name_of(stored) if architecture else stored for stored in self._found[-1]}
        missing = sorted(name for name in names.values() if name is not None and name not in state)
        if missing:
            raise ModelError(
                "this architecture's weights are put together when they are loaded, so they cannot be filled anew",
                where=folder,
                value=missing[0],
                do="mix logits (--method token-level), or write merged weights first: sacpo merge",
            )
        return {stored: state[name] for stored, name in names.items() if name is not None}

    @torch.no_grad()
    def _fill(self, combination: Combination) -> object:
        if combination == self._filled:
            return self._model
        self._filled = None  # a filling that fails leaves weights of no model
        used = [(k, combination[term]) for k, term in enumerate(self._terms) if combination.get(term, 0.0) != 0.0]
        with one_thread(), readers(len(used)) as sources:
            for name, memory in self._places.items():
                stored = [self._found[k][name] for k, _ in used]
                start, flat = 0, memory.view(-1)
                dtype = self._found[-1][name].dtype
                for (piece,) in merged_pieces(stored, [[weight for _, weight in used]], sources, dtype):
                    flat[start : start + piece.numel()].copy_(piece)
                    start += piece.numel()
        self._filled = combination
        return self._model


class MovingLogits:
    """Two models whose logits are mixed; one beside them is loaded when it is asked."""

    how = "logits"

    def __init__(self, path: Merge, options: dict[str, Any]) -> None:
        self._path, self._options = path, options
        both = mixed_model(path.folders, (0.5, 0.5), **options)
        self._ends = [*both.models]
        self._others: dict[Checkpoint, object] = dict(zip(path.models, self._ends, strict=True))

    def at(self, q: float) -> Any:
        """Return the mixture at q."""
        return MixedModel(self._ends, (1.0 - q, q)).eval()

    def of(self, model: Checkpoint) -> Any:
        """Return a model by itself."""
        if model not in self._others:
            self._others[model] = load_model(model.folder, **self._options)
        return self._others[model]


def at_weight(path: Merge | Checkpoint, q: float) -> Merge | Checkpoint:
    """Return a path's model at q; a single model is itself."""
    return path if isinstance(path, Checkpoint) else replace(path, weights=(1.0 - q, q))


def _combination(path: Merge | Checkpoint, q: float) -> Combination:
    return {path.folder: 1.0} if isinstance(path, Checkpoint) else replace(path, weights=(1.0 - q, q)).combination()
