"""DPO on pairs of real lengths, one side in a process: this package, or TRL in its defaults or tuned.

All sides have the same random weights, the same first adapter and the same batches in the same order.
"""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu import shapes
from benchmarks.gpu.agreement import obstacle
from benchmarks.gpu.emit import Clock, emit
from benchmarks.gpu.lines import SHOWN
from benchmarks.gpu.machine import bf16_rate

WARM = 2
"""Steps before the timing: kernels are chosen and compiled there."""
RATES = {"lora": 2e-4, "full": 2e-5}
"""So large that weights of 16 bits change and the losses of a few steps say something."""
RANK = 16


@dataclass(frozen=True)
class Case:
    """One side of a comparison.

    Attributes:
        peer: "sacpo", "trl", or "trl-tuned": reference computed before, micro-batches accumulated, and no attention
            of cuDNN's, which plans each new shape.
        shape: A name in `shapes.LLAMAS`.
        lora: Train an adapter, not all weights.
        lengths: A name in `shapes.LENGTHS`.
        batch: Pairs of an optimiser step.
        micro: Pairs of a device batch of the tuned peer.
        steps: Optimiser steps at most.
        checkpointing: Gradient checkpointing.
        attention: The attention implementation.
        dtype: Of the weights.
        rate: The learning rate; None: that of `RATES`.
    """

    peer: str
    shape: str
    lora: bool
    lengths: str = "pku"
    batch: int = 16
    micro: int = 4
    steps: int = 16
    checkpointing: bool = True
    attention: str = "sdpa"
    dtype: str = "bfloat16"
    rate: float | None = None

    @property
    def optimiser(self) -> str:
        """Adam's states in 8 bits where that can be had; else they have the weights' type."""
        eight = not self.lora and importlib.util.find_spec("bitsandbytes") is not None
        return "adamw_bnb_8bit" if eight else "adamw_torch_fused"


def run(clock: Clock, *, bf16_tflops: float | None = None, **options: Any) -> None:
    """Train one side and tell its rate, memory and losses; the matrix rate is measured first where it is not known."""
    case = Case(**options)
    if case.attention == "flex_attention" and (reason := obstacle(clock.device)):
        emit("notice", text=f"FlexAttention is left out: {reason}")
        return
    if clock.device == "cuda" and bf16_tflops is None:
        bf16_tflops = bf16_rate(clock)
    tokenizer, config = shapes.tokenizer(), shapes.config_of(case.shape)
    rows = shapes.rows(case.lengths, case.batch * case.steps)
    model = shapes.build(config, clock.device, dtype=case.dtype)
    warm_up(model, clock, case.attention)
    clock.reset_peak()
    started = clock.now()
    reference = Reference(clock)
    steps = Steps(clock, case.batch, reference)
    with tempfile.TemporaryDirectory() as folder:
        make = sacpo_trainer if case.peer == "sacpo" else trl_trainer
        with attention_of(case):
            trainer = make(case, model, tokenizer, rows, folder, clock, reference)
            draw_adapter(trainer.model)
            trainer.add_callback(steps.callback())
            trainer.train()
    whole = clock.now() - started
    found = summary(case, config, steps, reference, bf16_tflops)
    layout = getattr(getattr(trainer, "_reference", None), "chosen", None)
    about = {"layout": layout.name} if layout else {}
    about["lengths"] = f"{case.lengths}: {shapes.lengths(case.lengths, 1)[1]}"
    emit("side", **about, **found, whole_seconds=whole, peak_gb=clock.peak_gb(), optimiser=case.optimiser)


def attention_of(case: Case) -> contextlib.AbstractContextManager[None]:
    """Return what leaves cuDNN's attention out for the tuned peer, as this package does for itself."""
    from sacpo.losses.kernels import steady_kernels

    return steady_kernels() if case.peer == "trl-tuned" else contextlib.nullcontext()


def summary(case: Case, config: Any, steps: Steps, reference: Reference, bf16_tflops: float | None) -> dict[str, Any]:
    """Return the rate without warm-up: seconds of the later steps and their share of the reference pass."""
    timed, rate = steps.timed(), steps.rate()
    tokens = shapes.lengths(case.lengths, case.batch * case.steps)[0]
    # which pairs the later steps held does not matter: the mean over all is taken
    tflops = shapes.needed(config, tokens, lora=case.lora) / len(tokens) * rate / 1e12
    return {
        "steps": len(steps.seconds),
        "pairs_per_second": rate,
        "step_seconds": sum(timed) / len(timed),
        "reference_seconds": reference.total,
        "reference_batches": len(reference.parts),
        "needed_tflops": tflops,
        "share": tflops / bf16_tflops if bf16_tflops else None,
        "losses": steps.losses,
    }


def warm_up(model: Any, clock: Clock, attention: str) -> None:
    """Load the libraries' kernels with a small forward pass that no side pays for, then choose the attention."""
    import torch

    from sacpo.losses.head import split_model

    with torch.no_grad():
        model(input_ids=torch.arange(4, 68, device=clock.device)[None])
    split_model(model)  # its look at four tokens would be compiled
    if attention != "sdpa":
        model.set_attn_implementation(attention)
    clock.now()


class Steps:
    """Seconds and losses of optimiser steps; ends the training when the section's time does.

    A step lasts from the end of the one before to its own: laying out its batch belongs to it.

    Args:
        clock: The device's.
        batch: Pairs of a step.
        reference: The reference pass before.
    """

    def __init__(self, clock: Clock, batch: int, reference: Reference) -> None:
        self.clock, self.batch, self.reference = clock, batch, reference
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.began = 0.0

    def timed(self) -> list[float]:
        """Return the seconds of the steps that count."""
        return self.seconds[WARM:] or self.seconds

    def rate(self) -> float:
        """Return pairs a second: the steps that count, and their share of the reference pass."""
        pairs = self.batch * len(self.timed())
        return pairs / (sum(self.timed()) + self.reference.seconds_a_pair() * pairs)

    def tell(self) -> None:
        """Tell the last step, and the rate so far."""
        values = {"seconds": self.seconds[-1], "loss": self.losses[-1], "losses": self.losses[-SHOWN:]}
        emit("step", step=len(self.losses), **values, pairs_per_second=self.rate())

    def callback(self) -> Any:
        """Return a Trainer's callback that fills this."""
        from transformers import TrainerCallback

        steps = self

        class Callback(TrainerCallback):
            """Times the steps."""

            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                steps.began = steps.clock.now()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                ended = steps.clock.now()
                steps.seconds.append(ended - steps.began)
                steps.began = ended
                if steps.clock.left() < 2 * max(steps.seconds[-2:]) + 5:
                    control.should_training_stop = True

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
                if "loss" in (logs or {}):
                    steps.losses.append(float(logs["loss"]))
                    steps.tell()

        return Callback()


class Reference:
    """Seconds of a reference pass that goes before the training, batch by batch; laying one out belongs to it."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.total, self.began = clock, 0.0, 0.0
        self.parts: list[tuple[int, float]] = []

    def begin(self) -> None:
        """Start the clock of the first batch."""
        self.began = self.clock.now()

    def end(self, pairs: int) -> None:
        """Count a batch, and start the next one's clock."""
        began, self.began = self.began, self.clock.now()
        self.add(pairs, self.began - began)

    def add(self, pairs: int, seconds: float) -> None:
        """Count a batch of the pass."""
        self.parts.append((pairs, seconds))
        self.total += seconds

    def seconds_a_pair(self) -> float:
        """Return the mean without the first batch, which compiles; 0 where the pass is inside the steps."""
        parts = self.parts[1:] or self.parts
        return sum(s for _, s in parts) / sum(n for n, _ in parts) if parts else 0.0

    def progress(self, batch: int) -> Any:
        """Return a `Progress` of this package that times the batches of the reference pass."""
        from sacpo.system.progress import Progress

        reference = self

        class Timed(Progress):
            """Times what it is given."""

            def track(self, items: Any, description: str, total: int, unit: str = "it") -> Any:
                reference.begin()
                for item in items:
                    yield item
                    reference.end(batch)

            def notice(self, text: str) -> None:
                emit("notice", text=text)

        return Timed("quiet")


def options_of(case: Case, device: str) -> dict[str, Any]:
    """Return what all sides train with."""
    return {
        "bf16": device == "cuda",
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": device == "cuda",
        "gradient_checkpointing": case.checkpointing,
        "learning_rate": case.rate or RATES["lora" if case.lora else "full"],
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "optim": case.optimiser,
        "max_length": shapes.LONGEST,
        "beta": 0.1,
        "num_train_epochs": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": shapes.SEED,
    }


def adapter(case: Case) -> Any:
    """Return the configuration of the adapter that all sides train, None for all weights."""
    from peft import LoraConfig

    return LoraConfig(r=RANK, lora_alpha=2 * RANK, task_type="CAUSAL_LM") if case.lora else None


def draw_adapter(model: Any) -> None:
    """Give an adapter first weights that are the same on all sides."""
    import torch

    generator = torch.Generator().manual_seed(shapes.SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[1] ** 0.5)


def sacpo_trainer(
    case: Case, model: Any, tokenizer: Any, rows: Any, folder: str, clock: Clock, reference: Reference, **changes: Any
) -> Any:
    """Return this package's trainer; its reference pass is done."""
    from sacpo.trl.trainer import PreferenceConfig, PreferenceTrainer

    options = {**options_of(case, clock.device), "per_device_train_batch_size": case.batch, **changes}
    return PreferenceTrainer(
        model,
        args=PreferenceConfig(folder, reference_cache="", **options),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapter(case),
        progress=reference.progress(case.batch),
    )


def trl_trainer(
    case: Case, model: Any, tokenizer: Any, rows: Any, folder: str, clock: Clock, reference: Reference
) -> Any:
    """Return TRL's trainer on the same batches; a tuned one's reference pass is done."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer
    from trl.trainer import dpo_trainer

    from sacpo.align.engine.order import EpochShuffle

    tuned = case.peer == "trl-tuned"
    dpo_trainer.hash_module = lambda module: "these weights"  # it names a cache, and takes a minute at 7B
    micro = min(case.micro, case.batch) if tuned else case.batch

    class Ordered(DPOTrainer):  # type: ignore[misc]
        """TRL's trainer in this package's order."""

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return EpochShuffle(len(rows), shapes.SEED)

        def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
            reference.begin()
            return super()._precompute_ref_logps(*args, **kwargs)

        def compute_ref_log_probs(self, *args: Any, **kwargs: Any) -> Any:
            found = super().compute_ref_log_probs(*args, **kwargs)
            reference.end(len(found[0]))
            return found

    other = None
    if not case.lora and not tuned:  # a model without a place to load from cannot be copied by TRL
        other = shapes.build(shapes.config_of(case.shape), clock.device, dtype=case.dtype)
    return Ordered(
        model,
        ref_model=other,
        args=DPOConfig(
            folder,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=case.batch // micro,
            precompute_ref_log_probs=tuned,
            precompute_ref_batch_size=case.batch if tuned else None,
            **options_of(case, clock.device),
        ),
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter(case),
    )
