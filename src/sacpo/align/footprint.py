"""How much memory a training of a model takes, counted before there are any numbers.

The model is run on tensors without content (torch's fake tensors): every tensor that the backward pass would need is
seen as it is saved, whatever the architecture. Two lengths give what a token costs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM

from sacpo.losses.head import LOGITS_AT_ONCE, LOGITS_KEPT

FLOAT32 = 4
FEW = 0.56
"""Bytes of a parameter in 4 bits, with its scales."""
ROW = 64
"""Tokens of the row that is looked at."""
STATES = 3
"""A trained parameter's gradient and Adam's two moments, beside itself."""


@dataclass(frozen=True)
class Shape:
    """What a model takes, by what there is of it.

    Attributes:
        parameters: All of them.
        linear: Those of linear layers in the body, which few bits are for.
        adapter: Those of a LoRA adapter of rank 1 on the body's linear layers.
        saved: Bytes that the backward pass needs, a token, in float32; without the head.
        passing: Bytes at work in the widest layer beside those, a token, in float32.
        kept: The same where layers are computed again (gradient checkpointing): what is saved between them.
        layer: What one layer saves while it is computed again, a token.
        vocabulary: Tokens known.
        cache: Bytes of keys and values, a token, in float32.
    """

    parameters: int
    linear: int
    adapter: int
    saved: float
    passing: float
    kept: float
    layer: float
    vocabulary: int
    cache: float


@dataclass(frozen=True)
class Method:
    """How a model is trained.

    Attributes:
        rank: Of LoRA; 0: all weights.
        quantized: The base is in 4 bits.
        checkpointing: Layers are computed again in the backward pass.
        width: Bytes of a parameter as it is loaded.
        mixed: The products are computed in 16 bits.
    """

    rank: int = 0
    quantized: bool = False
    checkpointing: bool = False
    width: int = FLOAT32
    mixed: bool = False


def fixed_bytes(shape: Shape, method: Method) -> float:
    """Return what weights, gradients and the optimiser take."""
    if method.rank == 0:
        return shape.parameters * method.width * (1 + STATES)
    few = shape.linear if method.quantized else 0
    trained = shape.adapter * method.rank * FLOAT32 * (1 + STATES)
    return (shape.parameters - few) * method.width + few * FEW + trained


def token_bytes(shape: Shape, method: Method) -> float:
    """Return what one token of a device batch takes: what is saved, and what passes by."""
    narrow = min(method.width, 2) if method.mixed else method.width
    saved = shape.kept if method.checkpointing else shape.saved
    return (saved + shape.passing) * narrow / FLOAT32


def head_bytes(shape: Shape, tokens: float) -> float:
    """Return what the logits of a device batch take, in float32, with their gradients."""
    logits = tokens * shape.vocabulary
    held = (logits if logits <= LOGITS_KEPT else 0) + 2 * min(logits, max(LOGITS_AT_ONCE, shape.vocabulary))
    return held * FLOAT32


def training_bytes(shape: Shape, method: Method, tokens: float) -> float:
    """Return the peak of a training whose device batch has so many tokens."""
    layer = shape.layer * tokens * (min(method.width, 2) if method.mixed else method.width) / FLOAT32
    again = layer if method.checkpointing else 0.0
    return fixed_bytes(shape, method) + token_bytes(shape, method) * tokens + max(head_bytes(shape, tokens), again)


def answering_bytes(shape: Shape, width: int, rows: int, length: int) -> float:
    """Return the peak of answering: weights, keys and values of every row, and one step's logits."""
    cache = shape.cache * rows * length * width / FLOAT32
    return shape.parameters * width + cache + 2 * rows * shape.vocabulary * FLOAT32


@lru_cache(maxsize=8)
def shape_of(config_text: str) -> Shape:
    """Return a model's shape.

    Args:
        config_text: Its configuration with `model_type`, as JSON.
    """
    options = json.loads(config_text)
    config = AutoConfig.for_model(options.pop("model_type"), **options)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
        head = model.get_output_embeddings()
        body = getattr(model, model.base_model_prefix, model)
        modules = [module for module in body.modules() if isinstance(module, torch.nn.Linear) and module is not head]
        layers = [part for part in body.modules() if isinstance(part, torch.nn.ModuleList) and len(part) > 0]
        blocks: list[object] = list(max(layers, key=_parameters)) if layers else [body]
        saved, cut = _saved(body, blocks)
        hidden = config.get_text_config().hidden_size
        keys = _cache(body)
        return Shape(
            parameters=sum(p.numel() for p in model.parameters()),
            linear=sum(m.weight.numel() for m in modules),
            adapter=sum(m.in_features + m.out_features for m in modules),
            saved=saved,
            passing=2.0 * FLOAT32 * max([hidden, *(m.out_features for m in modules)]),
            kept=len(blocks) * hidden * FLOAT32,
            layer=cut,
            vocabulary=model.get_input_embeddings().num_embeddings,
            cache=keys,
        )


def _parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _saved(body: object, blocks: list[object]) -> tuple[float, float]:
    """Return the bytes a token that a forward pass saves, and those of its first layer alone."""
    whole, first = _count(body, blocks, 2 * ROW), _count(body, blocks, ROW)
    return (whole[0] - first[0]) / ROW, (whole[1] - first[1]) / ROW


def _count(body: Any, blocks: list[Any], length: int) -> tuple[float, float]:
    weights = {parameter.untyped_storage()._cdata for parameter in body.parameters()}
    seen: dict[int, tuple[int, torch.Tensor]] = {}
    inside: dict[int, int] = {}
    within = False

    def enter(*_: object) -> None:
        nonlocal within
        within = True

    def leave(*_: object) -> None:
        nonlocal within
        within = False

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        mask = tensor.ndim == 4 and tensor.shape[1:] == (1, length, length)  # made here only: there are no numbers
        if storage._cdata not in weights and not mask:
            if within and storage._cdata not in seen:
                inside[storage._cdata] = storage.nbytes()
            seen[storage._cdata] = (storage.nbytes(), tensor)  # held: a freed one's place would be another's
        return tensor

    hooks = [blocks[0].register_forward_pre_hook(enter), blocks[0].register_forward_hook(leave)]
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            body(input_ids=torch.zeros((1, length), dtype=torch.long), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return float(sum(size for size, _ in seen.values())), float(sum(inside.values()))


def _cache(body: Any) -> float:
    """Return the bytes of keys and values a token."""
    with torch.no_grad():
        found = body(input_ids=torch.zeros((1, ROW), dtype=torch.long), use_cache=True).past_key_values
    held = [getattr(layer, name, None) for layer in getattr(found, "layers", ()) for name in ("keys", "values")]
    return sum(tensor.numel() * FLOAT32 for tensor in held if isinstance(tensor, torch.Tensor)) / ROW
