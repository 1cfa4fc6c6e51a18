"""LoRA: a step trains a new adapter on top of the frozen ones that it starts from.

The reference is the same weights with the new adapter off: the model that the step starts from, whether that has
weights of its own or is a base with adapters. No second copy of the base is in memory, and none is written. What is
more than plain LoRA (DoRA, trained biases, `modules_to_save`) starts from merged weights and is written merged.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sacpo.align.engine.rates import check_rate
from sacpo.align.job import TrainingJob
from sacpo.errors import RecipeError
from sacpo.losses.logps import unwrapped
from sacpo.models.adapters.factors import settle_config, write_stack
from sacpo.models.adapters.loading import NEW, adapter_name, frozen_names, merged, on_stack, refuse_shared, switch
from sacpo.models.adapters.new import PEFT_ERRORS, check_new
from sacpo.models.adapters.stack import Member, Stack, adapter_key, read_stack, stack_of
from sacpo.models.keys import base_key
from sacpo.models.loading import save_model, save_tokenizer
from sacpo.recipe.schema import LoraSpec


def initial_policy(job: TrainingJob) -> nn.Module:
    """Return the model that a training starts from, with a new adapter on it where the job has LoRA options.

    The new adapter's first weights come from the job's seed and change nothing.

    Raises:
        RecipeError: peft refuses the options, the base is quantised and the job is no plain LoRA, or a head that is
            not trained has a rate of its own.
    """
    policy = _policy(job)
    check_rate(unwrapped(policy), job.options.get("head_learning_rate"), job.name)
    return policy


def _policy(job: TrainingJob) -> nn.Module:
    if job.base.quantization is not None and (job.lora is None or not job.lora.plain):
        raise RecipeError(
            "on a quantised base only plain LoRA can be trained",
            where=f"training of {job.name}",
            value=job.lora.model_dump() if job.lora else None,
            do="give the training 'lora' options (no use_dora, bias, modules_to_save), or leave base.quantization out",
        )
    if job.lora is None:
        return job.load_model(adapters="merged")
    stack = read_stack(job.model) if job.lora.plain else None
    if stack is None:
        return _with_adapter(job.load_model(adapters="merged"), job.lora, job.seed)
    wrapped = on_stack(job.load_model(adapters="off"), stack)
    _with_adapter(wrapped, job.lora, job.seed)
    switch(wrapped, [*(adapter_name(member) for member in stack.members), NEW], trained=NEW)
    return wrapped


def _with_adapter(model: PreTrainedModel | PeftModel, spec: LoraSpec, seed: int) -> PeftModel:
    try:
        check_new(model, spec, "lora")
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            config = LoraConfig(task_type="CAUSAL_LM", **spec.model_dump())
            if not isinstance(model, PeftModel):
                wrapped = cast(PeftModel, get_peft_model(model, config, NEW))
                if not spec.plain:
                    refuse_shared(wrapped)  # it is written merged
                return wrapped
            model.add_adapter(NEW, config)
            return model
    except PEFT_ERRORS as error:
        linear = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        raise RecipeError(
            f"peft refuses the LoRA options: {error}",
            where="lora",
            value=spec.model_dump(),
            allowed=f"target_modules: {', '.join(sorted(linear))}",
            do="correct the options; without target_modules peft chooses them",
        ) from error


@contextlib.contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Run with a peft model's new adapter off, which is the reference; nothing changes for another model."""
    if not isinstance(model, PeftModel):
        yield
        return
    frozen = frozen_names(model)
    if not frozen:
        with warnings.catch_warnings():  # of trained biases, which no switch puts back: before the training all is zero
            warnings.filterwarnings("ignore", message="Careful, disabling adapter layers with bias")
            with model.disable_adapter():
                yield
        return
    switch(model, frozen)
    try:
        yield
    finally:
        switch(model, [*frozen, NEW], trained=NEW)


@contextlib.contextmanager
def adapters_kept(model: nn.Module) -> Iterator[None]:
    """Run what loads a checkpoint, after which the Trainer has the new adapter active alone."""
    frozen = frozen_names(model) if isinstance(model, PeftModel) else []
    yield
    if frozen:
        switch(cast(PeftModel, model), [*frozen, NEW], trained=NEW)


def write_policy(model: nn.Module, tokenizer: PreTrainedTokenizerBase, job: TrainingJob, out: Path) -> None:
    """Write a trained model as `model/`: weights, or the adapters alone with the way to their base.

    An adapter that is more than plain LoRA is written as `adapter/`, and merged as `model/`.
    """
    folder = out / "model"
    if not isinstance(model, PeftModel):
        save_model(cast(PreTrainedModel, model), tokenizer, folder)
        return
    before = stack_of(job.model, job.revision)
    assert job.lora is not None
    if not job.lora.plain:
        _save_adapter(model, out / "adapter", before)
        save_model(merged(model), tokenizer, folder)
        return
    own = folder / f"adapters/{len(before.members) + 1}" if before.members else folder
    _save_adapter(model, own, before)
    key = before.base_key or base_key(before.base, before.revision)
    stack = Stack(before.base, before.revision, key, (*before.members, Member(own, adapter_key(own))))
    write_stack(stack, folder, job.home / "model" if job.home is not None else None)
    save_tokenizer(tokenizer, folder)


def _save_adapter(model: PeftModel, folder: Path, before: Stack) -> None:
    model.save_pretrained(str(folder), safe_serialization=True, selected_adapters=[NEW], save_embedding_layers=False)
    settle_config(folder, before.base, before.revision)
    (folder / "README.md").unlink(missing_ok=True)  # a form that peft leaves to be filled in
