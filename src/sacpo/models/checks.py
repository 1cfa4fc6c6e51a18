"""What is refused about a model before and after it is loaded, and what errors of the libraries mean."""

from __future__ import annotations

import contextlib
import difflib
import math
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging as transformers_logging

from sacpo.errors import MachineError, ModelError
from sacpo.plain import JsonObject
from sacpo.recipe.explain import did_you_mean
from sacpo.system.on_hub import NETWORK

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
LIBRARY_ERRORS = (
    *(OSError, ValueError, ImportError, LookupError, RuntimeError, TypeError, AttributeError, ArithmeticError),
    *(AssertionError, SafetensorError, StrictDataclassError),
)
"""What the libraries raise for files and configurations that they cannot use; tokenizers raises bare `Exception`s."""
CONSTANT = ".masked_bias"
"""The end of the name of a number that old files of GPT-2 hold."""
SHOWN = 3
"""So many tensors are named."""
WHOLE = ("I64", "I32", "I16", "I8", "U8", "U16", "U32", "U64", "BOOL")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "pytorch_model.pt")


def check_place(path: str | Path) -> None:
    """Refuse a path that is neither a folder nor could be a hub id.

    Raises:
        ModelError: There is no such folder, or the path leads to a file.
    """
    text, place = str(path), Path(path)
    if place.is_dir():
        inner = place / "model"
        own = any((place / name).exists() for name in ("config.json", "adapter_config.json"))
        if not own and (inner / "config.json").is_file():
            what = "the folder of a training, not of its model"
            raise ModelError(what, where=path, do=f"give {inner}")
        return
    if place.exists():
        gguf = "a recipe takes it: base.model: FILE.gguf" if text.lower().endswith(".gguf") else None
        do = gguf or "give the folder that config.json is in"
        raise ModelError("a model is a folder, not a file", where=path, do=do)
    if isinstance(path, Path) or text.startswith((".", "/", "~")) or HUB_ID.fullmatch(text) is None:
        raise ModelError(
            "no such folder of a model",
            where=path,
            do="check the path; it is relative to the working folder, and a hub id is OWNER/NAME",
        )


def check_config(config: JsonObject) -> None:
    """Refuse an unknown architecture, and keys that look like a misspelt key: transformers would keep them in silence.

    Not every key that a configuration has no attribute for is a mistake: some are read and stored under other names.
    """
    kind = str(config["model_type"])
    if kind not in CONFIG_MAPPING:
        raise ModelError(
            "unknown architecture",
            where="base.config.model_type",
            value=kind,
            do=did_you_mean(kind, list(CONFIG_MAPPING), "give a model_type of transformers, such as llama"),
        )
    known = CONFIG_MAPPING[kind]()
    fields = [*known.to_dict(), *known.attribute_map]
    for key in config:
        near = difflib.get_close_matches(key, fields, 1, 0.85)
        if near and not hasattr(known, key):
            raise ModelError(
                f"unknown key '{key}'", where=f"base.config.{key}", value=config[key], do=f"did you mean '{near[0]}'?"
            )


def refuse_gaps(missing: Collection[str], path: str | Path) -> None:
    """Refuse a checkpoint that lacks tensors."""
    if missing:
        raise ModelError(
            "the model's weights lack tensors, which would be random numbers",
            where=path,
            value=sorted(missing),
            do="copy the whole model again, or name a causal language model",
        )


class UnreadWeightsWarning(UserWarning):
    """A checkpoint holds tensors that its model does not read."""


def warn_unread(unread: Collection[str], path: str | Path) -> None:
    """Name the tensors of a checkpoint that its model has no place for, if there are such."""
    names = sorted(name for name in unread if not name.endswith(CONSTANT))
    if names:
        named = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        said = f"{path}: not read, since the model has no such weights: {len(names):,} of the tensors, {named}"
        warnings.warn(said, UnreadWeightsWarning, stacklevel=2)


def refuse_other_shapes(mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]], path: str | Path) -> None:
    """Refuse a checkpoint with tensors, each with its own shape and the model's, of another shape than the model's."""
    if mismatched:
        name, stored, meant = min(mismatched)
        raise ModelError(
            f"{len(mismatched):,} of the model's tensors have another shape than config.json says",
            where=path,
            value=f"{name}: {list(stored)}",
            allowed=str(list(meant)),
            do="copy config.json and weights of one model",
        )


@contextlib.contextmanager
def no_load_report() -> Iterator[None]:
    """Keep transformers' table of a checkpoint's keys from the terminal: what is wrong in it is an error here."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def refuse_nan(model: PreTrainedModel, path: str | Path) -> None:
    """Refuse weights that are NaN or infinite."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.numel() and parameter.device.type != "meta":
            low, high = torch.aminmax(parameter.detach())  # without a copy of the tensor, as isfinite would make
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ModelError(
                    "the model's weights are not finite",
                    where=path,
                    value=f"{name} holds NaN or infinity",
                    do="make or copy the model again",
                )


def refuse_whole_numbers(model: PreTrainedModel, files: Collection[Path], path: str | Path) -> None:
    """Refuse weights that are stored as whole numbers, which loading would make floating-point numbers of."""
    if getattr(model.config, "quantization_config", None) is not None:
        return
    weights = {name for name, parameter in model.named_parameters() if parameter.is_floating_point()}
    weights |= {name.partition(".")[2] for name in weights}  # files may leave out the model's prefix
    for file in files:
        with safe_open(file, framework="pt") as stored:
            for name in [*stored.keys()]:
                kind = stored.get_slice(name).get_dtype()
                if kind in WHOLE and name in weights:
                    raise ModelError(
                        "a tensor of weights holds whole numbers",
                        where=path,
                        value=f"{name}: {kind}",
                        allowed="floating-point numbers, or a quantization_config in config.json",
                        do="make or copy the model again",
                    )


def refuse_pickles(path: str | Path) -> None:
    """Refuse a folder whose weights are pickles."""
    folder = Path(path)
    if not folder.is_dir() or list(folder.glob("*.safetensors")) or list(folder.glob("*.safetensors.index.json")):
        return
    others = sorted(path.name for ending in ("bin", "pt", "pth") for path in folder.glob(f"*.{ending}"))
    pickles = [name for name in PICKLES if (folder / name).exists()] or others
    if pickles:
        raise ModelError(
            "the weights are pickles, which can run code when they are opened",
            where=folder,
            value=pickles[0],
            allowed="safetensors",
            do="convert them once with the model's own tools (save_pretrained writes safetensors)",
        )


@contextlib.contextmanager
def model_errors(path: str | Path, noun: str = "model") -> Iterator[None]:
    """Turn what the libraries raise while they load a model (or another noun) into errors that say what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MachineError(
            "not enough memory for the model", where=path, do="take a smaller model or dtype, or another device"
        ) from error
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, LIBRARY_ERRORS):
            raise
        text = str(error)
        if "trust_remote_code" in text:
            raise ModelError(
                "the model needs code of its own, which was not allowed",
                where=path,
                do="read that code, then set base.trust_remote_code: true (of a judge's model, the judge's own)",
            ) from error
        if Path(path).is_dir():
            advice = "check the folder's files, or copy the model again"
            if "attn_implementation" in text or "FlashAttention" in text:
                advice = "choose another base.attn_implementation, or leave it out"
            raise ModelError(f"the {noun} cannot be loaded: {first_line(text)}", where=path, do=advice) from error
        raise ModelError(
            f"no such folder, and the hub did not answer with a {noun}: {first_line(text)}",
            where=path,
            do=f"{NETWORK}, or give a folder",
        ) from error


def first_line(text: str) -> str:
    """Return the first line of a library's message."""
    return text.strip().splitlines()[0].strip() if text.strip() else "no reason given"
