"""Loading a stack with peft: every adapter by itself on one base, switched and weighted without touching it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from peft import PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from sacpo.adapters.stack import AGAIN, Member, Stack, adapter_key
from sacpo.errors import ModelError

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
        name = adapter_name(member)
        if peft_model is not None and name in peft_model.peft_config:
            continue
        if adapter_key(member.folder) != member.key:
            raise ModelError("an adapter is corrupted: it is not what was written", where=member.folder, do=AGAIN)
        config = PeftConfig.from_pretrained(str(member.folder))
        config.task_type = None  # classifiers take a causal model's adapters too
        try:
            if peft_model is None:
                peft_model = PeftModel.from_pretrained(model, str(member.folder), name, config=config)
            else:
                peft_model.load_adapter(str(member.folder), name, peft_config=config)
        except (ValueError, KeyError, RuntimeError) as error:
            raise ModelError(
                f"an adapter does not fit its base: {str(error).splitlines()[0]}",
                where=member.folder,
                do="name the base that it was trained on",
            ) from error
    assert peft_model is not None
    activate(peft_model, stack)
    return peft_model.eval()


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
    """Return the active adapters that are not trained, the first step's first."""
    active: list[str] = list(cast(Any, peft_model.base_model).active_adapters)
    return [name for name in reversed(active) if name != NEW]


def merged(peft_model: PeftModel) -> Any:
    """Return the model with its active adapters merged into its weights.

    Raises:
        ModelError: A merged weight is not finite.
    """
    try:
        return cast(Any, peft_model).merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ModelError(f"the adapters cannot be merged: {error}", do="look for NaN in the adapters") from error


def _layers(peft_model: PeftModel) -> list[LoraLayer]:
    return [module for module in peft_model.modules() if isinstance(module, LoraLayer)]
