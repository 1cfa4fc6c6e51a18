"""What a model is known by: the content of every file of its folder that can change a number, and of no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from sacpo.errors import ModelError
from sacpo.models.adapters.folder import CONFIG, WEIGHTS, base_of, is_adapter
from sacpo.models.adapters.stack import DESCRIPTION, Stack, read_stack
from sacpo.models.checks import check_place
from sacpo.system.files import content_key, file_hash

KINDS = (
    *(".json", ".jinja", ".txt", ".model", ".tiktoken", ".py"),
    *(".bpe", ".spm", ".vocab", ".vocabulary", ".codes", ".merges", ".v3", ".v7"),
)
"""Ends of the names of configurations, tokenizers, templates and code."""
TEMPLATES = "additional_chat_templates"
RECORDS = ("manifest.json", "files.json", "trainer_state.json", "*_results.json", "training_args.*", "metrics*.json")
"""What a training leaves beside a model, from which nothing is computed."""
NOTES = ("readme*", "license*", "licence*", "notice*", "requirements*.txt", "use_policy*", "changelog*")
PLACES = {
    "tokenizer_config.json": ("is_local", "local_files_only", "name_or_path"),
    "config.json": ("_name_or_path",),
    CONFIG: ("base_model_name_or_path",),  # whose content counts by itself
}
"""Keys that say where and how a folder was loaded, not what is in it."""


def companions(folder: Path) -> list[Path]:
    """Return the files of a model's folder that say what the model is, beside its weights and their index."""
    return [path for path in _said(folder) if not path.name.endswith(".safetensors.index.json")]


def weights_key(path: str | Path, revision: str | None = None) -> str:
    """Return a content key of a model: its files' hashes, or hub id and commit.

    Weights, configuration, tokenizer, chat templates and code count; texts for readers, the state of a training and the
    place where a tokenizer lay do not. Adapters are known by their content, their base's, and the tokenizer beside
    them. For a hub id the commit comes from the local cache where it is known, else from the revision's name.

    Raises:
        ModelError: The base of adapters is not what it was when they were trained.
    """
    folder = Path(path)
    stack = read_stack(folder)
    if stack is not None:
        members = [[member.key, member.weight] for member in stack.members]
        return json.dumps({"base": _base_key(stack, folder), "adapters": members, "files": _contents(_said(folder))})
    if folder.is_dir():
        found = _contents([*folder.glob("*.safetensors"), *_said(folder)])
        if is_adapter(folder):
            found |= {CONFIG: _content(folder / CONFIG), "base": weights_key(*base_of(folder))}
        return json.dumps(found)
    check_place(path)
    return json.dumps({"hub": str(path), "commit": _commit(str(path), revision)})


def base_key(path: str | Path, revision: str | None = None) -> str:
    """Return the content key that adapters note of their base: its weights and configuration, whatever stands beside.

    Raises:
        ModelError: As of `weights_key`.
    """
    folder = Path(path)
    if not folder.is_dir() or read_stack(folder) is not None or is_adapter(folder):
        return content_key(weights_key(path, revision))
    return content_key(_contents([*folder.glob("*.safetensors"), folder / "config.json"]))


def _base_key(stack: Stack, folder: Path) -> str:
    """Return the content key of a stack's base, which must be the one that was noted."""
    if stack.base_key not in ("", base_key(stack.base, stack.revision)) and Path(stack.base).is_dir():
        raise ModelError(
            "the base is not the model that these adapters were trained on",
            where=folder,
            value=stack.base,
            do="put back the base as it was, or train the adapters again",
        )
    return content_key(weights_key(stack.base, stack.revision))


def _said(folder: Path) -> list[Path]:
    """Return what a folder says of its model: configurations, tokenizer, templates, code."""
    return sorted({*_of_kind(folder), *folder.glob("*/*.py"), *(folder / TEMPLATES).glob("*.jinja")})


def _of_kind(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir() if folder.is_dir() else ():
        name = path.name.lower()
        own = name in (CONFIG, WEIGHTS, DESCRIPTION)  # of adapters, which are known by what they change
        left_out = own or any(Path(name).match(pattern) for pattern in (*RECORDS, *NOTES))
        if name.endswith(KINDS) and not left_out and path.is_file():
            yield path


def _contents(files: list[Path]) -> dict[str, str]:
    folders = {file.parent for file in files}
    root = min(folders, key=lambda folder: len(folder.parts), default=Path())
    return {file.relative_to(root).as_posix(): _content(file) for file in sorted(files) if file.is_file()}


def _content(file: Path) -> str:
    """Return a file's hash, of one that also says where it was loaded from without that."""
    if file.name in PLACES:
        try:
            data: object = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            data = None
        if isinstance(data, dict):
            return content_key({key: value for key, value in data.items() if key not in PLACES[file.name]})
    return file_hash(file)


def _commit(name: str, revision: str | None) -> str | None:
    for file in ("config.json", CONFIG, "tokenizer_config.json"):
        cached = try_to_load_from_cache(name, file, revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent.name
    return revision
