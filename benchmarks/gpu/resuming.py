"""A resumed training against the uninterrupted one: the losses behind the checkpoint."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu import shapes, training
from benchmarks.gpu.emit import Clock, emit


def run(clock: Clock, *, shape: str, lora: bool = False, steps: int = 6, **options: Any) -> None:
    """Train to the end, then again from the middle's checkpoint with new weights in memory, and compare.

    Sums on CUDA come in any order, so equal trainings are not equal bit for bit: beside how far the losses are apart
    stands how far they have moved.
    """
    case = training.Case("sacpo", shape, lora, steps=steps, **options)
    middle = steps // 2
    with tempfile.TemporaryDirectory() as folder:
        whole = _train(case, clock, folder, middle, None)
        checkpoint = Path(folder) / f"checkpoint-{middle}"
        again = _train(case, clock, folder, middle, checkpoint)
    resumed, expected = again[-(steps - middle) :], whole[middle:]
    gaps = [abs(a - b) for a, b in zip(resumed, expected, strict=True)]
    moved = max(abs(loss - whole[0]) for loss in expected)
    emit("resumed", steps=len(gaps), apart=max(gaps), moved=moved, losses=resumed, uninterrupted=expected)


def _train(case: training.Case, clock: Clock, folder: str, middle: int, checkpoint: Path | None) -> list[float]:
    model = shapes.build(shapes.config_of(case.shape), clock.device, dtype=case.dtype)
    rows = shapes.rows(case.lengths, case.batch * case.steps)
    reference = training.Reference(clock)
    saving = {"save_strategy": "steps", "save_steps": middle}
    trainer = training.sacpo_trainer(case, model, shapes.tokenizer(), rows, folder, clock, reference, **saving)
    trainer.keeps_last = False  # one checkpoint is enough
    if checkpoint is None:
        training.draw_adapter(trainer.model)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    del trainer, model
    gc.collect()
    clock.reset_peak()
    return losses
