"""A reward model learns a toy preference and says how well."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from align_toys import job, toy_pairs
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sacpo.align.reward_model import train_reward_model
from sacpo.errors import DataError, RecipeError
from sacpo.recipe.schema import LoraSpec


def test_it_learns_the_preference_and_loads_as_a_classifier(base: Path, tmp_path: Path) -> None:
    """Its first scores are small, so the loss starts near ln 2; "w1 ..." is always preferred to "w2 ..."."""
    out = tmp_path / "a"
    summary = train_reward_model(
        job(base, num_train_epochs=2),
        toy_pairs(64, p=(1.0, 0.9)),
        out,
        heldout=toy_pairs(30, seed=7, p=(1.0, 0.5, 0.1)),
    )
    assert summary["first_loss"] == pytest.approx(math.log(2), abs=0.05)
    assert summary["last_loss"] < 0.4
    held = summary["heldout"]
    # p = .1 prefers "w2 ...", which a model of the training pairs gets wrong; ties are not counted
    assert (held["n"], held["accuracy"]) == (20, 0.5)
    assert held["correct"] == [1.0, 0.0] * 10
    model = AutoModelForSequenceClassification.from_pretrained(out / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    texts = ["w5 w6 w1 w9<eos>", "w5 w6 w2 w9 w9<eos>"]
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        good, bad = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, 0].tolist()
    assert good > bad + 0.3


def test_the_head_depends_on_the_seed_alone(base: Path, tmp_path: Path) -> None:
    losses = [
        train_reward_model(job(base, seed=seed), toy_pairs(8), tmp_path / name)["first_loss"]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_what_it_cannot_do_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="all its weights"):
        train_reward_model(job(base, lora=LoraSpec()), toy_pairs(8), tmp_path / "a")
    with pytest.raises(DataError, match="no records are left"):
        train_reward_model(job(base), [], tmp_path / "a")
