"""Loading a stack with peft: every adapter by itself on one base, switched and weighted without touching it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from sacpo.errors import ModelError
from sacpo.models.adapters.stack import AGAIN, Member, Stack, adapter_key

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
    name, folder = adapter_name(member), str(member.folder)
    config = PeftConfig.from_pretrained(folder)
    config.task_type = None  # classifiers take a causal model's adapters too
    cast(Any, config).lora_dropout = 0.0  # it is frozen: dropped, the policy would differ from its reference
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # first weights, which are replaced
            peft_model = peft_model or PeftModel(model, config, name)
            found = cast(Any, peft_model).load_adapter(folder, name, peft_config=config)
        wrong = [*found.missing_keys, *found.unexpected_keys]
    except (ValueError, KeyError, RuntimeError) as error:
        wrong = str(error).splitlines()[:1]
    if wrong or peft_model is None:
        raise ModelError(
            "an adapter does not fit its base",
            where=member.folder,
            value=wrong[0],
            do="name the base that it was trained on",
        )
    return peft_model


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
        ModelError: A merged weight is not finite, or is shared by a module that the adapters do not change.
    """
    places: dict[int, list[str]] = {}
    for name, parameter in peft_model.named_parameters(remove_duplicate=False):
        places.setdefault(id(parameter), []).append(name)
    for names in places.values():
        if len(names) > 1 and any(".base_layer." in name for name in names):
            raise ModelError(
                "adapters change a module that shares its weights with another, so they cannot be merged",
                value=names,
                do="train without this module (tied embeddings are one with the head)",
            )
    try:
        return cast(Any, peft_model).merge_and_unload(safe_merge=True).requires_grad_(True)
    except ValueError as error:
        raise ModelError(f"the adapters cannot be merged: {error}", do="look for NaN in the adapters") from error


def _layers(peft_model: PeftModel) -> list[LoraLayer]:
    return [module for module in peft_model.modules() if isinstance(module, LoraLayer)]
