"""Reference log-probs are computed once and kept under a key of everything that changes them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from align_toys import job, step, toy_pairs, write_base

import sacpo.align.reference.cached as reference_module
from sacpo.align.reference.cached import reference_key, reference_logps
from sacpo.align.reference.score import score_all
from sacpo.align.step import run_align
from sacpo.data.packing import Tree
from sacpo.errors import ModelError, RunError
from sacpo.system import processes
from sacpo.system.progress import QUIET

TREES = [Tree((3, 4), ((5,), (6, 7))), Tree((3,), ((8, 1),)), Tree((9, 9, 9, 9), ((2,), (1,)))]


def by_content(trees: list[Tree]) -> torch.Tensor:
    """Stand in for a model: a number that only the tree's own tokens decide."""
    return torch.tensor([-float(sum(tree.prompt) + 10 * sum(c)) for tree in trees for c in tree.completions])


def test_values_come_back_in_the_trees_order_whatever_the_batches(tmp_path: Path) -> None:
    expected = [-57.0, -137.0, -93.0, -56.0, -46.0]  # -(sum of prompt + 10 x sum of completion)
    for batch_size in (1, 2, 8):
        found = reference_logps(
            TREES, by_content, key=f"k{batch_size}", cache=tmp_path, batch_size=batch_size, ids=["a", "b", "c"]
        )
        assert found.tolist() == expected
    again = reference_logps(TREES, _forbidden, key="k2", cache=tmp_path, batch_size=2, ids=["a", "b", "c"])
    assert again.tolist() == expected


def _forbidden(trees: object) -> torch.Tensor:
    raise AssertionError("the reference model was called although its values are cached")


def test_a_sweep_of_beta_and_more_epochs_share_one_reference_pass(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    compute = reference_module.score_all

    def counted(*args: object, **options: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return compute(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(reference_module, "score_all", counted)
    losses = []
    for beta, epochs in ((0.1, 1), (0.5, 1), (0.5, 2)):
        summary = run_align(
            job(base, num_train_epochs=epochs),
            step(),
            beta,
            toy_pairs(32),
            tmp_path / f"{beta}{epochs}",
            tmp_path / "c",
        )
        losses.append(summary["last_loss"])
    assert calls == 1
    assert len(set(losses)) == 3
    run_align(job(base), step(), 0.5, toy_pairs(16, seed=1), tmp_path / "other", tmp_path / "c")
    assert calls == 2


def test_the_key_changes_with_everything_that_changes_a_value() -> None:
    settings = {"weights": "w", "template": "plain", "layout": "padded", "attention": "sdpa", "dtype": "float32"}
    keys = {reference_key(TREES, settings)}
    keys |= {reference_key(TREES, {**settings, name: "other"}) for name in settings}
    keys.add(reference_key(TREES[:2], settings))
    keys.add(reference_key([TREES[1], TREES[0], TREES[2]], settings))
    keys.add(reference_key([Tree((3,), ((4, 5), (6, 7))), *TREES[1:]], settings))
    assert len(keys) == 1 + len(settings) + 3
    assert reference_key(TREES, dict(reversed(settings.items()))) in keys


def test_a_corrupted_cache_is_named_and_not_used(tmp_path: Path) -> None:
    reference_logps(TREES, by_content, key="k", cache=tmp_path, batch_size=2, ids=["a", "b", "c"])
    path = tmp_path / "k.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"corrupted") as caught:
        reference_logps(TREES, by_content, key="k", cache=tmp_path, batch_size=2, ids=["a", "b", "c"])
    assert caught.value.where == path
    path.write_bytes(data[:20])
    with pytest.raises(RunError, match=r"corrupted"):
        reference_logps(TREES, by_content, key="k", cache=tmp_path, batch_size=2, ids=["a", "b", "c"])


def test_weights_that_give_nan_are_reported_with_the_record(tmp_path: Path) -> None:
    def nan_for_second(trees: list[Tree]) -> torch.Tensor:
        values = by_content(trees)
        values[[tree == TREES[1] for tree in trees for _ in tree.completions]] = torch.nan
        return values

    with pytest.raises(ModelError, match="record b"):
        reference_logps(TREES, nan_for_second, key="k", cache=tmp_path, batch_size=2, ids=["a", "b", "c"])
    assert not list(tmp_path.iterdir())


def test_other_weights_are_another_reference(base: Path, tmp_path: Path) -> None:
    other = write_base(tmp_path / "other", seed=1)
    for model in (base, other):
        run_align(job(model), step(), 0.5, toy_pairs(8), tmp_path / model.name / "out", tmp_path / "c")
    cached = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "c").iterdir()}
    assert len(cached) == 2


def test_a_kto_pairing_of_another_seed_is_another_reference(base: Path, tmp_path: Path) -> None:
    for seed in (0, 1, 1):
        toy = dataclasses.replace(job(base), seed=seed)
        run_align(toy, step("kto"), 0.5, toy_pairs(8), tmp_path / f"{seed}", tmp_path / "c")
    assert len(list((tmp_path / "c").iterdir())) == 2


def test_every_process_scores_equally_often_and_the_shares_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 trees in batches of 1 and 2 over 2 and 3 processes: sums of the parts are the values of one process."""
    trees = [Tree((1, 2), tuple((3,) * (i + k + 1) for k in range(2))) for i in range(5)]

    def score(batch: Sequence[Tree]) -> torch.Tensor:
        calls.append(len(batch))
        return torch.tensor([float(len(branch)) for tree in batch for branch in tree.completions])

    calls: list[int] = []
    whole = score_all(trees, score, 2, QUIET, "")
    assert whole.tolist() == [len(branch) for tree in trees for branch in tree.completions]
    monkeypatch.setattr(processes, "added", lambda values: values)
    for world in (2, 3):
        for size in (1, 2):
            shares, counts = [], []
            for rank in range(world):
                calls.clear()
                monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
                monkeypatch.setattr(processes, "size", lambda world=world: world)
                shares.append(score_all(trees, score, size, QUIET, ""))
                counts.append(len(calls))
            assert len(set(counts)) == 1
            assert torch.equal(torch.stack(shares).sum(0), whole)
