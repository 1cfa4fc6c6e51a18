"""The order of records and the number of steps are known beforehand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from align_toys import job, toy_demonstrations
from hypothesis import given
from hypothesis import strategies as st

from sacpo.align.defaults import of_step, optimiser_steps, with_defaults
from sacpo.align.engine.arguments import training_arguments
from sacpo.align.engine.order import EpochShuffle, balanced
from sacpo.align.objectives.kto import couples
from sacpo.align.sft import SftObjective, run_sft
from sacpo.align.trainer import AlignTrainer
from sacpo.data.packing import padded_rows
from sacpo.data.tokenize import TokenDemo
from sacpo.trl.config import PreferenceConfig


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


def test_neighbours_that_belong_together_stay_neighbours_in_every_epoch() -> None:
    """Records 0 1 | 2 | 3 4 | 5 6 | 7 | 8: units keep their inner order, and are shuffled like records elsewhere."""
    together = couples(["a", "a", "b", "c", "c", "c", "c", "d", "e"])
    assert together == [0, 0, 2, 3, 3, 5, 5, 7, 8]
    orders = set()
    for epoch in range(20):
        order = EpochShuffle(9, 1, pair_groups=together)
        order.set_epoch(epoch)
        found = list(order)
        assert sorted(found) == list(range(9))
        assert all(found[found.index(first) + 1] == first + 1 for first in (0, 3, 5))
        orders.add(tuple(found))
    assert len(orders) > 10
    assert list(EpochShuffle(9, 1, pair_groups=range(9))) == list(EpochShuffle(9, 1))
    assert list(EpochShuffle(0, 1, pair_groups=[])) == []


@given(st.integers(0, 60), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 5))
def test_every_order_holds_every_record_once(n: int, batch: int, world: int, accumulation: int, epoch: int) -> None:
    lengths = np.random.default_rng(n).integers(1, 100, n).tolist()
    for strategy in ("random", "sequential", "group_by_length"):
        order = EpochShuffle(
            n, 1, strategy=strategy, lengths=lengths, batch=batch, world=world, accumulation=accumulation
        )  # fmt: skip
        order.set_epoch(epoch)
        found = list(order)
        assert len(found) == len(order)
        assert sorted(i for i in found if i != EpochShuffle.FILLER) == list(range(n))
        assert list(order) == found


def test_dealing_out_moves_no_record_to_another_step_and_balances_the_tokens() -> None:
    """64 records of 1 to 1000 tokens, 4 processes of 4: each round holds the same records as without dealing.

    The largest share is at most 10 % above the mean here; without dealing out it is 25 % and more in some round.
    """
    lengths = np.random.default_rng(0).integers(1, 1000, 64)
    plain = np.array(list(EpochShuffle(64, 5))).reshape(4, 4, 4)  # rounds, processes, records
    dealt = np.array(list(EpochShuffle(64, 5, lengths=lengths.tolist(), batch=4, world=4))).reshape(4, 4, 4)
    for before, after in zip(plain, dealt, strict=True):
        assert sorted(before.ravel()) == sorted(after.ravel())
        shares = lengths[after].sum(1)
        assert shares.max() / shares.mean() < 1.1
    assert max(s.max() / s.mean() for s in lengths[plain].sum(2)) > 1.25
    assert list(EpochShuffle(64, 5, lengths=lengths.tolist(), batch=4)) == list(EpochShuffle(64, 5))  # one process


def test_neighbours_are_dealt_out_to_one_process() -> None:
    """12 records in runs of 3, 2, 3, 1, 3 to 2 processes of 6: the longest runs first, and none is cut.

    5 runs of 3 among 3 processes of 5: one run is cut, since no process has room for two.
    """
    numbers = np.repeat(np.arange(5), [3, 2, 3, 1, 3])
    lengths = np.array([9, 9, 9, 1, 1, 5, 5, 5, 2, 4, 4, 4])
    dealt = balanced(np.arange(12), lengths, 6, 2, numbers).reshape(2, 6)
    assert [sorted({*numbers[share].tolist()}) for share in dealt] == [[0, 1, 3], [2, 4]]
    numbers = np.repeat(np.arange(5), 3)
    dealt = balanced(np.arange(15), np.full(15, 2), 5, 3, numbers).reshape(3, 5)
    assert sorted(dealt.ravel().tolist()) == [*range(15)]
    shares = [{*numbers[share].tolist()} for share in dealt]
    assert sorted(sum(number in share for share in shares) for number in range(5)) == [1, 1, 1, 2, 2]


def test_grouped_steps_hold_records_of_about_equal_length_in_a_seeded_order() -> None:
    """One stretch of 50 steps of 8: sorted, the steps' spreads add up to at most the whole range."""
    lengths = np.random.default_rng(1).integers(1, 1000, 403)
    order = EpochShuffle(403, 2, strategy="group_by_length", lengths=lengths.tolist(), batch=4, accumulation=2)
    steps = lengths[np.array(list(order))[:400]].reshape(50, 8)
    assert np.ptp(steps, axis=1).sum() <= 1000
    means = steps.mean(1)
    assert not (np.diff(means) < 0).all()  # the steps' order is shuffled
    order.set_epoch(1)
    assert lengths[np.array(list(order))[:400]].reshape(50, 8).mean(1).tolist() != means.tolist()


def test_a_recipes_training_groups_by_length(base: Path, tmp_path: Path) -> None:
    """Batches of equal length need no padding: the padded layout holds fewer columns than in random order."""
    seen: dict[str, int] = {}
    for strategy in ("random", "group_by_length"):
        trainer = AlignTrainer(
            job(base).load_model(),
            training_arguments(job(base, train_sampling_strategy=strategy), tmp_path / strategy),
            SftObjective(demonstrations(96), partial(padded_rows, pad_id=0)),
        )
        seen[strategy] = sum(batch.rows.input_ids.numel() for batch in trainer.get_train_dataloader())
    assert seen["group_by_length"] < 0.95 * seen["random"]


def demonstrations(n: int) -> list[TokenDemo]:
    return [TokenDemo(str(i), (3,), (4,) * (1 + i * 7 % 30)) for i in range(n)]


def test_the_papers_options_are_the_defaults() -> None:
    """Three epochs of 16 x 2 pairs a device at 2e-5, cosine, warmup .03; 8 devices make the paper's 256 of step 1."""
    options = with_defaults({"learning_rate": 5e-6})
    assert options["learning_rate"] == 5e-6
    assert options["per_device_train_batch_size"] * options["gradient_accumulation_steps"] * 8 == 256
    assert (options["num_train_epochs"], options["lr_scheduler_type"], options["warmup_steps"]) == (3.0, "cosine", 0.03)
    assert optimiser_steps(2560, {}, world_size=8) == 30
    assert optimiser_steps(2560, {"max_steps": 7}) == 7


def test_the_learning_rate_of_a_step_is_trls_unless_it_trains_an_adapter() -> None:
    from trl import DPOConfig, KTOConfig

    trls = {kind.__dataclass_fields__["learning_rate"].default for kind in (DPOConfig, KTOConfig, PreferenceConfig)}
    assert trls == {with_defaults(of_step({}, lora=False))["learning_rate"]} == {1e-6}
    assert with_defaults(of_step({}, lora=True))["learning_rate"] == 2e-5
    assert of_step({"learning_rate": 3e-4}, lora=False) == {"learning_rate": 3e-4}
