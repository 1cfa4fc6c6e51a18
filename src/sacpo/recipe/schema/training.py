"""What every training takes: optimiser options, LoRA, the layout of rows; and supervised fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from sacpo.plain import JsonObject
from sacpo.recipe.section import MANY, MOST, Count, Names, Positive, Section

Layout = Literal["auto", "packed", "padded"]
LAYOUT = (
    "packed: prompts computed once, or stop; padded: one completion a row; auto: packed where it agrees, else padded"
)

EVALUATED = (
    "eval_strategy",
    "eval_steps",
    "load_best_model_at_end",
    "metric_for_best_model",
    "early_stopping_patience",
)
"""Options about the loss on held-out pairs."""
WEIGHTS = (*EVALUATED, "average_last")
"""Options about which weights a training gives."""
ADDED = ("early_stopping_patience", "average_last", "head_learning_rate")
"""Options that `transformers.TrainingArguments` lacks."""
LATER = (*WEIGHTS, "head_learning_rate")
"""Options that leave the keys of trainings without them as they were."""


class TrainingSpec(Section):
    """Training options, under the names and with the meaning they have in `transformers.TrainingArguments`."""

    num_train_epochs: float | None = Field(None, gt=0, le=MANY)
    max_steps: int | None = Field(None, ge=-1, le=MOST, description="optimiser steps; -1: as many as the epochs have")
    per_device_train_batch_size: Count | None = None
    gradient_accumulation_steps: Count | None = None
    learning_rate: Positive | None = Field(
        None, description="of a step on preferences that trains all weights it is 1e-06 by default"
    )
    head_learning_rate: Positive | None = Field(
        None,
        description="learning rate of the head (the output embeddings; where they are tied, the input ones with them; "
        "of a reward model what gives the reward); that of all weights by default; see docs/distil.md",
    )
    lr_scheduler_type: str | None = None
    lr_scheduler_kwargs: JsonObject | None = None
    warmup_steps: float | None = Field(None, ge=0, description="steps; a value below 1 is a share of all steps")
    weight_decay: float | None = Field(None, ge=0)
    adam_beta1: float | None = Field(None, ge=0, lt=1)
    adam_beta2: float | None = Field(None, ge=0, lt=1)
    adam_epsilon: float | None = Field(None, ge=0)
    max_grad_norm: float | None = Field(None, ge=0)
    optim: str | None = None
    optim_args: str | None = None
    bf16: bool | None = None
    fp16: bool | None = None
    tf32: bool | None = None
    gradient_checkpointing: bool | None = None
    gradient_checkpointing_kwargs: JsonObject | None = None
    torch_compile: bool | None = None
    fsdp: str | list[str] | bool | None = None
    fsdp_config: JsonObject | str | None = None
    deepspeed: JsonObject | str | None = None
    ddp_find_unused_parameters: bool | None = None
    logging_steps: float | None = Field(None, gt=0)
    save_steps: float | None = Field(None, gt=0)
    save_total_limit: int | None = Field(None, ge=1)
    eval_strategy: Literal["no", "steps"] | None = Field(
        None, description="steps: compute the loss on held-out pairs every eval_steps; see docs/weights.md"
    )
    eval_steps: float | None = Field(None, gt=0, description="logging_steps by default; below 1 a share of all steps")
    load_best_model_at_end: bool | None = Field(
        None, description="give the weights of the lowest held-out loss, not the last ones"
    )
    metric_for_best_model: Literal["loss", "eval_loss"] | None = Field(None, description="the held-out loss, always")
    early_stopping_patience: Count | None = Field(
        None,
        description="with load_best_model_at_end: stop when so many evaluations in a row were no better than the best, "
        "as transformers' EarlyStoppingCallback does",
    )
    average_last: float | None = Field(
        None,
        gt=0,
        le=1,
        description="give the mean of the weights after each update of this last share of the training",
    )
    dataloader_num_workers: int | None = Field(None, ge=0, le=1024)
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] | None = None
    report_to: str | list[str] | None = None
    run_name: str | None = None
    seed: int | None = Field(None, ge=0, lt=2**32)
    full_determinism: bool | None = None

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, value: int | None) -> int | None:
        if value == 0:
            raise ValueError("0 steps train nothing: give a number of steps, or -1 for whole epochs")
        return value

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> JsonObject:
        """Leave out options of `LATER` that are not given: what trains without them has the key that it had."""
        found: JsonObject = handler(self)
        return {name: value for name, value in found.items() if value is not None or name not in LATER}

    def options(self) -> JsonObject:
        """Return the options that were given, and only those."""
        return self.model_dump(exclude_none=True)


class LoraSpec(Section):
    """LoRA options under peft's names; a step with these trains an adapter instead of all weights."""

    r: Count = 16
    lora_alpha: float = Field(32, gt=0)
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str | list[str] | None = None
    use_rslora: bool = False
    use_dora: bool = False
    bias: Literal["none", "all", "lora_only"] = "none"
    modules_to_save: list[str] | None = None

    @property
    def plain(self) -> bool:
        """Whether the change of the weights is a scaled product of two factors and nothing else."""
        return not self.use_dora and self.bias == "none" and not self.modules_to_save


class SftSpec(Section):
    """Supervised fine-tuning of the base on demonstrations."""

    dataset: str | Names
    max_length: int = Field(512, ge=2, le=MOST)
    too_long: Literal["drop", "truncate"] = Field("truncate", description="records longer than max_length")
    layout: Layout = Field("auto", description=LAYOUT)
    training: TrainingSpec = TrainingSpec()
    lora: LoraSpec | None = None
