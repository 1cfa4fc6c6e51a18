"""A folder of peft's, whoever wrote it: its configuration, its base, the header of its weights, what it is more than.

Nothing here reads more than headers, but where an adapter repeats tensors of its base: those are compared with it.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open

from sacpo.errors import ModelError
from sacpo.plain import JsonMapping, JsonObject

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
AGAIN = "copy the whole folder again"
PREFIX = "base_model.model."
ENDS = ("lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B")
"""Ends of the names of LoRA's factors."""
# Options of peft's LoraConfig with which weights are not `W + s B A`, so that nothing of stacks holds.
BEYOND = (
    *("use_dora", "modules_to_save", "lora_bias", "trainable_token_indices", "target_parameters", "layer_replication"),
    *("alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config"),
)
MOVING = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of `init_lora_weights` with which peft changes the base when the adapter is made."""
REPEATABLE = ("pissa", "olora", "loftq")
"""Those whose change follows from the base alone: peft makes it again when it loads the adapter."""


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder is an adapter of peft's and no whole model."""
    if not (folder / CONFIG).is_file() or holds_model(folder):
        return False
    return not (folder / "config.json").is_file() or (folder / WEIGHTS).is_file() or (folder / PICKLE).is_file()


def holds_model(folder: Path) -> bool:
    """Tell whether a folder holds a model's own weights as safetensors."""
    return any(path.name != WEIGHTS for pattern in ("*.safetensors", "*.index.json") for path in folder.glob(pattern))


def config_of(folder: Path) -> JsonObject:
    """Return an adapter's configuration.

    Raises:
        ModelError: It is missing or cannot be read.
    """
    return read_json(folder / CONFIG)


def base_of(folder: Path) -> tuple[str, str | None]:
    """Return the base that an adapter names, a hub id or a folder, and its revision.

    Raises:
        ModelError: It names none, the folder is not there, or the adapters stand on each other.
    """
    base, revision = _named_base(folder)
    seen, place = [folder.resolve()], Path(base)
    while place.is_dir() and is_adapter(place):
        if place.resolve() in seen:
            raise ModelError(
                "adapters stand on each other and on no model",
                where=folder / CONFIG,
                value=base,
                do="write the model's hub id or folder into base_model_name_or_path",
            )
        seen.append(place.resolve())
        place = Path(_named_base(place)[0])
    return base, revision


def _named_base(folder: Path) -> tuple[str, str | None]:
    config = config_of(folder)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base.strip():
        raise ModelError(
            "an adapter does not name the model that it was trained on",
            where=folder / CONFIG,
            value=f"base_model_name_or_path: {base}",
            do="write that model's hub id or folder there; a folder is relative to the working folder",
        )
    local = base.startswith((".", "/", "~")) or base.count("/") > 1
    if local and not Path(base).is_dir():
        raise ModelError(
            "the base that an adapter names is not there",
            where=folder / CONFIG,
            value=f"base_model_name_or_path: {base}",
            do="write there where it is, a hub id or a folder; a folder is relative to the working folder",
        )
    return base, revision if isinstance(revision, str) else None


def unplain(config: JsonMapping) -> str | None:
    """Return the first option that makes an adapter more than plain LoRA, as `name: value`, or None."""
    if config.get("peft_type", "LORA") != "LORA":
        return f"peft_type: {config['peft_type']}"
    if config.get("bias", "none") != "none":
        return f"bias: {config['bias']}"
    if moves_base(config.get("init_lora_weights")):
        return f"init_lora_weights: {config['init_lora_weights']}"
    return next((f"{name}: {config[name]}" for name in BEYOND if config.get(name)), None)


def moves_base(start: object) -> bool:
    """Tell whether peft changes the base's weights when it makes an adapter with this `init_lora_weights`."""
    return isinstance(start, str) and start.lower().startswith(MOVING)


def beyond(folder: Path) -> str | None:
    """Return what makes a folder's adapter more than plain LoRA, or None.

    That is an option, or a tensor of the base that it holds with other values: a head or embeddings that were resized
    or trained. Equal ones, which peft saves beside LoRA on a head, are no more than the base has.

    Raises:
        ModelError: The folder cannot be read, or names no base.
    """
    option = unplain(config_of(folder))
    if option is not None:
        return option
    whole = [name for name in header(folder) if not name.endswith(ENDS)]
    if not whole:
        return None
    base, revision = base_of(folder)
    weights = folder / WEIGHTS
    changed = _first_changed(weights, weights.stat().st_mtime_ns, tuple(whole), _local(base, revision))
    return None if changed is None else f"a tensor of its own: {changed}"


def header(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an adapter's tensors by name.

    Raises:
        ModelError: There are no weights, they are pickles, or they cannot be read.
    """
    weights = folder / WEIGHTS
    if not weights.is_file():
        if (folder / PICKLE).is_file():
            raise ModelError(
                "the adapter's weights are pickles, which can run code when they are opened",
                where=folder,
                value=PICKLE,
                allowed=WEIGHTS,
                do="convert them once: load the adapter with peft and call its save_pretrained",
            )
        raise ModelError("an adapter's weights are missing", where=weights, allowed="safetensors", do=AGAIN)
    try:
        with safe_open(weights, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in [*file.keys()]}
    except (OSError, SafetensorError) as error:
        raise ModelError("an adapter's weights cannot be read", where=weights, do=AGAIN) from error


def module_of(name: str, end: str) -> str:
    """Return the module that a tensor of an adapter belongs to."""
    return (
        name.removeprefix(PREFIX).removesuffix(f".{end}").removesuffix(".base_layer").removesuffix(".modules_to_save")
    )


def read_json(path: Path) -> JsonObject:
    """Return the object that a JSON file of a folder of adapters holds.

    Raises:
        ModelError: It is missing or no object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError("this file is missing, or is no JSON object", where=path, do=AGAIN) from error
    return data


def _local(base: str, revision: str | None) -> Path | None:
    """Return the folder of a base's files; None where it is a hub model that is not in the cache."""
    if Path(base).is_dir():
        return Path(base)
    cached = try_to_load_from_cache(base, "config.json", revision=revision)
    return Path(cached).parent if isinstance(cached, str) else None


@lru_cache(maxsize=64)
def _first_changed(weights: Path, _modified: int, names: tuple[str, ...], base: Path | None) -> str | None:
    """Return the first tensor of an adapter that its base does not hold, value by value; tied ones have one name."""
    files = sorted(base.glob("*.safetensors")) if base is not None and not is_adapter(base) else []
    with safe_open(weights, framework="pt") as own:
        for name in names:
            if not any(_holds(file, own.get_tensor(name)) for file in files):
                return name
    return None


def _holds(file: Path, tensor: Any) -> bool:
    try:
        with safe_open(file, framework="pt") as base:
            shape = list(tensor.shape)
            alike = [name for name in [*base.keys()] if base.get_slice(name).get_shape() == shape]
            return any(bool((base.get_tensor(name).double() == tensor.double()).all()) for name in alike)
    except (OSError, SafetensorError) as error:
        raise ModelError("the weights of an adapter's base cannot be read", where=file, do=AGAIN) from error
