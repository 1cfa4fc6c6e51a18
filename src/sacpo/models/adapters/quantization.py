"""A base in few bits (QLoRA, arXiv 2305.14314): linear layers are stored in 4 or 8 bits, adapters are trained on top.

Nothing is ever merged into quantised weights: merged weights are the adapters added to the base's full weights.
"""

from __future__ import annotations

import importlib.util

import torch
from transformers import BitsAndBytesConfig

from sacpo.errors import MachineError
from sacpo.recipe.schema import QuantizationSpec


def quantized(spec: QuantizationSpec, device: torch.device) -> dict[str, object]:
    """Return the options of `from_pretrained` that load a model in few bits.

    Raises:
        MachineError: There is no CUDA device, or bitsandbytes is not installed.
    """
    if device.type != "cuda":
        raise MachineError(
            "a quantised base needs a CUDA device",
            where="base.quantization",
            value=f"device {device}",
            do="set base.device: cuda on a machine that has one, or leave base.quantization out (LoRA needs none)",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MachineError(
            "a quantised base needs the package bitsandbytes, which is not installed",
            where="base.quantization",
            do="pip install bitsandbytes, or leave base.quantization out",
        )
    options: dict[str, object] = {"load_in_8bit": True}
    if spec.bits == 4:
        options = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": spec.type,
            "bnb_4bit_use_double_quant": spec.double,
            "bnb_4bit_compute_dtype": getattr(torch, spec.compute_dtype),
        }
    return {"quantization_config": BitsAndBytesConfig(**options), "device_map": {"": device}}
