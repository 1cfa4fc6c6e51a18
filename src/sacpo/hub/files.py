"""Which files of a folder go to the hub: weights as safetensors and what is read with them, nothing else.

Pickles, states of optimisers, caches, logs and stores of verdicts stay; what stays is said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from sacpo.errors import DataError, ModelError
from sacpo.models.adapters.folder import WEIGHTS, is_adapter

MODEL = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"),
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("*.model", "*.tiktoken", "chat_template.jinja", "chat_template.json", "preprocessor_config.json"),
    *("processor_config.json", "configuration_*.py", "modeling_*.py", "tokenization_*.py"),
)
ADAPTER = ("adapter_config.json", WEIGHTS)
TEXTS = ("README.md", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
DATA = ("*.jsonl", "*.jsonl.gz", "*.json", "*.json.gz", "*.csv", "*.csv.gz", "*.parquet")
NEVER = (
    "manifest.json",
    "trainer_state.json",
    "optimizer*",
    "scheduler*",
    "rng_state*",
    "training_args*",
    "metrics*.json*",
)
NEVER_DATA = ("manifest.json", "journal*", "*log*.jsonl", "*.log", "metrics.jsonl")
WORST = 50
"""Files that are named one by one in a message."""


@dataclass(frozen=True)
class Chosen:
    """The files of a folder that are pushed, and those that are not, by their paths in it."""

    files: dict[str, Path]
    left: tuple[str, ...]


def model_files(folder: Path) -> Chosen:
    """Return the files of a model's folder, of weights or of an adapter.

    Raises:
        ModelError: It is no folder of a model, or its weights are not safetensors.
    """
    adapter = folder.is_dir() and is_adapter(folder)
    if not adapter and not (folder / "config.json").is_file():
        raise ModelError(
            "no model in this folder",
            where=folder,
            do="give the folder of a run, or one with config.json or adapter_config.json in it",
        )
    allowed = (*MODEL, *TEXTS, *(ADAPTER if adapter else ()))
    refused = NEVER if adapter else (*NEVER, *ADAPTER)
    found = _chosen(folder, lambda name: _matches(name, allowed) and not _matches(name, refused))
    weights = [name for name in found.files if name.endswith(".safetensors")]
    if not weights or (adapter and WEIGHTS not in weights):
        raise ModelError(
            "the folder has no weights as safetensors, and other files of weights can run code when they are opened",
            where=folder,
            value=[*found.left][:WORST],
            allowed="*.safetensors",
            do="write them with save_pretrained, or with 'sacpo export'",
        )
    return found


def data_files(folder: Path) -> Chosen:
    """Return the files of a folder of data; those below it too.

    Raises:
        DataError: There are none.
    """
    allowed = (*DATA, *TEXTS)
    found = _chosen(folder, lambda name: _matches(name, allowed) and not _matches(name, NEVER_DATA), deep=True)
    if not any(_matches(name, DATA) for name in found.files):
        raise DataError(
            "no data in this folder", where=folder, allowed=DATA, do="give a folder with files of records in it"
        )
    return found


def _chosen(folder: Path, wanted: Callable[[str], bool], *, deep: bool = False) -> Chosen:
    """Return the wanted files: those in the folder itself and, `deep`, below it; hidden and linked ones stay."""
    files, left = {}, []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file():
            continue
        inside = deep or "/" not in name
        hidden = any(part.startswith(".") for part in name.split("/"))
        outside = path.is_symlink() and not path.resolve().is_relative_to(folder.resolve())
        if inside and not hidden and not outside and wanted(path.name):
            files[name] = path
        else:
            left.append(name)
    return Chosen(files, tuple(left))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)
