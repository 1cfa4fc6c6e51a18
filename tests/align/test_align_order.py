"""The order of records and the number of steps are known beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest
from align_toys import job, toy_demonstrations

from sacpo.align.defaults import optimiser_steps, with_defaults
from sacpo.align.order import EpochShuffle
from sacpo.align.sft import run_sft


def test_each_epoch_is_its_own_permutation_of_all_records() -> None:
    order = EpochShuffle(50, seed=3)
    first = list(order)
    assert list(order) == first  # asking again changes nothing
    order.set_epoch(1)
    assert list(order) != first
    assert sorted(order) == sorted(first) == list(range(50))
    assert list(EpochShuffle(50, seed=4)) != first


@pytest.mark.parametrize(
    ("n", "size", "accumulation", "epochs", "steps"),
    [(20, 8, 1, 1, 3), (20, 8, 2, 1, 2), (20, 8, 2, 1.5, 3), (7, 8, 4, 2, 2), (33, 4, 3, 2, 6)],
)
def test_the_planned_steps_are_the_trained_ones(
    n: int, size: int, accumulation: int, epochs: float, steps: int, base: Path, tmp_path: Path
) -> None:
    options = {
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": epochs,
    }
    assert optimiser_steps(n, options) == steps
    assert run_sft(job(base, **options), toy_demonstrations(n), tmp_path / "a")["steps"] == steps


def test_a_layout_that_cannot_be_had_is_replaced_with_a_notice(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = run_sft(job(base), toy_demonstrations(8), tmp_path / "a", layout="packed")
    assert (summary["layout"] == "padded") == ("packed rows are not available" in capsys.readouterr().err)


def test_the_papers_options_are_the_defaults() -> None:
    """Three epochs of 16 x 2 pairs a device at 2e-5, cosine, warmup .03; 8 devices make the paper's 256 of step 1."""
    options = with_defaults({"learning_rate": 5e-6})
    assert options["learning_rate"] == 5e-6
    assert options["per_device_train_batch_size"] * options["gradient_accumulation_steps"] * 8 == 256
    assert (options["num_train_epochs"], options["lr_scheduler_type"], options["warmup_steps"]) == (3.0, "cosine", 0.03)
    assert optimiser_steps(2560, {}, world_size=8) == 30
    assert optimiser_steps(2560, {"max_steps": 7}) == 7
