"""A step by itself may hold pairs out: they are not trained on, and its reward is tried on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from align_toys import TRAINING, pair_rows

from sacpo.api import align
from sacpo.errors import UserError
from sacpo.stats.intervals import win_rate


def rows(path: Path, n: int = 64) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in pair_rows(n)))
    return path


@pytest.mark.parametrize("lora", [None, {"r": 4, "target_modules": "all-linear"}])
def test_held_out_pairs_are_scored_and_not_trained_on(
    base: Path, tmp_path: Path, lora: dict[str, object] | None
) -> None:
    """The toy's preference is learnt from three quarters of the pairs, and holds for the others."""
    options = {"base": {"template": "plain", "device": "cpu"}, "max_length": 40, "beta": 0.5, "lora": lora}
    options |= {"holdout": 0.25, "training": TRAINING | {"num_train_epochs": 2}}
    data = rows(tmp_path / "pairs.jsonl")
    model = align(base, data, tmp_path / "out", **options)
    held = json.loads((model.parent / "heldout.json").read_text())
    summary = json.loads((model.parent / "summary.json").read_text())
    pairs = held["pairs"]
    assert 8 <= pairs == 64 - summary["pairs"] <= 26
    right = round(held["accuracy"]["value"] * pairs)
    assert right >= 0.9 * pairs
    correct = [1.0] * right + [0.0] * (pairs - right)
    assert held["accuracy"] == win_rate(correct, [str(i) for i in range(pairs)]).to_json()
    assert align(base, data, tmp_path / "out", **options) == model


def test_without_a_share_no_pair_is_held_out(base: Path, tmp_path: Path) -> None:
    options = {"base": {"template": "plain", "device": "cpu"}, "max_length": 40, "training": TRAINING}
    model = align(base, rows(tmp_path / "pairs.jsonl", 16), tmp_path / "out", **options)
    assert not (model.parent / "heldout.json").exists()


def test_only_pairs_can_be_held_out(base: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"prompt": "w1", "completion": "w2", "label": true}\n')
    with pytest.raises(UserError, match="holdout"):
        align(base, tmp_path / "x.jsonl", tmp_path / "out", format="unpaired", algorithm="kto", holdout=0.5)
