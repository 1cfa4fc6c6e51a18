"""Models of a base and adapters as checkpoints: merged weights are made piece by piece, never a whole model.

Each tensor is `W + sum_k w_k s_k B_k A_k`, summed in float32 and rounded once to the base's dtype. The base is read in
full precision: adapters that were trained on a quantised base meet the weights before their quantisation, and the
merged model differs from the trained one by the quantisation's error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sacpo.errors import ModelError
from sacpo.merge.locate import local_checkpoint
from sacpo.merge.streamed import check_coefficients, copy_companions, merge_opened
from sacpo.merge.tensors import Checkpoint, StoredTensor, open_checkpoint
from sacpo.models.adapters.factors import Factors, factors_of, write_adapter
from sacpo.models.adapters.loading import merged, on_stack
from sacpo.models.adapters.stack import Stack, is_adapter, stack_of
from sacpo.models.architecture import architecture_of
from sacpo.models.loading import load_model, load_tokenizer, save_model
from sacpo.system.progress import QUIET, Progress


def open_model(path: str | Path) -> Checkpoint:
    """Read the headers of a model's weights: a folder of weights, or of adapters; errors as in `open_stack`."""
    return open_stack(stack_of(path), Path(path))


def open_stack(stack: Stack, companions: Path | None = None) -> Checkpoint:
    """Read the headers of a base's weights, and the adapters on it.

    Args:
        stack: The model.
        companions: A folder whose tokenizer the model takes in place of the base's.

    Raises:
        ModelError: As in `open_checkpoint`, or an adapter changes a tensor that the base does not hold.
    """
    base = open_checkpoint(local_checkpoint(stack.base, stack.revision))
    if not stack.members:
        return base
    changes = factors_of(stack)
    names = _module_names(base)
    unmergeable = sorted(name for name, change in changes.items() if not _has_own_weights(name, change, base, names))
    if unmergeable:
        raise ModelError(
            "an adapter changes a module that shares its weights with another, or whose weights are not in the files",
            where=base.folder,
            value=unmergeable[0],
            do="use the adapters as they are, or train without this module (tied embeddings are one with the head)",
        )
    shards = tuple(
        replace(shard, tensors=tuple(_changed(tensor, changes.get(names[tensor.name])) for tensor in shard.tensors))
        for shard in base.shards
    )
    return Checkpoint(base.folder, shards, companions)


def _module_names(base: Checkpoint) -> dict[str, str]:
    """Return the module whose weight each stored tensor is, "" for none; files may leave out a model's prefix."""
    architecture = architecture_of(base.folder)
    names = {stored: stored if architecture is None else architecture.name_of(stored) or "" for stored in base.tensors}
    return {stored: name.removesuffix(".weight") if name.endswith(".weight") else "" for stored, name in names.items()}


def _has_own_weights(name: str, change: Factors, base: Checkpoint, names: Mapping[str, str]) -> bool:
    own = next((base.tensors[stored] for stored, module in names.items() if module == name), None)
    if own is None or not change.embedding:
        return own is not None
    return any(other.shape == own.shape for other in base.tensors.values() if other is not own)  # the head's


def _changed(tensor: StoredTensor, change: Factors | None) -> StoredTensor:
    if change is None:
        return tensor
    shape = (change.b.shape[0], change.a.shape[1])
    if tuple(tensor.shape) != (shape[::-1] if change.transposed else shape):
        raise ModelError(
            "an adapter's change has another shape than the weight that it changes",
            where=tensor.file,
            value=f"{tensor.name}: {list(tensor.shape)}, the adapter's {list(shape)}",
            do="name the base that the adapter was trained on",
        )
    return replace(tensor, change=change)


def merge_checkpoints(
    terms: Sequence[Path],
    coefficients: Sequence[Sequence[float]],
    outs: Sequence[Path],
    *,
    dtype: str | None = None,
    progress: Progress = QUIET,
) -> None:
    """Write `sum_k c_k terms_k` for each row of coefficients `c`; see `sacpo.merge.streamed.merge_opened`.

    Args:
        terms: Folders with safetensors weights, or with adapters.
        coefficients: One row for each output, one number for each term.
        outs: One folder for each row, made if it is not there.
        dtype: Name of the dtype that weights are stored in; None: the later model's.
        progress: Where to show it.
    """
    check_coefficients(terms, coefficients)
    merge_opened([open_model(Path(term)) for term in terms], coefficients, outs, dtype=dtype, progress=progress)


def write_merged(stack: Stack, out: Path, companions: Path | None = None, *, progress: Progress = QUIET) -> None:
    """Write a model as a standard folder that needs nothing else: its adapters are added to the base's weights.

    Plain LoRA is merged in one streamed pass. An adapter that is more than that is merged by peft, in memory.

    Args:
        stack: The model.
        out: The folder, made if it is not there.
        companions: A folder whose tokenizer the model takes in place of the base's.
        progress: Where to show it.

    Raises:
        ModelError: The adapters do not fit the base, or a merged tensor is not finite.
        MachineError: The disk is full or the folder cannot be written.
    """
    if not is_adapter(Path(stack.base)):
        merge_opened([open_stack(stack, companions)], [[1.0]], [out], progress=progress)
        return
    model = load_model(stack.base, adapters="merged")
    if stack.members:
        model = merged(on_stack(model, stack))
    save_model(model, load_tokenizer(companions or stack.base), out)


def write_one_adapter(model: str | Path, out: Path) -> None:
    """Write a model of a base and adapters as one adapter of concatenated rank on that base, as peft and vLLM load it.

    Raises:
        ModelError: The model has no adapters, or they are more than plain LoRA.
    """
    stack = stack_of(model)
    if not stack.members:
        raise ModelError(
            "this model has no adapters of plain LoRA",
            where=model,
            do="leave --adapter out: merged weights are written",
        )
    write_adapter(factors_of(stack), out, stack.base, stack.revision)
    copy_companions(Path(model), out)
