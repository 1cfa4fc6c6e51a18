"""Which models can share prompts in a row, as far as their configuration and code tell."""

from __future__ import annotations

import inspect

from torch import nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from sacpo.losses.attention import reaches

WITH_MASKS = ("sdpa", "eager", "flex_attention")
"""Attention implementations that take a mask of any form."""


def supports_shared_prefix(config: PretrainedConfig) -> str:
    """Return "" where a model of this configuration can be expected to share prompts, else the reason why not.

    This is for plans: before a training `check_layout` compares real examples.
    """
    found = AutoModel._model_mapping.get(type(config), None)
    return obstacle(config, found[0] if isinstance(found, tuple) else found)


def obstacle(config: PretrainedConfig, architecture: type[nn.Module] | None) -> str:
    """Return why a model cannot share prompts, "" if nothing speaks against it.

    Args:
        config: The model's configuration, with the attention implementation that it uses.
        architecture: The class of its transformer, without head; None if unknown.
    """
    config = config.get_text_config()
    implementation = config._attn_implementation
    if implementation is not None and implementation not in WITH_MASKS:
        return f"{implementation} takes no mask of any form; {', '.join(WITH_MASKS)} do"
    strange = set(getattr(config, "layer_types", None) or ()) - set(reaches(config)) - {""}
    if strange:
        return f"layers of type {', '.join(sorted(strange))} mix tokens without a mask"
    if getattr(config, "is_encoder_decoder", False):
        return "prompt and completion meet two different stacks (encoder and decoder)"
    if getattr(config, "alibi", False):
        return "ALiBi counts columns, not positions"
    if "local" in getattr(config, "attention_layers", ()):
        return "local attention counts columns, not positions"
    if architecture is None:  # its own code: the comparison decides
        return ""
    if getattr(architecture, "_is_stateful", False):
        return "recurrent or convolutional layers mix tokens without a mask"
    if "position_ids" not in inspect.signature(architecture.forward).parameters:
        return "the model takes no position ids"
    return ""


def takes_flat(model: PreTrainedModel) -> bool:
    """Return whether a model computes attention block by block faster than over rows of several trees."""
    return model.device.type == "cpu" and model.config.get_text_config()._attn_implementation == "sdpa"
