"""Whether models will merge, found from the headers of their files before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from sacpo.errors import ModelError
from sacpo.merge.compatible import check_mergeable, named_tensors
from sacpo.merge.locate import FILES
from sacpo.merge.stacked import open_model
from sacpo.merge.tensors import FLOATS, INDEX, SINGLE, Checkpoint
from sacpo.models.architecture import architecture_of
from sacpo.models.checks import check_place


def check_ahead(models: Sequence[str | Path], revision: str | None = None) -> None:
    """Check that models can be merged with each other, and each with what is trained from it.

    Nothing is downloaded: a hub model that is not in the cache is not looked at.

    Args:
        models: Folders or hub ids.
        revision: The hub ids' revision.

    Raises:
        ModelError: They cannot be merged; the message names what differs, or the tensor that cannot be merged.
    """
    checkpoints = [open_model(folder) for model in models if (folder := _here(model, revision)) is not None]
    for checkpoint in checkpoints:
        _check_alone(checkpoint)
    if len(checkpoints) > 1:
        check_mergeable(checkpoints, headers_only=True)


def _here(model: str | Path, revision: str | None) -> Path | None:
    if Path(model).is_dir():
        return Path(model)
    check_place(model)
    try:
        folder = Path(
            snapshot_download(str(model), revision=revision, allow_patterns=list(FILES), local_files_only=True)
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if (folder / SINGLE).is_file() or (folder / INDEX).is_file() else None


def _check_alone(checkpoint: Checkpoint) -> None:
    """Refuse tensors that a model trained from this one will not have, and weights that cannot be averaged."""
    architecture = architecture_of(checkpoint.folder)
    if architecture is None:
        return
    found = named_tensors(checkpoint, architecture, headers_only=True)
    expected = {name for name in architecture.shapes if name not in architecture.ties}
    if not expected <= found.keys():
        return  # tensors that are put together when they are read (experts), or a gap, which loading refuses
    for name, tensor in found.items():
        shape = architecture.shapes.get(name, tensor.shape)
        if name not in architecture.shapes or tensor.shape != shape or tensor.dtype not in FLOATS:
            raise ModelError(
                "this model could not be merged with one that is trained from it",
                where=checkpoint.folder,
                value=f"{name}: {tensor.code} {list(tensor.shape)}",
                allowed=f"floating-point weights of shape {list(shape)}"
                if name in architecture.shapes
                else "the tensors of its architecture",
                do="copy the whole checkpoint again, or save it anew with transformers (save_pretrained)",
            )
