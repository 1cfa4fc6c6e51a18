"""Adapters as tensors: their factors by module, and one adapter of concatenated rank that is a whole stack.

`sum_k w_k s_k B_k A_k = [w_1 s_1 B_1, w_2 s_2 B_2, ...] [A_1; A_2; ...]`: one product of rank `r_1 + r_2 + ...`.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sacpo.errors import ModelError
from sacpo.models.adapters.folder import AGAIN, CONFIG, ENDS, PREFIX, WEIGHTS, config_of, unplain
from sacpo.models.adapters.stack import DESCRIPTION, Stack, describe
from sacpo.plain import JsonObject
from sacpo.system.files import write_atomic, write_json
from sacpo.system.machine import machine_errors

DEFAULT_ALPHA = 8  # peft's
SIDES = dict(zip(ENDS, (0, 1, 0, 1), strict=True))


@dataclass(frozen=True)
class Factors:
    """One module's change `b @ a` of its weight, scale and weight included in `b`.

    Attributes:
        a: Shape: (rank, in).
        b: Shape: (out, rank).
        embedding: The module is an embedding, whose weight is (in, out).
        transposed: The weight is stored as (in, out).
    """

    a: torch.Tensor
    b: torch.Tensor
    embedding: bool
    transposed: bool

    @property
    def rank(self) -> int:
        """The rank."""
        return int(self.a.shape[0])


def factors_of(stack: Stack) -> dict[str, Factors]:
    """Return the whole change of a stack by module.

    Raises:
        ModelError: An adapter is corrupted, or more than plain LoRA.
    """
    found: dict[str, Factors] = {}
    for member in stack.members:
        for name, own in _read(member.folder, member.weight).items():
            found[name] = own if name not in found else _beside(found[name], own)
    return found


def write_adapter(factors: dict[str, Factors], folder: Path, base: str, revision: str | None = None) -> None:
    """Write one peft adapter on `base`, of one rank for all modules and scale 1, as every loader understands it.

    Modules of a smaller rank are filled up with zeros. Loaders that know no patterns of ranks (vLLM) are served too.
    """
    rank = max(own.rank for own in factors.values())
    tensors = {}
    for name, own in factors.items():
        ends = ("lora_embedding_A", "lora_embedding_B") if own.embedding else ("lora_A.weight", "lora_B.weight")
        missing = rank - own.rank
        tensors[f"{PREFIX}{name}.{ends[0]}"] = torch.nn.functional.pad(own.a, (0, 0, 0, missing)).contiguous()
        tensors[f"{PREFIX}{name}.{ends[1]}"] = torch.nn.functional.pad(own.b, (0, missing)).contiguous()
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=rank,
        target_modules=sorted(factors),
        fan_in_fan_out=any(own.transposed and not own.embedding for own in factors.values()),
        inference_mode=True,
    )
    with machine_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config.save_pretrained(str(folder))
    settle_config(folder, base, revision)


def settle_config(folder: Path, base: str, revision: str | None = None) -> None:
    """Name the base in an adapter's configuration, and put what peft holds as sets into an order.

    A folder is named by its absolute path, so that peft finds it from anywhere; `adapters.json` names it relatively.
    """
    place = str(Path(base).resolve()) if Path(base).is_dir() else base
    config = {**config_of(folder), "base_model_name_or_path": place, "revision": revision}
    for name in ("target_modules", "exclude_modules", "modules_to_save"):
        if isinstance(config.get(name), list):
            config[name] = sorted(config[name])
    write_json(folder / CONFIG, config)


def write_stack(stack: Stack, folder: Path, home: Path | None = None) -> None:
    """Write a stack as a folder of its own, which needs nothing but the base; see `sacpo.models.adapters.stack`.

    Args:
        stack: The model; it has adapters.
        folder: The folder, made if it is not there; an adapter that lies in it already stays.
        home: Where the folder will be found, if it is renamed later.
    """
    alone = len(stack.members) == 1 and stack.members[0].weight == 1.0
    names = ["."] if alone else [f"adapters/{i}" for i in range(1, len(stack.members) + 1)]
    with machine_errors(folder):
        for name, member in zip(names, stack.members, strict=True):
            target = folder / name
            target.mkdir(parents=True, exist_ok=True)
            if target.resolve() != member.folder.resolve():
                for file in (CONFIG, WEIGHTS):
                    shutil.copyfile(member.folder / file, target / file)
    if not alone:
        write_adapter(factors_of(stack), folder, stack.base, stack.revision)
    write_atomic(folder / DESCRIPTION, describe(stack, names, home or folder))


def _read(folder: Path, weight: float) -> dict[str, Factors]:
    config = config_of(folder)
    beyond = unplain(config)
    if beyond is not None:
        raise ModelError(
            "this adapter is more than plain LoRA, so it cannot be scaled or put beside others",
            where=folder,
            value=beyond,
            do="write merged weights first: sacpo export MODEL --out FOLDER",
        )
    sides: dict[str, dict[int, torch.Tensor]] = {}
    embeddings: set[str] = set()
    for key, tensor in _factors(folder).items():
        name, end = _split(key, folder)
        sides.setdefault(name, {})[SIDES[end]] = tensor
        if "embedding" in end:
            embeddings.add(name)
    found = {}
    for name, pair in sides.items():
        if len(pair) != 2 or pair[0].shape[0] != pair[1].shape[1]:
            raise ModelError("an adapter's factors do not fit together", where=folder / WEIGHTS, value=name, do=AGAIN)
        factor = weight * _scale(config, name, int(pair[0].shape[0]))
        scaled = pair[1] if factor == 1.0 else (pair[1].float() * factor).to(pair[1].dtype)
        embedding = name in embeddings
        found[name] = Factors(pair[0], scaled, embedding, embedding or bool(config.get("fan_in_fan_out")))
    return found


def _scale(config: JsonObject, module: str, rank: int) -> float:
    pattern: dict[str, float] = config.get("alpha_pattern") or {}
    alpha = pattern.get(get_pattern_key(list(pattern), module), config.get("lora_alpha", DEFAULT_ALPHA))
    if not isinstance(alpha, int | float):
        raise ModelError("an adapter's lora_alpha is no number", where=module, value=alpha, do=AGAIN)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _factors(folder: Path) -> dict[str, torch.Tensor]:
    """Return an adapter's factors; what a plain one holds beside them is its base's (`folder.beyond`)."""
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return {name: file.get_tensor(name) for name in [*file.keys()] if name.endswith(ENDS)}
    except (OSError, SafetensorError) as error:
        raise ModelError("an adapter's weights cannot be read", where=folder / WEIGHTS, do=AGAIN) from error


def _split(key: str, folder: Path) -> tuple[str, str]:
    end = next((end for end in SIDES if key.endswith(f".{end}")), None)
    if end is None or not key.startswith(PREFIX):
        raise ModelError(
            "an adapter holds a tensor under a name that peft does not give",
            where=folder / WEIGHTS,
            value=key,
            allowed=f"{PREFIX}MODULE.lora_A.weight and so on",
            do="load the adapter with what wrote it, and save it with peft's save_pretrained",
        )
    return key[len(PREFIX) : -len(end) - 1], end


def _beside(first: Factors, later: Factors) -> Factors:
    dtype = torch.promote_types(first.a.dtype, later.a.dtype)
    a = torch.cat([first.a.to(dtype), later.a.to(dtype)])
    b = torch.cat([first.b.to(dtype), later.b.to(dtype)], dim=1)
    return Factors(a, b, first.embedding, first.transposed)


def delta_rows(factors: Factors, start: int, stop: int) -> torch.Tensor:
    """Return rows [start, stop) of the change, in the layout of the stored weight. Shape: (stop - start, columns)."""
    if factors.transposed:
        return (factors.b.float() @ factors.a[:, start:stop].float()).T
    return factors.b[start:stop].float() @ factors.a.float()
