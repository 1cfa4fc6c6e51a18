"""Where a training step's time goes: the kernels of one step by kind, and how long they leave the device idle."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Any

from benchmarks.gpu import shapes
from benchmarks.gpu.emit import Clock, emit
from benchmarks.gpu.training import Case, Reference, draw_adapter, sacpo_trainer, warm_up

STEPS, LOOKED_AT = 6, 4
"""Steps that are done, and the one (from 0) that is looked at, when kernels are chosen."""
KINDS = {
    "attention": ("fmha", "flash", "sdpa", "flex", "attention"),
    "products": ("nvjet", "gemm", "cutlass", "mm", "linear"),
    "sums": ("reduce", "softmax", "norm"),
    "element by element": (
        "elementwise",
        "copy",
        "cat",
        "memcpy",
        "memset",
        "mul",
        "add",
        "index",
        "scatter",
        "gather",
    ),
}
"""Words in kernels' names; the first kind that has one counts."""


def kind_of(name: str) -> str:
    """Return what a kernel does."""
    return next((kind for kind, words in KINDS.items() if any(word in name.lower() for word in words)), "other")


def run(clock: Clock, **options: Any) -> None:
    """Train a few steps and tell of one what its kernels took, by kind, in milliseconds, beside the step's own."""
    import torch
    from transformers import TrainerCallback

    case = Case(peer="sacpo", lora=True, **{"steps": STEPS, **options})
    model = shapes.build(shapes.config_of(case.shape), clock.device, dtype=case.dtype)
    warm_up(model, clock, case.attention)
    known = torch.profiler.ProfilerActivity
    # what the host does is not recorded on CUDA: that would slow the step, and reading it takes longer than the step
    profiler = torch.profiler.profile(activities=[known.CUDA if clock.device == "cuda" else known.CPU])
    began, seconds = 0.0, 0.0

    class Look(TrainerCallback):
        """Profiles one step."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            nonlocal began
            if state.global_step == LOOKED_AT - (case.steps < STEPS):
                profiler.start()
                began = clock.now()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            nonlocal seconds
            if began and not seconds:
                seconds = clock.now() - began
                profiler.stop()

    rows = shapes.rows(case.lengths, case.batch * case.steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = sacpo_trainer(case, model, shapes.tokenizer(), rows, folder, clock, Reference(clock))
        draw_adapter(trainer.model)
        trainer.add_callback(Look())
        trainer.train()
    kinds = by_kind(profiler.key_averages(), clock.device)
    emit("kernels", step_ms=seconds * 1e3, by_kind={kind: round(ms, 1) for kind, ms in kinds.items() if ms})


def by_kind(events: Iterable[Any], device: str) -> dict[str, float]:
    """Return the milliseconds of a profile's kernels by kind.

    Names that code gives to its blocks, such as an optimiser's step, are events of the device, too, and span kernels.
    """
    found: dict[str, float] = {}
    for event in events:
        if not event.is_user_annotation:
            time = event.self_cpu_time_total if device == "cpu" else _device_time(event)
            found[kind_of(event.key)] = found.get(kind_of(event.key), 0.0) + time / 1e3
    return found


def _device_time(event: Any) -> float:
    """Return the microseconds of a kernel; what the host did is another event of the same time."""
    return float(event.self_device_time_total) if str(event.device_type).endswith("CUDA") else 0.0
