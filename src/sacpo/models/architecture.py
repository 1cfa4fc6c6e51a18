"""What transformers makes of a folder's config.json: the settings that count, and which tensors the model has.

Two folders hold the same kind of model when these agree, whatever the bytes of their files: releases of transformers
name settings differently, leave out or write defaults, and store tensors that others compute.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from sacpo.errors import ModelError
from sacpo.models.checks import model_errors, no_load_report
from sacpo.plain import JsonObject

BOOKKEEPING = {
    "_name_or_path",
    "_attn_implementation_autoset",
    "architectures",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "router_aux_loss_coef",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "problem_type",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "initializer_range",
    "pretraining_tp",
    "vocab_size",  # the tensors' shapes say it
}
"""Keys of config.json that do not change what a weight means."""
DROPOUT = re.compile(r"drop(out|_prob)?|pdrop")
COMPUTED = re.compile(
    r"rotary_emb\.inv_freq$|\.masked_bias$|\battn(\.attention)?\.bias$|attention\.bias$|position_ids$"
)
"""Tensors of older releases that a model without a parameter of this name computes itself."""


@dataclass(frozen=True)
class Architecture:
    """The tensors of a model, under the names that the model has for them.

    Attributes:
        shapes: Shape of every tensor that it reads from its files, by name.
        ties: The tensors that are another one: name, and the other's name.
        computed: Patterns of names in files that it computes itself.
        prefix: What stands before the names of the model without its head.
    """

    shapes: Mapping[str, tuple[int, ...]]
    ties: Mapping[str, str]
    computed: tuple[str, ...]
    prefix: str

    def name_of(self, stored: str) -> str | None:
        """Return the model's name for a tensor of a file, None for one that it computes; others keep their name."""
        if stored in self.shapes:
            return stored
        without, within = stored.removeprefix(f"{self.prefix}."), f"{self.prefix}.{stored}"
        known = next((name for name in (without, within) if name in self.shapes), None)
        if known is not None:
            return known
        found = any(re.search(pattern, stored) for pattern in self.computed) or COMPUTED.search(stored)
        return None if found else stored


def architecture_of(folder: Path) -> Architecture | None:
    """Return a folder's architecture, None where transformers has no language model of its kind without remote code.

    The model is made without memory for its weights.

    Raises:
        ModelError: The configuration cannot be read.
    """
    config = config_of_model(folder)
    if config is None or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return None
    with model_errors(folder), no_load_report(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    unstored = [f"^{re.escape(name)}$" for name, _ in model.named_buffers() if name not in shapes]
    ignored = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    ties = dict(getattr(model, "all_tied_weights_keys", None) or {})
    return Architecture(shapes, ties, (*unstored, *sorted(ignored)), model.base_model_prefix)


def config_of_model(folder: Path) -> PretrainedConfig | None:
    """Return transformers' reading of a folder's config.json, None where it has no such model without remote code.

    Raises:
        ModelError: It is missing or cannot be read.
    """
    kind = raw_config(folder).get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        return None
    with model_errors(folder), no_load_report():
        found: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return found


def settings_of(folder: Path) -> JsonObject:
    """Return the settings of a folder's config.json that its weights depend on, with defaults filled in.

    Raises:
        ModelError: It is missing or cannot be read.
    """
    config = config_of_model(folder)
    if config is None:
        return {key: value for key, value in raw_config(folder).items() if not _is_bookkeeping(key)}
    return _settings(config)


def raw_config(folder: Path) -> JsonObject:
    """Return a folder's config.json as it stands.

    Raises:
        ModelError: It is missing or cannot be read.
    """
    path = folder / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            "the model folder has no config.json", where=folder, do="copy the whole checkpoint again"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError("a config.json cannot be read", where=path, do="copy the checkpoint again") from error
    if not isinstance(data, dict):
        raise ModelError("a config.json is not a JSON object", where=path, do="copy the checkpoint again")
    return data


def _settings(config: PretrainedConfig) -> JsonObject:
    """Keys that the architecture has no field for are left out: nothing reads them."""
    kind = type(config)
    fields = (
        {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {*kind().to_dict()}
    )
    values = config.to_dict()
    counted = (fields | {"quantization_config"}) & values.keys()
    found = {key: values[key] for key in counted if not _is_bookkeeping(key)}
    found |= {name: _settings(getattr(config, name)) for name in config.sub_configs if getattr(config, name, None)}
    if _reaches_anywhere(found.get("rope_parameters")):
        found.pop("max_position_embeddings", None)  # a limit, from which nothing is computed
    return {**found, "model_type": config.model_type}


def _is_bookkeeping(key: str) -> bool:
    return key in BOOKKEEPING or DROPOUT.search(key) is not None


def _reaches_anywhere(rope: object) -> bool:
    """Tell whether rotary positions are computed without regard to the context's length."""
    if not isinstance(rope, dict) or not rope:
        return False
    parts = [part for part in rope.values() if isinstance(part, dict)] or [rope]
    return all(part.get("rope_type", "default") in ("default", "linear", "llama3") for part in parts)
