"""Digests of what a run or a verb left on the disk: one line a file, the same wherever and whenever it was made."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

SKIPPED = {"manifest.json", ".lock", "recipe.yaml", "results.json"}
"""Manifests hold keys, whose definition may change; results.json is kept as it is, the recipe in it."""
CACHES = {"cache", "checkpoints"}
"""Folders of what can be computed again; files in them are named by keys."""
KEY = re.compile(r"[0-9a-f]{64}")
"""What adapters.json holds beside its folders and weights: keys of models."""
OPAQUE = {".pdf", ".png", ".sqlite", ".sqlite-wal", ".sqlite-shm"}
"""Kept out: they hold dates, or the same numbers as the text beside them."""


class Masks:
    """Texts that differ from call to call (folders, addresses, versions), and what is put in their places."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = dict(sorted(texts.items(), key=lambda pair: -len(pair[0])))

    def text(self, text: str) -> str:
        for old, new in self.texts.items():
            text = text.replace(old, new)
        return text

    def data(self, data: Any) -> Any:
        return json.loads(self.text(json.dumps(data, ensure_ascii=False)))


def folder_digest(folder: Path, masks: Masks) -> dict[str, Any]:
    """Return the digest of every file below a folder, by its relative path in the order of names."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): file_digest(path, masks)
        for name, path in found.items()
        if path.name not in SKIPPED and path.suffix not in OPAQUE and CACHES.isdisjoint(name.parts)
    }


def file_digest(path: Path, masks: Masks) -> Any:
    """Return a text's hash, or of weights the hash and the root mean square, which other CPUs move a little only."""
    if path.suffix == ".safetensors":
        return weights_digest(path)
    text = masks.text(path.read_text(encoding="utf-8"))
    return text_digest(KEY.sub("<key>", text) if path.name == "adapters.json" else text)


def text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def weights_digest(path: Path) -> dict[str, Any]:
    """Hash names, types, shapes and bytes of the tensors in the order of names: metadata may stand in any order."""
    digest, squares, count = hashlib.sha256(), 0.0, 0
    for name, tensor in sorted(load_file(path).items()):
        array = tensor.contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
        squares += float(np.square(array.astype(np.float64)).sum())
        count += array.size
    return {"sha256": digest.hexdigest(), "numbers": count, "rms": (squares / count) ** 0.5}


def without(data: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in {*names}}
