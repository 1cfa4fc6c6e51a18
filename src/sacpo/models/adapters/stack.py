"""What a model is that has no weights of its own: a base, and plain LoRA adapters on it, each with a weight.

    model/
      adapters.json                    the base (hub id, or the way to its folder), and the adapters in their order
      adapter_config.json              one adapter that is all of them, for peft, transformers, TRL and vLLM
      adapter_model.safetensors
      adapters/1, adapters/2, ...      each adapter by itself, a peft folder; absent where there is one of weight 1
      tokenizer.json ...

The weights are `W + sum_k w_k s_k B_k A_k` with peft's scale s (`lora_alpha / r`): linear in the adapters. So a linear
merge of two models on one base is a stack again, and no tensor of the base is touched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sacpo.errors import ModelError
from sacpo.models.adapters.folder import (
    AGAIN,
    CONFIG,
    WEIGHTS,
    base_of,
    beyond,
    config_of,
    header,
    is_adapter,
    read_json,
    unplain,
)
from sacpo.system.files import content_key, file_hash

__all__ = [
    "CONFIG",
    "DESCRIPTION",
    "WEIGHTS",
    "Member",
    "Stack",
    "adapter_key",
    "base_of",
    "beyond",
    "blend",
    "config_of",
    "describe",
    "is_adapter",
    "read_stack",
    "stack_of",
    "unplain",
]
DESCRIPTION = "adapters.json"
FORMAT = 1
SCALING = ("lora_alpha", "r", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out")


@dataclass(frozen=True)
class Member:
    """One adapter of a stack.

    Attributes:
        folder: Its peft folder.
        key: Its content key; see `adapter_key`.
        weight: Factor of its change of the weights: q for P-SACPO's last adapter.
    """

    folder: Path
    key: str
    weight: float = 1.0


@dataclass(frozen=True)
class Stack:
    """A model as a base and adapters.

    Attributes:
        base: Hub id, or folder of the base's weights.
        revision: The base's hub revision.
        base_key: Content key of the base's weights as they were when the stack was made; empty: not noted.
        members: The adapters, the first step's first.
    """

    base: str
    revision: str | None = None
    base_key: str = ""
    members: tuple[Member, ...] = ()

    @property
    def place(self) -> tuple[str, str | None]:
        """What tells whether two stacks stand on the same base."""
        folder = Path(self.base)
        return (str(folder.resolve()), None) if folder.is_dir() else (self.base, self.revision)


def read_stack(path: str | Path) -> Stack | None:
    """Return the stack that a folder describes, or None where it holds weights of its own (or is a hub id).

    A folder of peft's (`adapter_config.json`, made by TRL, say) is a stack of one adapter.

    Raises:
        ModelError: The description cannot be read, or its base is gone.
    """
    folder = Path(path)
    if (folder / DESCRIPTION).is_file():
        return _described(folder)
    if is_adapter(folder) and beyond(folder) is None:
        base, revision = base_of(folder)
        below = read_stack(base) or Stack(base, revision)
        return Stack(below.base, below.revision, below.base_key, (*below.members, Member(folder, adapter_key(folder))))
    return None


def stack_of(path: str | Path, revision: str | None = None) -> Stack:
    """Return a model as a stack; one that has weights of its own is a base without adapters."""
    return read_stack(path) or Stack(str(path), revision)


def adapter_key(folder: Path) -> str:
    """Return the content key of an adapter: its tensors and what scales them, wherever it lies."""
    config = config_of(folder)
    header(folder)
    return content_key({"weights": file_hash(folder / WEIGHTS), **{name: config.get(name) for name in SCALING}})


def blend(
    models: Sequence[Stack], weights: Sequence[float], origin: Stack | None = None, scale: float = 1.0
) -> Stack | None:
    """Return `first + sum_k w_k scale (model_k - origin)` over the models behind the first as a stack, exactly.

    `origin` is the first model where it is not given. Then, with weights that add up to 1, this is `sum_k w_k model_k`.
    Between a step's reference and its model it multiplies the step's own adapter by q and leaves the others as they are
    (P-SACPO, section 6 of arXiv 2404.11049).

    Returns:
        The stack without adapters of weight 0 (unless all are), or None where the models stand on different bases.
    """
    first, *others = models
    stacks = [*models, origin or first]
    if len({stack.place for stack in stacks}) > 1:
        return None
    ours, *theirs, before = ({member.key: member.weight for member in stack.members} for stack in stacks)
    members = {member.key: member for stack in stacks for member in stack.members}
    mixed = dict.fromkeys(members, 0.0)
    for key in members:
        mixed[key] = ours.get(key, 0.0)
        for own, weight in zip(theirs, weights[1:], strict=True):
            mixed[key] += weight * scale * (own.get(key, 0.0) - before.get(key, 0.0))
    used = {key: weight for key, weight in mixed.items() if weight != 0.0} or mixed
    kept = tuple(Member(members[key].folder, key, weight) for key, weight in used.items())
    known = next((stack.base_key for stack in (first, *others) if stack.base_key), "")
    return Stack(first.base, first.revision, known, kept)


def describe(stack: Stack, folders: Sequence[str], home: Path) -> str:
    """Return the text of `adapters.json`.

    Args:
        stack: The model.
        folders: Where each adapter lies, relative to the description.
        home: The folder in which the description will be found; the way to a base's folder starts there.
    """
    base: dict[str, object] = {"model": stack.base, "revision": stack.revision, "key": stack.base_key}
    if Path(stack.base).is_dir():
        way = os.path.relpath(Path(stack.base).resolve(), home.absolute())
        base = {"folder": Path(way).as_posix(), "key": stack.base_key}
    members = [
        {"folder": folder, "key": member.key, "weight": member.weight}
        for folder, member in zip(folders, stack.members, strict=True)
    ]
    return json.dumps({"format": FORMAT, "base": base, "adapters": members}, indent=2) + "\n"


def _described(folder: Path) -> Stack:
    path = folder / DESCRIPTION
    data = read_json(path)
    try:
        found, members = data["base"], [(m["folder"], m["key"], float(m["weight"])) for m in data["adapters"]]
        base = os.path.normpath(folder / found["folder"]) if "folder" in found else found["model"]
        key, revision = found["key"], found.get("revision")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError("a description of adapters cannot be read", where=path, do=AGAIN) from error
    if "folder" in found and not Path(base).is_dir():
        raise ModelError(
            "the base that these adapters stand on is not where it was",
            where=path,
            value=base,
            do="put the base back, or write its place into base.folder; 'sacpo export' makes a model that needs none",
        )
    return Stack(base, revision, key, tuple(Member(folder / name, key, weight) for name, key, weight in members))
