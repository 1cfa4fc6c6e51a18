"""Adapters of the hub: downloaded as a folder, so that they are read as any folder of peft's is, and no pickle is."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from transformers.utils.peft_utils import find_adapter_config_file

from sacpo.models.checks import model_errors
from sacpo.system.on_hub import ask_once

FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt", "*.py")


def local_adapter(path: str | Path, revision: str | None) -> tuple[Path, None] | None:
    """Return the folder of a hub id's adapter, downloaded to the cache; None for a folder, and for a whole model.

    Raises:
        ModelError: The hub does not answer, or has no such model.
    """
    if Path(path).is_dir():
        return None
    ask_once(str(path), "model", revision)
    with model_errors(path):
        found = find_adapter_config_file(str(path), revision=revision)
        if found is None or (Path(found).parent / "config.json").is_file():
            return None
        return Path(snapshot_download(str(path), revision=revision, allow_patterns=list(FILES))), None
