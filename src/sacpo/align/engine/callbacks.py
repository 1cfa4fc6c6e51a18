"""What is done beside the Trainer's loop: each epoch's order, the last line of the log, and how far it is."""

from __future__ import annotations

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sacpo.align.engine.order import EpochShuffle
from sacpo.system.progress import Task


class Flow(TrainerCallback):
    """Choose each epoch's order, and log the last step whatever the interval."""

    def __init__(self, order: EpochShuffle) -> None:
        self.order = order

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Choose the epoch's order."""
        self.order.set_epoch(int(state.epoch or 0))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Ask for a line of the log at the last step."""
        if state.global_step >= state.max_steps:
            control.should_log = True


class Show(TrainerCallback):
    """Tell how far the training is."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Count the steps before a resumed one."""
        self.task.skip(state.global_step)

    def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        """Count a step."""
        self.task.advance()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Note the loss."""
        if logs and "loss" in logs:
            self.task.figures(f"loss {logs['loss']:.4g}")
