"""What a training takes, counted before there are numbers, and what a training without room is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sacpo.align.footprint import Method, Shape, answering_bytes, fixed_bytes, shape_of, training_bytes
from sacpo.align.job import TrainingJob
from sacpo.errors import MachineError
from sacpo.pipeline import fits
from sacpo.pipeline.fits import Load, advice, largest_batch, memory_told, rooms
from sacpo.recipe.schema import BaseSpec, LoraSpec

SEVEN = {"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008}
TINY = {"model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}


def tiny(**options: object) -> Shape:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return shape_of(json.dumps({**TINY, **heads, **options}))


def test_parts_of_a_shape_are_those_of_the_architecture() -> None:
    """Keys and values of 2 heads of 8 in 3 layers; rank 1 on 7 linear layers; what a token leaves for the gradient."""
    shape = tiny()
    assert shape.cache == 3 * 2 * 2 * 8 * 4
    layer_linear = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64
    assert shape.linear == 3 * layer_linear
    assert shape.adapter == 3 * (32 + 32 + 2 * (32 + 16) + 32 + 32 + 3 * (32 + 64))
    assert shape.parameters == shape.linear + 2 * 100 * 32 + 7 * 32
    assert shape.kept == 3 * 32 * 4
    two, six = tiny(num_hidden_layers=2), tiny(num_hidden_layers=6)
    a_layer = (six.saved - two.saved) / 4
    assert a_layer > (4 * 64 + 6 * 32) * 4  # gate, its activation, up and their product; the residual and its norms
    assert a_layer == pytest.approx(shape.layer, rel=0.1)


def saved_bytes(model: torch.nn.Module, length: int) -> int:
    """Return the bytes that a real forward pass saves for the backward pass, parameters left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=torch.zeros((1, length), dtype=torch.long), use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in seen.items() if place not in weights)


@pytest.mark.parametrize(
    "config",
    [
        {**TINY, "num_attention_heads": 4},
        {**TINY, "model_type": "gemma3_text", "num_attention_heads": 4, "head_dim": 8},
        {"model_type": "gpt2", "vocab_size": 100, "n_embd": 32, "n_layer": 3, "n_head": 4, "attn_pdrop": 0.0},
    ],
)
def test_what_is_counted_is_what_a_real_pass_saves(config: dict[str, object]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    options = dict(config)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(str(options.pop("model_type")), **options)).train()
    body = getattr(model, model.base_model_prefix)
    real = (saved_bytes(body, 96) - saved_bytes(body, 32)) / 64
    assert shape_of(json.dumps(config)).saved == pytest.approx(real, rel=0.02)


def test_seven_billion_parameters_fit_where_they_are_known_to() -> None:
    """In bf16: 13.5 GB of weights, four times that in full; LoRA on 24 GB with checkpointing, QLoRA on 8 GB."""
    shape = shape_of(json.dumps({**SEVEN, "num_hidden_layers": 32, "num_attention_heads": 32}))
    assert shape.parameters == 6_738_415_616
    assert fixed_bytes(shape, Method(width=2)) == pytest.approx(53.9e9, rel=0.01)
    found = {(room.way, room.checkpointing): room.batches for room in rooms(shape, Method(width=2), Load(1, 2, 512))}
    assert found["full", True][24] == 0 and found["full", True][80] >= 4
    assert found["LoRA", True][24] >= 4 and found["LoRA", True][8] == 0
    assert found["QLoRA", True][8] >= 1
    assert answering_bytes(shape, 2, 16, 1024) - answering_bytes(shape, 2, 0, 1024) == pytest.approx(8.6e9, rel=0.01)


def test_a_larger_device_holds_a_larger_batch() -> None:
    shape, load = tiny(), Load(1, 2, 4096)
    batches = [largest_batch(shape, Method(), load, size) for size in (1, 8, 80)]
    assert batches == sorted(batches) and batches[0] < batches[-1]
    fitting = Load(batches[0], 2, 4096)
    assert training_bytes(shape, Method(), fitting.tokens) <= fits.FREE * 1e9
    assert training_bytes(shape, Method(), 2 * fitting.tokens) > fits.FREE * 1e9


def test_advice_names_what_would_have_fitted() -> None:
    """Checkpointing before an adapter, an adapter before a smaller batch, and that before another model."""
    shape = shape_of(json.dumps({**SEVEN, "num_hidden_layers": 32, "num_attention_heads": 32}))
    method, load = Method(width=2), Load(16, 2, 512)
    found = rooms(shape, method, load)
    assert advice(found, method, load, 80e9).startswith("training.gradient_checkpointing: true would take about")
    assert "LoRA (lora: {r: 16}) with training.gradient_checkpointing" in advice(found, method, load, 40e9)
    assert "halve training.per_device_train_batch_size" in advice(found, method, load, 4e9)
    assert "a smaller model" in advice(found, method, Load(1, 2, 512), 1e9)


def test_a_training_without_room_is_told_what_would_have_had_it(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "device_bytes", lambda name: 100e6)
    options = {"per_device_train_batch_size": 64}
    job = TrainingJob("H", base, BaseSpec(model=str(base), device="cpu"), options, max_length=2048)
    with (
        pytest.raises(MachineError, match=r"this training: 0\.1 GB in all") as told,
        memory_told(job, 2),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert "GB asked for" in str(told.value.value) and told.value.where == "H"
    assert "per_device_train_batch_size" in str(told.value.do)
    with pytest.raises(RuntimeError, match="another"), memory_told(job, 2):
        raise RuntimeError("another error")
    unknown = TrainingJob("H", base / "none", BaseSpec(model="x"), options, lora=LoraSpec())
    with pytest.raises(MachineError, match="not enough memory"), memory_told(unknown, 2):
        raise MemoryError
