"""What makes checkpoints mergeable: the same tensors, architecture and tokenizer. A difference is refused by name.

Folders are compared by what transformers makes of them, not by their bytes: see `sacpo.models.architecture`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sacpo.errors import ModelError
from sacpo.merge.tensors import Checkpoint, StoredTensor, same_values
from sacpo.models.architecture import Architecture, architecture_of, settings_of
from sacpo.models.loading import load_tokenizer

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
SHOWN = 5
Tensors = dict[str, StoredTensor]


def check_mergeable(checkpoints: Sequence[Checkpoint], *, headers_only: bool = False) -> list[Tensors]:
    """Check that checkpoints can be combined tensor by tensor, and return each one's tensors for every tensor written.

    What is written has the names of the last checkpoint, the later model. A tensor that the model computes itself is
    the later model's in all of them. An output head that is stored although it is the embedding is the embedding.
    Dtypes may differ.

    Args:
        checkpoints: The models.
        headers_only: Read no weights: a stored head of tied embeddings is taken to be the embedding.

    Returns:
        For each checkpoint its tensor by the later model's name.

    Raises:
        ModelError: Architecture, tensors, shapes or tokenizers differ; the message names what differs.
    """
    later = checkpoints[-1]
    for other in checkpoints[:-1]:
        check_configs(other.folder, later.folder)
    architecture = architecture_of(later.folder) if len(checkpoints) > 1 else None
    named = [named_tensors(checkpoint, architecture, headers_only=headers_only) for checkpoint in checkpoints]
    for other, tensors in zip(checkpoints[:-1], named, strict=False):
        _check_tensors(other, tensors, later, named[-1])
        check_tokenizers(_tokenizer_folder(other), _tokenizer_folder(later))
    places = {name: _place(name, architecture, named[-1]) for name in later.tensors}
    return [
        {name: later.tensors[name] if place is None else tensors[place] for name, place in places.items()}
        for tensors in named
    ]


def named_tensors(checkpoint: Checkpoint, architecture: Architecture | None, *, headers_only: bool) -> Tensors:
    """Return a checkpoint's tensors by the model's names, without those that the model computes or ties.

    As in transformers, tied tensors that are stored with different values are not tied.
    """
    if architecture is None:
        return checkpoint.tensors
    found: Tensors = {}
    tied: Tensors = {}
    for stored, tensor in checkpoint.tensors.items():
        name = architecture.name_of(stored)
        if name is not None:
            (tied if name in architecture.ties else found)[name] = tensor
    for name, tensor in tied.items():
        source = architecture.ties[name]
        if source not in found:
            found[source] = tensor
        elif tensor.shape != found[source].shape or not (headers_only or same_values(tensor, found[source])):
            found[name] = tensor
    return found


def _place(stored: str, architecture: Architecture | None, named: Tensors) -> str | None:
    """Return the name under which `named_tensors` has a stored tensor, None where the model computes it."""
    if architecture is None:
        return stored
    name = architecture.name_of(stored)
    return name if name is None or name in named else architecture.ties[name]


def _check_tensors(first: Checkpoint, ours: Tensors, later: Checkpoint, theirs: Tensors) -> None:
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


def check_configs(first: Path, later: Path) -> None:
    """Check that two config.json describe the same computation; errors as in `check_mergeable`."""
    ours, theirs = settings_of(first), settings_of(later)
    for key in sorted(ours.keys() | theirs.keys(), key=lambda key: (key != "model_type", key)):
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
    if not (has_tokenizer(first) and has_tokenizer(later)) or _same_file(first, later, "tokenizer.json"):
        return
    check_vocabularies(load_tokenizer(first).get_vocab(), load_tokenizer(later).get_vocab(), f"{first} and {later}")


def check_vocabularies(ours: Mapping[str, int], theirs: Mapping[str, int], where: str) -> None:
    """Check that no number means two tokens and no token has two numbers; errors as in `check_mergeable`.

    A token that only one of them has is no difference where its number is free in the other, as a padding token that
    was added is.
    """
    numbers = {number: token for token, number in ours.items()}
    clashing = {token for token, number in theirs.items() if numbers.get(number, token) != token}
    clashing |= {numbers[theirs[token]] for token in clashing}
    different = sorted(clashing | {token for token in ours.keys() & theirs.keys() if ours[token] != theirs[token]})
    if different:
        shown = ", ".join(f"{token!r} ({ours.get(token)} and {theirs.get(token)})" for token in different[:SHOWN])
        raise ModelError(
            f"the tokenizers of the models to be merged differ in {len(different)} tokens",
            where=where,
            value=shown + (", ..." if len(different) > SHOWN else ""),
            do="merge models trained with one tokenizer",
        )


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder holds a tokenizer's files."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def _same_file(first: Path, later: Path, name: str) -> bool:
    ours, theirs = first / name, later / name
    return ours.is_file() and theirs.is_file() and ours.read_bytes() == theirs.read_bytes()


def _tokenizer_folder(checkpoint: Checkpoint) -> Path:
    own = checkpoint.adapters
    return own if own is not None and has_tokenizer(own) else checkpoint.folder
