"""Models and tokenizers: loading with clear errors, building from a configuration, saving as a standard folder.

A leaf that align, merge and evaluate share. Weights are read from safetensors only and no remote code runs unless the
recipe asks for it.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import json
import math
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging as transformers_logging

from sacpo.errors import MachineError, ModelError
from sacpo.recipe.explain import did_you_mean
from sacpo.runs import file_hash, machine_errors

transformers_logging.disable_progress_bar()  # this package shows its own
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "pytorch_model.pt")


def resolve_device(name: str) -> torch.device:
    """Return the device that a recipe names; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        MachineError: This machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    known = name in available or (name == "cuda" and len(available) > 1)
    if not known:
        raise MachineError(
            "no such device on this machine",
            where="base.device",
            value=name,
            allowed=["auto", *available],
            do="set base.device to one of these",
        )
    return torch.device(name)


def load_model(
    path: str | Path,
    *,
    dtype: str = "auto",
    device: str | torch.device = "cpu",
    revision: str | None = None,
    trust_remote_code: bool = False,
    attn_implementation: str | None = None,
    model_class: Any = AutoModelForCausalLM,
    weights: dict[str, torch.Tensor] | None = None,
) -> PreTrainedModel:
    """Load a causal language model (or another `model_class`) from a hub id or folder, in evaluation mode.

    `weights`, where given, are used in place of those that the folder holds.

    Raises:
        ModelError: There is no such model, its weights are pickles, or it needs remote code without consent.
    """
    check_place(path)
    _refuse_pickles(path)
    options: dict[str, Any] = {"dtype": dtype if dtype == "auto" else getattr(torch, dtype)}
    if attn_implementation:
        options["attn_implementation"] = attn_implementation
    with _model_errors(path), _no_load_report():
        if weights is not None:
            model = _with_weights(model_class, path, weights, trust_remote_code, options)
        else:
            model, found = model_class.from_pretrained(
                path,
                revision=revision,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
            if model_class is AutoModelForCausalLM:  # a classifier's head may be new: it is then trained
                _refuse_gaps(found["missing_keys"], path)
    _refuse_nan(model, path)
    return model.to(device).eval()


def load_tokenizer(
    path: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load a tokenizer that has an end token and a padding token different from it where possible.

    A missing padding token is replaced by the end token, which never counts because padding is masked.

    Raises:
        ModelError: There is no such tokenizer or it has no end token.
    """
    check_place(path)
    with _model_errors(path, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust_remote_code)
    return checked_tokenizer(tokenizer, path)


def checked_tokenizer(tokenizer: PreTrainedTokenizerBase, where: object) -> PreTrainedTokenizerBase:
    """Return the tokenizer with a padding token; refuse one without an end token.

    Raises:
        ModelError: The tokenizer has no end token.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the tokenizer has no end-of-sequence token, so answers could never end",
            where=where,
            do="set eos_token in its tokenizer_config.json",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def build_model(config: dict[str, Any], tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """Return a causal language model with weights drawn from the seed, sized for the tokenizer, in float32.

    Raises:
        ModelError: The configuration names an unknown architecture or options that it refuses.
    """
    options = copy.deepcopy(config)
    _check_config(options)
    options.setdefault("vocab_size", len(tokenizer))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        options.setdefault(name, getattr(tokenizer, name))
    try:
        built = AutoConfig.for_model(options.pop("model_type"), **options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(built)
    except (ValueError, TypeError, KeyError, ImportError, StrictDataclassError) as error:
        raise ModelError(
            f"the model cannot be built: {_first_line(str(error.__cause__ or error))}",
            where="base.config",
            value=config,
            do="correct these keys; they are those of the architecture's configuration in transformers",
        ) from error
    return model.float().eval()


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a standard Hugging Face folder: config, safetensors, tokenizer, generation config.

    Raises:
        MachineError: The disk is full or the folder cannot be written.
    """
    with machine_errors(folder):
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)


def weights_key(path: str | Path, revision: str | None = None) -> str:
    """Return a content key of a model's weights: its files' hashes, or hub id and commit.

    For a hub id the commit comes from the local cache where it is known, else from the revision's name.
    """
    folder = Path(path)
    if folder.is_dir():
        files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")])
        return json.dumps({file.name: file_hash(file) for file in files if file.name != "manifest.json"})
    from huggingface_hub import try_to_load_from_cache

    check_place(path)
    cached = try_to_load_from_cache(str(path), "config.json", revision=revision)
    commit = Path(cached).parent.name if isinstance(cached, str) else revision
    return json.dumps({"hub": str(path), "commit": commit})


def _with_weights(
    model_class: Any,
    path: str | Path,
    weights: dict[str, torch.Tensor],
    trust_remote_code: bool,
    options: dict[str, Any],
) -> Any:
    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    with torch.device("meta"):  # only to learn the class: from_pretrained of an Auto class needs files
        architecture = type(model_class.from_config(config, trust_remote_code=trust_remote_code))
    model = architecture.from_pretrained(None, config=config, state_dict=weights, **options)
    with contextlib.suppress(OSError):  # a folder without generation_config.json keeps what config.json gives
        model.generation_config = GenerationConfig.from_pretrained(path)
    return model


def check_place(path: str | Path) -> None:
    """Refuse a path that is neither a folder nor could be a hub id.

    Raises:
        ModelError: There is no such folder, or the path leads to a file.
    """
    text, place = str(path), Path(path)
    if place.is_dir():
        return
    if place.exists():
        raise ModelError("a model is a folder, not a file", where=path, do="give the folder that config.json is in")
    if isinstance(path, Path) or text.startswith((".", "/", "~")) or HUB_ID.fullmatch(text) is None:
        raise ModelError(
            "no such folder of a model",
            where=path,
            do="check the path; it is relative to the working folder, and a hub id is OWNER/NAME",
        )


def _check_config(config: dict[str, Any]) -> None:
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


def _refuse_gaps(missing: Collection[str], path: str | Path) -> None:
    if missing:
        raise ModelError(
            "the model's weights lack tensors, which would be random numbers",
            where=path,
            value=sorted(missing),
            do="copy the whole model again, or name a causal language model",
        )


@contextlib.contextmanager
def _no_load_report() -> Iterator[None]:
    """Keep transformers' table of a checkpoint's keys from the terminal: what is wrong in it is an error here."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def _refuse_nan(model: PreTrainedModel, path: str | Path) -> None:
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


def _refuse_pickles(path: str | Path) -> None:
    folder = Path(path)
    if not folder.is_dir() or list(folder.glob("*.safetensors")) or list(folder.glob("*.safetensors.index.json")):
        return
    pickles = [name for name in PICKLES if (folder / name).exists()] or [p.name for p in folder.glob("*.bin")]
    if pickles:
        raise ModelError(
            "the weights are pickles, which can run code when they are opened",
            where=folder,
            value=pickles[0],
            allowed="safetensors",
            do="convert them once with the model's own tools (save_pretrained writes safetensors)",
        )


@contextlib.contextmanager
def _model_errors(path: str | Path, noun: str = "model") -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MachineError(
            "not enough memory for the model", where=path, do="take a smaller model or dtype, or another device"
        ) from error
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        text = str(error)
        if "trust_remote_code" in text:
            raise ModelError(
                "the model needs code of its own, which was not allowed",
                where=path,
                do="read that code, then set base.trust_remote_code: true",
            ) from error
        if os.path.isdir(path):  # noqa: PTH112 - a hub id is no path
            advice = "check the folder's files, or copy the model again"
            if "attn_implementation" in text:
                advice = "choose another base.attn_implementation, or leave it out"
            raise ModelError(f"the {noun} cannot be loaded: {_first_line(text)}", where=path, do=advice) from error
        raise ModelError(
            f"no such folder, and the hub did not answer with a {noun}: {_first_line(text)}",
            where=path,
            do="check the id and the network, or give a folder",
        ) from error


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0].strip() if text.strip() else "no reason given"
