"""FlexAttention, SDPA and padded rows: how far log-probs and gradients are from padded rows in float32."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import time
from typing import Any

from benchmarks.gpu import shapes
from benchmarks.gpu.emit import Clock, emit, told

SIZES = {
    "vocab_size": 4096,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.1,
}
"""Small, with weights so large that attention is far from even and logits spread as those of trained models do."""
TOY = {"vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "gemma3_text": {
        "sliding_window": 64,
        "query_pre_attn_scalar": 64,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
    },
}
TREES = 12
AUTOCAST = "bf16 autocast"
"""Weights in float32, products in bfloat16: what a training with `bf16` does."""
DTYPES = ("float32", "bfloat16", AUTOCAST)


def run(clock: Clock, *, kind: str, forms: str, toy: bool = False) -> None:
    """Compare a kind of model in each type; a form that fails is told, and the next one comes.

    Args:
        clock: The device.
        kind: A name in `KINDS`.
        forms: "sdpa": padded and packed rows. "flex": packed rows with FlexAttention.
        toy: Tiny models.
    """
    import torch

    torch.set_float32_matmul_precision("highest")
    reason = obstacle(clock.device, backward=False) if forms == "flex" else ""
    if reason:
        emit("notice", text=f"FlexAttention is left out: {reason}")
        return
    compare(clock, kind, forms, toy=toy)


def obstacle(device: str, *, backward: bool = True) -> str:
    """Return what FlexAttention lacks here, "" if nothing."""
    if not any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang", "g++")):
        return "torch.compile finds no C compiler"
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return "it has no backward pass on a CPU" if device == "cpu" and backward else ""


def compare(clock: Clock, kind: str, forms: str, *, toy: bool) -> None:
    """Compare one kind of model."""
    from sacpo.data.packing import flat_rows, packed_rows, padded_rows

    batch = trees(TOY["vocab_size"] if toy else SIZES["vocab_size"], "toy" if toy else "hh")
    exact = measured(clock, model_of(kind, clock, "float32", "sdpa", toy), padded_rows(batch, pad_id=0), "float32")
    compared: list[Any] = [("packed", "flex_attention", packed_rows)]
    if forms == "sdpa":
        compared = [("padded", "sdpa", padded_rows), ("packed", "sdpa", packed_rows)]
        compared += [("flat", "sdpa", flat_rows)] if clock.device == "cpu" else []
    for dtype in DTYPES:
        for layout, attention, lay in compared:
            about = {"kind": kind, "dtype": dtype, "layout": layout, "attention": attention}
            started = time.perf_counter()
            try:
                found = measured(clock, model_of(kind, clock, dtype, attention, toy), lay(batch, pad_id=0), dtype)
            except Exception as error:  # noqa: BLE001 - what one form raises is a result
                emit("disagrees", **about, **told(error))
                continue
            emit("agreement", **about, **gaps(found, exact), seconds=time.perf_counter() - started)


def trees(vocabulary: int, lengths: str) -> list[Any]:
    """Return prompts with two completions each, of real lengths."""
    from sacpo.data.packing import Tree

    draw = random.Random(shapes.SEED)
    parts = shapes.lengths(lengths, TREES)[0]
    drawn = [[tuple(draw.randrange(4, vocabulary) for _ in range(min(n, 400))) for n in part] for part in parts]
    return [Tree(prompt, (chosen, rejected)) for prompt, chosen, rejected in drawn]


def model_of(kind: str, clock: Clock, dtype: str, attention: str, toy: bool) -> Any:
    """Return a small model of a kind, of the same weights whatever its type and attention."""
    from transformers import AutoConfig

    from sacpo.losses.head import split_model

    sizes = {**SIZES, **(TOY if toy else {}), **KINDS[kind]}
    if "layer_types" in sizes:
        sizes["layer_types"] = sizes["layer_types"][-sizes["num_hidden_layers"] :]
    config = AutoConfig.for_model(kind, **sizes)
    model = shapes.build(config, clock.device, dtype="float32")
    if dtype == "bfloat16":  # converted weights, tables of positions as they are made for this type
        rough = shapes.build(config, clock.device, dtype=dtype)
        rough.load_state_dict(model.state_dict())
        model = rough
    split_model(model)  # its look at four tokens would be compiled
    if attention != "sdpa":
        model.set_attn_implementation(attention)
    return model


def measured(clock: Clock, model: Any, rows: Any, dtype: str) -> tuple[Any, Any]:
    """Return log-probs of the completions' tokens, and the gradient of their mean, in float32 on the CPU.

    Where there is no backward pass (FlexAttention on a CPU), the gradient is None.
    """
    import torch

    from sacpo.losses.logps import completion_token_logps

    rows = rows.to(clock.device)
    no_gradient = clock.device == "cpu" and model.config._attn_implementation == "flex_attention"
    autocast = torch.autocast(clock.device, dtype=torch.bfloat16, enabled=dtype == AUTOCAST)
    with autocast, torch.set_grad_enabled(not no_gradient):
        logps = completion_token_logps(model, rows)
    if no_gradient:
        return logps.float(), None
    logps.mean().backward()
    gradient = torch.cat([p.grad.float().flatten().cpu() for p in model.parameters() if p.grad is not None])
    return logps.detach().float().cpu(), gradient


def gaps(found: tuple[Any, Any], exact: tuple[Any, Any]) -> dict[str, Any]:
    """Return the largest and mean difference of log-probs in nats, and the gradient's relative to its length."""
    difference = (found[0] - exact[0]).abs()
    values = {"logps_max": float(difference.max()), "logps_mean": float(difference.mean()), "gradient": None}
    if found[1] is not None:
        values["gradient"] = float((found[1] - exact[1]).norm() / exact[1].norm())
    return values
