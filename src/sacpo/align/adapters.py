"""LoRA: a step trains an adapter on top of the merged weights it starts from.

The reference is the same model with the adapter off. Stacking a step's adapter on the step before's needs another
`attach` and `detach`, and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from sacpo.errors import RecipeError
from sacpo.recipe.schema import LoraSpec


def attach(model: PreTrainedModel, spec: LoraSpec, seed: int) -> PeftModel:
    """Return the model with a new adapter, whose first weights come from the seed and change nothing.

    Raises:
        RecipeError: peft refuses the options, such as a target module that the model does not have.
    """
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            config = LoraConfig(task_type="CAUSAL_LM", **spec.model_dump())
            return cast(PeftModel, get_peft_model(model, config))
    except (ValueError, KeyError, TypeError) as error:
        linear = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        raise RecipeError(
            f"peft refuses the LoRA options: {error}",
            where="lora",
            value=spec.model_dump(),
            allowed=f"target_modules: {', '.join(sorted(linear))}",
            do="correct the options; without target_modules peft chooses them",
        ) from error


def bare(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside a peft model, or the model itself; adapters act in both."""
    base = getattr(model, "get_base_model", None)
    return cast(PreTrainedModel, base() if callable(base) else model)


@contextlib.contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Run with a peft model's adapter off, which is the reference; nothing changes for another model."""
    if not isinstance(model, PeftModel):
        yield
        return
    with model.disable_adapter():
        yield


def detach(model: nn.Module, folder: Path) -> PreTrainedModel:
    """Write a peft model's adapter to `folder` and return the model with the adapter merged in."""
    if not isinstance(model, PeftModel):
        return cast(PreTrainedModel, model)
    model.save_pretrained(str(folder), safe_serialization=True)
    return cast(PreTrainedModel, model.merge_and_unload())
