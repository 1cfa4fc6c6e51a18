"""Loading adapters with peft: stacks of plain ones, switched and weighted without touching the base, and others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from sacpo.errors import ModelError
from sacpo.models.adapters.folder import AGAIN, CONFIG, REPEATABLE, config_of, header, module_of, moves_base
from sacpo.models.adapters.stack import Member, Stack, adapter_key

NEW = "default"
"""Name of the adapter that is trained, which peft saves without a folder of its own."""


def adapter_name(member: Member) -> str:
    """Return the name under which an adapter is loaded."""
    return f"adapter-{member.key[:16]}"


def on_stack(model: nn.Module, stack: Stack, peft_model: PeftModel | None = None) -> PeftModel:
    """Return a model with a stack's adapters on it, active and frozen; those that are loaded already are used again.

    Args:
        model: The base.
        stack: The stack; it has adapters, or `peft_model` is given.
        peft_model: What an earlier call returned for this base.

    Raises:
        ModelError: An adapter is not what was noted, or does not fit the model.
    """
    for member in stack.members:
        if peft_model is None or adapter_name(member) not in peft_model.peft_config:
            peft_model = _with_member(model, member, peft_model)
    assert peft_model is not None
    activate(peft_model, stack)
    return peft_model.eval()


def _with_member(model: nn.Module, member: Member, peft_model: PeftModel | None) -> PeftModel:
    if adapter_key(member.folder) != member.key:
        raise ModelError("an adapter is corrupted: it is not what was written", where=member.folder, do=AGAIN)
    return _attached(model, member.folder, adapter_name(member), peft_model)


def on_base(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Return a model with an adapter on it that is more than plain LoRA, active and frozen, as peft loads it.

    Where the adapter was trained after the vocabulary was resized, so is the model's.

    Raises:
        ModelError: The adapter does not fit the model, is no change of weights, or cannot be made again.
    """
    _check_start(folder)
    return _attached(model, folder, NEW, None).eval()


def _attached(model: nn.Module, folder: Path, name: str, peft_model: PeftModel | None) -> PeftModel:
    _fit_vocabulary(cast(PreTrainedModel, model), folder)  # it reads the header too: peft would read pickles
    try:
        config = PeftConfig.from_pretrained(str(folder))
        if config.is_prompt_learning or config.is_adaption_prompt:
            raise ModelError(
                "this adapter is no change of weights: it adds to what the model reads",
                where=folder / CONFIG,
                value=f"peft_type: {config_of(folder).get('peft_type')}",
                allowed="LORA and other kinds that peft merges into weights",
                do="train with LoRA, or use the adapter with peft alone",
            )
        config.task_type = None  # classifiers take a causal model's adapters too
        config.inference_mode = True
        if hasattr(config, "lora_dropout"):
            config.lora_dropout = 0.0  # it is frozen: dropped, the policy would differ from its reference
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # first weights, which are replaced
            torch.manual_seed(0)
            peft_model = peft_model or PeftModel(model, config, name)
            found = cast(Any, peft_model).load_adapter(str(folder), name, peft_config=config)
        wrong = [*found.missing_keys, *found.unexpected_keys]
    except (ValueError, KeyError, RuntimeError, TypeError, AttributeError, re.error) as error:
        wrong = [line.strip() for line in str(error).splitlines() if line.strip()][:2]
        wrong = [": ".join(line.rstrip(":") for line in wrong) or type(error).__name__]
    if wrong or peft_model is None:
        raise ModelError(
            "an adapter does not fit its base",
            where=folder,
            value=wrong[0],
            do="name the base that it was trained on",
        )
    return peft_model


def _check_start(folder: Path) -> None:
    """Refuse an adapter whose change of its base cannot be made again."""
    start = config_of(folder).get("init_lora_weights")
    if moves_base(start) and str(start).lower() not in REPEATABLE:
        raise ModelError(
            "this adapter was made by changing its base, and the change cannot be made again from the base alone",
            where=folder / CONFIG,
            value=f"init_lora_weights: {start}",
            allowed="plain LoRA, or init_lora_weights: pissa, olora or loftq",
            do="where it was trained, save it as plain LoRA: peft's save_pretrained with "
            "path_initial_model_for_weight_conversion, the folder of the adapter as it was before the training",
        )


def _fit_vocabulary(model: PreTrainedModel, folder: Path) -> None:
    """Give a model's embeddings and head as many rows as an adapter's tensors of them have."""
    ends = {id(module): name for name, module in model.named_modules()}
    found = [model.get_input_embeddings(), model.get_output_embeddings()]
    layers = {ends[id(module)]: module for module in found if module is not None}
    rows: dict[str, int] = {}
    whole: set[str] = set()
    for name, shape in header(folder).items():
        for end, axis in (("weight", 0), ("lora_B.weight", 0), ("lora_embedding_A", 1)):
            module = module_of(name, end)
            if name.endswith(f".{end}") and module in layers and "lora_" not in module:
                rows[module] = shape[axis]
                whole |= {module} if end == "weight" else set()
    wanted, own = {*rows.values()}, int(cast(Any, model.get_input_embeddings()).weight.shape[0])
    if not wanted or wanted == {own}:
        return
    tied = len({id(module.weight) for module in layers.values()}) == 1
    if len(wanted) > 1 or not whole or not (tied or whole >= layers.keys()):
        raise ModelError(
            "an adapter was trained after the vocabulary was resized, and does not hold the resized embeddings",
            where=folder,
            value={name: f"{n} rows" for name, n in sorted(rows.items())},
            allowed=f"{own} rows, or all of {', '.join(sorted(layers))}",
            do="where it was trained, save it with save_embedding_layers=True",
        )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # every new row is then loaded
        model.resize_token_embeddings(wanted.pop(), mean_resizing=False)


def activate(peft_model: PeftModel, stack: Stack) -> None:
    """Make a model the stack's: its adapters active with their weights, all others off, nothing trainable."""
    switch(peft_model, [adapter_name(member) for member in stack.members])
    for layer in _layers(peft_model):
        for member in stack.members:
            layer.set_scale(adapter_name(member), member.weight)


def switch(peft_model: PeftModel, names: Sequence[str], trained: str | None = None) -> None:
    """Make these adapters, the first step's first, the active ones; all are frozen but `trained`.

    The later ones come first: the Trainer reads a checkpoint into the first active adapter.
    """
    tuner = cast(Any, peft_model.base_model)
    tuner.set_adapter([*reversed(names)], inference_mode=True)
    if trained is not None:
        for name, parameter in peft_model.named_parameters():
            if f".{trained}." in name or name.endswith(f".{trained}"):
                parameter.requires_grad_(True)


def frozen_names(peft_model: PeftModel) -> list[str]:
    """Return the active adapters below the new one, which alone is trained, the first step's first."""
    active: list[str] = list(cast(Any, peft_model.base_model).active_adapters)
    return [name for name in reversed(active) if name != NEW] if NEW in active else []


def merged(peft_model: PeftModel) -> Any:
    """Return the model with its active adapters merged into its weights, which can be trained again.

    Raises:
        ModelError: A merged weight is not finite, or is shared by a module that the adapters do not change, or an
            adapter adds a bias where the model has none.
    """
    refuse_shared(peft_model)
    if names := biased(peft_model):
        raise ModelError(
            "adapters add a bias to a module that has none, so they cannot be merged",
            value=names[0],
            do="train without lora_bias, or use the adapter as it is",
        )
    try:
        return cast(Any, peft_model).merge_and_unload(safe_merge=True).requires_grad_(True)
    except ValueError as error:
        raise ModelError(f"the adapters cannot be merged: {error}", do="look for NaN in the adapters") from error


def shared(peft_model: PeftModel) -> list[str]:
    """Return the names of a weight that adapters change in one module, and that another module shares."""
    places: dict[int, list[str]] = {}
    for name, parameter in peft_model.named_parameters(remove_duplicate=False):
        places.setdefault(id(parameter), []).append(name)
    return next((n for n in places.values() if len(n) > 1 and any(".base_layer." in name for name in n)), [])


def biased(peft_model: PeftModel) -> list[str]:
    """Return the names of modules without a bias to which adapters add one (peft's `lora_bias`)."""
    found = [(name, module) for name, module in peft_model.named_modules() if isinstance(module, LoraLayer)]
    found = [(name, module) for name, module in found if any(getattr(module, "lora_bias", {}).values())]
    return [name for name, module in found if getattr(module.get_base_layer(), "bias", None) is None]


def refuse_shared(peft_model: PeftModel) -> None:
    """Refuse adapters that cannot be merged because a module that they do not change shares its weights.

    Raises:
        ModelError: There is such a module.
    """
    names = shared(peft_model)
    if names:
        raise ModelError(
            "adapters change a module that shares its weights with another, so they cannot be merged",
            value=names,
            do="train without this module (tied embeddings are one with the head)",
        )


def _layers(peft_model: PeftModel) -> list[LoraLayer]:
    return [module for module in peft_model.modules() if isinstance(module, LoraLayer)]
