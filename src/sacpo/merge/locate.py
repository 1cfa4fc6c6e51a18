"""Finding a checkpoint's files: a folder, or a hub model that is downloaded to the local cache."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from sacpo.errors import ModelError
from sacpo.models.checks import check_place
from sacpo.system.on_hub import NETWORK, ask_once

FILES = ("*.safetensors", "*.json", "*.model", "*.tiktoken", "*.jinja", "*.txt", "*.py")


def local_checkpoint(path: str | Path, revision: str | None = None) -> Path:
    """Return the folder of a checkpoint given by folder or hub id; pickles are not downloaded.

    Raises:
        ModelError: There is no such folder and the hub does not answer with a model.
    """
    if Path(path).is_dir():
        return Path(path)
    check_place(path)
    ask_once(str(path), "model", revision)
    try:
        return Path(snapshot_download(str(path), revision=revision, allow_patterns=list(FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError) as error:
        raise ModelError(
            "no such folder, and the hub did not answer with a model",
            where=path,
            do=f"{NETWORK}, or give a folder",
        ) from error
