"""Weights that a training gives in the place of its last ones: of the lowest held-out loss, or the mean of the last."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from align_toys import job, pair_rows, step, toy_pairs, trained, write_base
from safetensors.torch import load_file

from sacpo.align.engine.evaluation import best_step, joined
from sacpo.align.engine.kept import first_averaged
from sacpo.align.heldout import score_heldout
from sacpo.align.reward_model import train_reward_model
from sacpo.align.sft import run_sft
from sacpo.align.step import run_align
from sacpo.errors import DataError, RecipeError
from sacpo.recipe.schema import LoraSpec

EVERY_2: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2}
BEST: dict[str, Any] = {**EVERY_2, "load_best_model_at_end": True}
CONSTANT: dict[str, Any] = {"lr_scheduler_type": "constant", "warmup_steps": 0}
"""With these the first n updates are the same however many follow."""
HELD = toy_pairs(10, seed=5, p=(0.2, 1.0))
"""Half of these votes go against what is learnt, so their loss soon rises."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose attention drops weights: an evaluation must leave its random state alone."""
    return write_base(tmp_path_factory.mktemp("models") / "base", attention_dropout=0.1)


def align(base: Path, out: Path, lora: bool = False, algorithm: str = "dpo", **options: Any) -> dict[str, Any]:
    """Train on 16 pairs, 2 updates an epoch."""
    spec = LoraSpec(r=2) if lora else None
    start = job(base, lora=spec, **{"max_steps": 10, "learning_rate": 3e-3, **CONSTANT, **options})
    return run_align(start, step(algorithm), 0.5, toy_pairs(16), out, out.parent / "cache", heldout=HELD)


def weights(out: Path) -> dict[str, torch.Tensor]:
    (file,) = (out / "model").glob("*.safetensors")
    return load_file(file)


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("lora", "algorithm"), [(False, "dpo"), (True, "dpo"), (False, "kto")])
def test_the_best_weights_are_those_of_the_training_that_ends_there(
    lora: bool, algorithm: str, base: Path, tmp_path: Path
) -> None:
    rate = 3e-2 if lora else 3e-3
    summary = align(base, tmp_path / "best", lora, algorithm, **BEST, learning_rate=rate)
    best, rows = summary["best_step"], log(tmp_path / "best")
    found = {row["step"]: row["eval_loss"] for row in rows if "eval_loss" in row}
    assert [*found] == [2, 4, 6, 8, 10]
    assert 2 <= best < 10
    assert summary["best_eval_loss"] == found[best] == min(found.values())
    assert summary["heldout_records"] == (10 if algorithm == "dpo" else 20)
    align(base, tmp_path / "short", lora, algorithm, max_steps=best, learning_rate=rate)
    align(base, tmp_path / "whole", lora, algorithm, learning_rate=rate)
    for name, weight in weights(tmp_path / "short").items():
        assert torch.equal(weights(tmp_path / "best")[name], weight)
    # and it goes on as if nobody had looked
    seen = [{key: value for key, value in row.items() if not key.startswith("eval_")} for row in rows]
    assert seen == log(tmp_path / "whole")


def test_the_held_out_loss_is_that_of_the_model_that_is_given(base: Path, tmp_path: Path) -> None:
    """-p ln sigmoid(d) - (1 - p) ln sigmoid(-d) on the oriented pairs, from log-probs scored anew."""
    summary = align(base, tmp_path / "best", **BEST)
    margins = []
    for model in (tmp_path / "best/model", base):
        start = job(model)
        chosen, other = score_heldout(start, start.load_model(), HELD)[0].view(-1, 2).unbind(1)
        margins.append(chosen - other)
    d, p = 0.5 * (margins[0] - margins[1]), torch.tensor([max(pair.p, 1 - pair.p) for pair in HELD])
    wanted = (-p * torch.nn.functional.logsigmoid(d) - (1 - p) * torch.nn.functional.logsigmoid(-d)).mean()
    assert summary["best_eval_loss"] == pytest.approx(wanted.item(), abs=1e-5)


def test_patience_stops_after_so_many_evaluations_without_a_better_one(base: Path, tmp_path: Path) -> None:
    whole = align(base, tmp_path / "whole", **BEST)
    stopped = align(base, tmp_path / "stopped", **BEST, early_stopping_patience=2)
    assert stopped["best_step"] == whole["best_step"]
    assert stopped["steps"] == whole["best_step"] + 4 < whole["steps"] == 10
    assert all(torch.equal(weights(tmp_path / "whole")[name], w) for name, w in weights(tmp_path / "stopped").items())


@pytest.mark.parametrize("lora", [False, True])
def test_the_mean_is_that_of_the_weights_after_each_of_the_last_updates(lora: bool, base: Path, tmp_path: Path) -> None:
    """Of 4 updates the last half: those behind updates 3 and 4. Of an adapter each factor has its mean."""
    summary = align(base, tmp_path / "mean", lora, max_steps=4, average_last=0.5)
    assert summary["averaged_steps"] == 2
    for n in (3, 4):
        align(base, tmp_path / f"{n}", lora, max_steps=n)
    third, fourth, mean = (weights(tmp_path / name) for name in ("3", "4", "mean"))
    assert any(not torch.equal(third[name], fourth[name]) for name in third)
    for name in third:
        torch.testing.assert_close(mean[name], (third[name] + fourth[name]) / 2, atol=1e-7, rtol=1e-6)


def test_the_first_averaged_update() -> None:
    assert [first_averaged(10, share) for share in (0.5, 0.25, 0.01, 1.0)] == [6, 9, 10, 1]


def test_of_equal_losses_the_first_is_best_and_none_before_the_first_update() -> None:
    entries = [{"step": s, "eval_loss": x} for s, x in ((0, 0.1), (2, 0.5), (4, 0.4), (6, 0.4))]
    assert best_step(entries) == 4
    assert joined([{"step": 4, "loss": 1.0}, *entries, {"step": 5, "loss": 2.0}]) == [
        {"step": 4, "loss": 1.0, "eval_loss": 0.4},
        {"step": 5, "loss": 2.0},
    ]


def test_a_reward_model_has_the_same(base: Path, tmp_path: Path) -> None:
    options = {"num_train_epochs": 5, **CONSTANT, **BEST}
    summary = train_reward_model(job(base, **options), toy_pairs(16), tmp_path, heldout=HELD)
    found = {row["step"]: row["eval_loss"] for row in log(tmp_path) if "eval_loss" in row}
    assert summary["best_step"] == min(found, key=lambda at: found[at]) < 10


def test_held_out_pairs_that_give_no_loss_are_named(base: Path, tmp_path: Path) -> None:
    """KTO drops ties; a reward model has no use for what is too long."""
    ties = [replace(pair, p=0.5) for pair in HELD]
    long = [replace(pair, chosen=f"{pair.chosen} " * 40) for pair in HELD]
    with pytest.raises(DataError, match=r"the held-out pairs give no loss(?s:.*)10 held out"):
        run_align(job(base, **CONSTANT, **BEST), step("kto"), 0.5, toy_pairs(16), tmp_path, tmp_path, heldout=ties)
    short = replace(job(base, **CONSTANT, **BEST), too_long="drop")
    with pytest.raises(DataError, match=r"the held-out pairs give no loss(?s:.*)10 held out"):
        train_reward_model(short, toy_pairs(16), tmp_path, heldout=long)


def test_what_does_not_go_together_is_refused(base: Path, tmp_path: Path) -> None:
    for options, what in (
        ({"load_best_model_at_end": True}, "load_best_model_at_end needs eval_strategy: steps"),
        ({"eval_steps": 2}, "eval_steps needs eval_strategy: steps"),
        ({**EVERY_2, "early_stopping_patience": 2}, "early_stopping_patience needs load_best_model_at_end: true"),
        ({**BEST, "average_last": 0.5}, "the mean of its last weights or the best of them, not both"),
        ({"average_last": 0.5, "deepspeed": {"zero_optimization": {}}}, "not kept aside under DeepSpeed"),
    ):
        with pytest.raises(RecipeError, match=what):
            align(base, tmp_path / "out", **options)
    with pytest.raises(RecipeError, match="no held-out pairs to compute the loss on") as error:
        run_align(job(base, **BEST), step(), 0.5, toy_pairs(16), tmp_path / "out", tmp_path / "cache")
    assert "holdout" in str(error.value)
    with pytest.raises(RecipeError, match="SFT has no held-out demonstrations"):
        run_sft(job(base, **BEST), [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_trainer_alone_gives_the_best_weights(base: Path, tmp_path: Path) -> None:
    """Its checkpoints go on as before, and the state says which step was best."""
    options = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 4, "eval_strategy": "steps"}
    options |= {"eval_steps": 4, "load_best_model_at_end": True, "learning_rate": 3e-2, **CONSTANT}
    held = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in pair_rows(6)]
    trainer = trained(base, tmp_path / "best", eval_dataset=held, **options)
    found = {e["step"]: e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e}
    best = min(found, key=lambda at: found[at])
    assert trainer.state.best_global_step == best < max(found)
    assert trainer.state.best_model_checkpoint is None
    assert trainer.evaluate()["eval_loss"] == pytest.approx(found[best], abs=1e-6)
    with pytest.raises(RecipeError, match="lowest loss on one held-out data set"):
        trained(base, tmp_path / "two", eval_dataset={"a": held, "b": held}, **options)
    with pytest.raises(RecipeError, match="metric_for_best_model"):
        trained(base, tmp_path / "other", eval_dataset=held, metric_for_best_model="eval_kl", **options)
