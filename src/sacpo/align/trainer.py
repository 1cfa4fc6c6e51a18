"""The one trainer: `transformers.Trainer` with a loss given as an objective, whole checkpoints and a stop at NaN.

Precision, FSDP, DeepSpeed, trackers, optimisers and schedules are the Trainer's. What is added: the loss is a mean
over an objective's units across accumulation and processes; the order of records is a function of the seed; a
checkpoint is whole or absent; a resumed training repeats the uninterrupted one bit for bit on the CPU.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging as transformers_logging

from sacpo.align.adapters import adapters_kept
from sacpo.align.defaults import optimiser_steps
from sacpo.align.engine import checkpoints
from sacpo.align.engine.arguments import Arguments, fork_workers
from sacpo.align.engine.callbacks import Flow, Show
from sacpo.align.engine.compiled import compile_as_asked
from sacpo.align.engine.evaluation import joined, measured, with_margin
from sacpo.align.engine.kept import Keep, Keeping
from sacpo.align.engine.meter import Meter
from sacpo.align.engine.order import EpochShuffle, Positions, epoch_order
from sacpo.align.engine.rates import give_rate, refuse_deepspeed
from sacpo.align.engine.sharded import fsdp_anywhere, shard_checkpoints, whole_weights
from sacpo.align.engine.wrapped import call_wrapped
from sacpo.align.objectives.objective import Batch, Objective
from sacpo.align.reference.start import Recorder, check_start, has_dropout
from sacpo.errors import TrainingDiverged
from sacpo.losses.head import split_model
from sacpo.losses.kernels import steady_kernels
from sacpo.losses.logps import unwrapped
from sacpo.system.memory import kept_memory
from sacpo.system.progress import Progress

T = TypeVar("T")


def train(
    model: nn.Module,
    args: Arguments,
    objective: Objective,
    *,
    progress: Progress,
    description: str,
    starts_at_reference: bool = True,
    keeping: Keeping | None = None,
) -> list[dict[str, float]]:
    """Train a model in place and return the log; what is global (random states, verbosity) is given back as it was.

    Args:
        model, args, objective, starts_at_reference, keeping: See `AlignTrainer`.
        progress: Where to show it.
        description: What is shown.

    Raises:
        TrainingDiverged: A loss or gradient norm became NaN or infinite.
        ModelError: The policy does not start at its reference.
    """
    config = unwrapped(model).config
    use_cache = config.use_cache
    with _undisturbed():
        try:
            trainer = AlignTrainer(model, args, objective, starts_at_reference=starts_at_reference, keeping=keeping)
            return trainer.fit(progress, description)
        finally:
            config.use_cache = use_cache


class AlignTrainer(Trainer):
    """Minimise an objective.

    Args:
        model: The policy, or a peft model around it.
        args: See `sacpo.align.engine.arguments.training_arguments`.
        objective: The records and their loss.
        callbacks: Further callbacks.
        starts_at_reference: The reference is the policy's first state, which is checked before the first update.
        keeping: Which weights are given in the place of the last ones; None: the last ones.
        options: Further arguments of `transformers.Trainer`.
    """

    keeps_last = False  # whether the last step has a checkpoint, too
    loss_is_scaled_for_ga = True  # `compute_loss` divides by the units of the whole accumulated batch

    def __init__(
        self,
        model: nn.Module,
        args: Arguments,
        objective: Objective,
        *,
        callbacks: Sequence[Any] = (),
        starts_at_reference: bool = True,
        keeping: Keeping | None = None,
        **options: Any,
    ) -> None:
        self.objective: Objective = objective
        self.folder = Path(str(args.output_dir))
        self.policy = unwrapped(model)
        self.head_rate = args.head_learning_rate
        arguments = compile_as_asked(self.policy, fork_workers(args))
        self.order = epoch_order(objective, arguments)
        self.meter = Meter(arguments.device)
        self.starts_at_reference = starts_at_reference
        self._started = False
        self._batches: Sequence[Batch] = ()
        self.keep = Keep(model, keeping or Keeping())
        if self.keep.keeping.heldout is not None:
            options.setdefault("eval_dataset", range(1))  # a stand-in: `evaluate` reads the objective
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=Positions(len(objective.ids)),
            data_collator=self._collate,  # type: ignore[arg-type]
            callbacks=[Flow(self.order), self.keep, *callbacks],
            **options,
        )
        self.model_accepts_loss_kwargs = True  # how older versions are told that the loss is scaled

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator; see `Trainer.create_accelerator_and_postprocess`."""
        with fsdp_anywhere(self.args):
            super().create_accelerator_and_postprocess()
        if self.is_deepspeed_enabled:
            self.keep.refuse_deepspeed()
            refuse_deepspeed(self.head_rate)
        if self.is_fsdp_enabled:
            split_model(self.policy)  # its look at the model needs whole weights
            shard_checkpoints(self.accelerator.state.fsdp_plugin)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimiser, with a rate of its own for the head where one is asked for."""
        made = self.optimizer is not None
        optimizer = super().create_optimizer(model)
        if self.head_rate is not None and not made:
            give_rate(optimizer, self.policy, self.head_rate)
        return optimizer

    def fit(self, progress: Progress, description: str) -> list[dict[str, float]]:
        """Train to the end, from the newest checkpoint if there is one, and return the log, one entry a logged step."""
        self.remove_callback(PrinterCallback)
        checkpoint = checkpoints.newest(self.folder)
        total = optimiser_steps(len(self.objective.ids), self.args.to_dict(), world_size=self.args.world_size)
        with progress.task(description, total, "step") as task:
            self.add_callback(Show(task))
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return joined(self.state.log_history)

    @kept_memory()
    @steady_kernels()
    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train, from a checkpoint whose files are checked if one is given; see `Trainer.train`.

        Raises:
            RunError: A file of the checkpoint is missing or corrupted, there is none, or its optimiser is another.
        """
        if self.args.should_save:
            checkpoints.clear_staging(self.folder)
        if resume_from_checkpoint:
            resume_from_checkpoint = str(checkpoints.chosen(self.folder, resume_from_checkpoint))
            checkpoints.check(Path(resume_from_checkpoint))
            self.meter.load(Path(resume_from_checkpoint))
        self.keep.start(Path(resume_from_checkpoint) if resume_from_checkpoint else None)
        found = super().train(resume_from_checkpoint or None, *args, **kwargs)
        self.keep.finish()
        return found

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return and log the loss and metrics on the held-out records; the arguments are the Trainer's, not used."""
        assert self.keep.keeping.heldout is not None
        found = measured(self, self.keep.keeping.heldout)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def forward(self, function: object) -> torch.Tensor:
        """Call a function of the bare model through whatever wraps it (DDP, FSDP, compile), inside autocast."""
        with self.accelerator.autocast():
            return call_wrapped(self.model_wrapped, self.policy, function)

    def forward_frozen(self, function: object) -> torch.Tensor:
        """Do the same without gradient and without dropout."""
        training = self.model_wrapped.training
        self.model_wrapped.eval()
        with torch.no_grad():
            result = self.forward(function)
        self.model_wrapped.train(training)
        return result

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Concatenate a one-dimensional tensor over all processes; lengths may differ."""
        if self.args.world_size == 1:
            return values
        sizes = self.accelerator.gather(torch.tensor([len(values)], device=values.device)).tolist()
        padded = self.accelerator.gather(self.accelerator.pad_across_processes(values))
        return torch.cat([part[:size] for part, size in zip(padded.chunk(len(sizes)), sizes, strict=True)])

    def _collate(self, positions: list[int]) -> Batch:
        """Lay out the records at these positions; a batch of fillers alone is computed like any other, for nothing."""
        records = [position for position in positions if position != EpochShuffle.FILLER]
        return self.objective.collate(records) if records else replace(self.objective.collate([0]), units=0)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return this device batch's share of the mean over the whole batch; see `Trainer.compute_loss`."""
        batch: Batch = inputs
        assert num_items_in_batch is not None
        first = self.starts_at_reference and self.state.global_step == 0 and not self._started
        self._started = True
        if first and has_dropout(self.policy):
            check_start(self, batch, self.forward_frozen)
        recorder = Recorder(self.forward)
        total, metrics = self.objective.loss(batch, recorder)
        if batch.units == 0:
            total, metrics = total * 0, {name: (value * 0, 0) for name, (value, _) in metrics.items()}
        if first and not has_dropout(self.policy):
            check_start(self, batch, recorder.replay)
        self.meter.add({"loss": (total, batch.units), **metrics})
        self.meter.tokens += batch.tokens if batch.units else 0
        # DDP and FSDP average gradients over processes: the factor turns that mean into the sum
        return total * (self.accelerator.num_processes / num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the means since the last line under TRL's names; the loss is the mean over units."""
        if "loss" in logs:
            logs = with_margin({**logs, **self.meter.drain(self.gather)})
        super().log(logs, start_time)

    @property
    def precision(self) -> torch.dtype:
        """The type that the forward pass computes in."""
        mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return mixed.get(self.accelerator.mixed_precision, self.policy.dtype)

    def get_batch_samples(
        self, epoch_iterator: Iterator[object], num_batches: int, device: torch.device
    ) -> tuple[list[object], torch.Tensor | int | None]:
        """Draw the device batches of one optimiser step and let the objective compute what they share."""
        batches, units = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._batches = batches
        if batches:
            self.objective.prepare(batches, self.forward_frozen, self.gather)
        return batches, units

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> torch.Tensor | int | None:
        units = sum(batch.units for batch in batch_samples)
        if self.args.world_size == 1:
            return units
        return self.accelerator.reduce(torch.tensor(units, device=device), reduction="sum")

    def _get_grad_norm(self, model: nn.Module, grad_norm: object = None) -> object:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        # with float16 an infinite norm is the loss scaler's business: it skips the step and lowers the scale
        watched = {"loss": self._tr_loss} if self.accelerator.scaler else {"loss": self._tr_loss, "gradient norm": norm}
        for name, value in watched.items():
            if not math.isfinite(value):
                raise TrainingDiverged(self._divergence(name, float(value)))
        return norm

    def _divergence(self, name: str, value: float) -> str:
        ids = [self.objective.ids[index] for batch in self._batches for index in batch.indices]
        return (
            f"the {name} became {value} in step {self.state.global_step + 1}\n"
            f"  records: {', '.join(ids)}\n"
            "  to do:   lower learning_rate or max_grad_norm, train in float32 or bf16, or look at these records"
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with adapters_kept(self.model or self.policy):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with checkpoints.fitting(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def floating_point_ops(self, inputs: object) -> int:
        """Return 0: nobody reads the Trainer's estimate, which needs tensors by name."""
        return 0

    def _get_train_sampler(self, train_dataset: object = None) -> EpochShuffle:
        return self.order

    def _get_output_dir(self, trial: object) -> str:
        return str(self.folder / checkpoints.STAGING)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model to a folder, whole also where FSDP splits it; all processes call it."""
        if _internal_call or not self.is_fsdp_enabled:  # a checkpoint holds shards
            super().save_model(output_dir, _internal_call)
            return
        weights = whole_weights(self.model or self.policy)
        if self.args.should_save:
            self._save(output_dir, state_dict=weights)

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        step = self.state.global_step
        if not self.keeps_last and (step >= self.state.max_steps or self.control.should_training_stop):
            return  # the finished model follows at once
        super()._save_checkpoint(model, trial)
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{step}"
        checkpoints.forget_best(self.state, folder, write=self.args.should_save)
        self.meter.save(folder)
        self.keep.kept.save(folder)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoints.publish(self.folder, step, self.args.save_total_limit)
        self.accelerator.wait_for_everyone()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    states = random.getstate(), np.random.get_state()
    verbosity = transformers_logging.get_verbosity()
    gc.freeze()  # the Trainer collects garbage at its start, which would walk every object of the imports: 0.3 s
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            gc.unfreeze()
            random.setstate(states[0])
            np.random.set_state(states[1])
            transformers_logging.set_verbosity(verbosity)
