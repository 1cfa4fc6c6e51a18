"""What makes checkpoints mergeable: the same tensors, architecture and tokenizer. A difference is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sacpo.errors import ModelError
from sacpo.merge.tensors import Checkpoint
from sacpo.models.loading import load_tokenizer

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
SHOWN = 5
# Keys of config.json that do not change what a weight means; every other difference is refused.
BOOKKEEPING = {
    "_name_or_path",
    "_attn_implementation_autoset",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "initializer_range",
    "attention_dropout",
    "hidden_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "pretraining_tp",
}


def check_mergeable(checkpoints: Sequence[Checkpoint]) -> None:
    """Check that checkpoints can be combined tensor by tensor.

    Raises:
        ModelError: Architecture, tensors, shapes, dtypes or tokenizers differ; the message names what differs.
    """
    later = checkpoints[-1]
    for other in checkpoints[:-1]:
        check_configs(other.folder, later.folder)
        check_tensors(other, later)
        check_tokenizers(other.folder, later.folder)


def check_tensors(first: Checkpoint, later: Checkpoint) -> None:
    """Check that two checkpoints hold the same tensors; errors as in `check_mergeable`."""
    ours, theirs = first.tensors, later.tensors
    where = f"{first.folder} and {later.folder}"
    for name in sorted(ours.keys() ^ theirs.keys()):
        holder = first if name in ours else later
        raise ModelError(
            "a tensor is in only one of the models to be merged",
            where=where,
            value=f"{name}, only in {holder.folder}",
            do="merge models of one architecture, both with tied or both with untied embeddings",
        )
    for name, tensor in ours.items():
        if tensor.shape != theirs[name].shape:
            raise ModelError(
                "a tensor has different shapes in the models to be merged",
                where=where,
                value=f"{name}: {list(tensor.shape)} and {list(theirs[name].shape)}",
                do="merge models trained from the same base",
            )
        if tensor.code != theirs[name].code:
            raise ModelError(
                "a tensor has different dtypes in the models to be merged",
                where=where,
                value=f"{name}: {tensor.code} and {theirs[name].code}",
                do="save both models in the same dtype",
            )


def check_configs(first: Path, later: Path) -> None:
    """Check that two config.json describe the same computation; errors as in `check_mergeable`."""
    ours, theirs = _config(first), _config(later)
    for key in sorted((ours.keys() | theirs.keys()) - BOOKKEEPING):
        if ours.get(key) != theirs.get(key):
            raise ModelError(
                "the models to be merged have different configurations",
                where=f"{first / 'config.json'} and {later / 'config.json'}",
                value=f"{key}: {ours.get(key)} and {theirs.get(key)}",
                do="merge models of one architecture, trained from the same base",
            )


def check_tokenizers(first: Path, later: Path) -> None:
    """Check that two folders' tokenizers give every token the same number; errors as in `check_mergeable`.

    A folder without a tokenizer is not compared.
    """
    if not (_has_tokenizer(first) and _has_tokenizer(later)) or _same_file(first, later, "tokenizer.json"):
        return
    check_vocabularies(load_tokenizer(first).get_vocab(), load_tokenizer(later).get_vocab(), f"{first} and {later}")


def check_vocabularies(ours: Mapping[str, int], theirs: Mapping[str, int], where: str) -> None:
    """Check that two vocabularies give every token the same number; errors as in `check_mergeable`."""
    different = sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token))
    if different:
        shown = ", ".join(f"{token!r} ({ours.get(token)} and {theirs.get(token)})" for token in different[:SHOWN])
        raise ModelError(
            f"the tokenizers of the models to be merged differ in {len(different)} tokens",
            where=where,
            value=shown + (", ..." if len(different) > SHOWN else ""),
            do="merge models trained with one tokenizer",
        )


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            "the model folder has no config.json", where=folder, do="copy the whole checkpoint again"
        ) from error
    except ValueError as error:
        raise ModelError("a config.json cannot be read", where=path, do="copy the checkpoint again") from error
    if not isinstance(data, dict):
        raise ModelError("a config.json is not a JSON object", where=path, do="copy the checkpoint again")
    return data


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def _same_file(first: Path, later: Path, name: str) -> bool:
    ours, theirs = first / name, later / name
    return ours.is_file() and theirs.is_file() and ours.read_bytes() == theirs.read_bytes()
