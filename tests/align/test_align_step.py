"""One alignment step from start to end."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from align_toys import TRAINING, job, step, toy_demonstrations, toy_pairs, write_base
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import sacpo.align.objectives.kto as kto_module
import sacpo.align.reference.source as source_module
from sacpo.align.heldout import preferences, score_heldout
from sacpo.align.sft import run_sft
from sacpo.align.step import run_align
from sacpo.align.trainer import AlignTrainer
from sacpo.data.records import Labelled, Prompt
from sacpo.errors import DataError, ModelError, RecipeError, TrainingDiverged
from sacpo.models import precision
from sacpo.pipeline.stages.report import training_facts
from sacpo.pipeline.stages.train import Trained
from sacpo.recipe.schema import BaseSpec


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def test_dpo_starts_at_ln_2_with_soft_labels_and_dropout(tmp_path: Path) -> None:
    """policy = reference, so d = 0 and -p log s(0) - (1-p) log s(0) = ln 2 for every p.

    Dropout is 0 in this model's config but its attention drops half of the weights while training: the check before
    the first update has it off, so it passes, while the first training loss itself differs from ln 2.
    """
    base = write_base(tmp_path / "base")
    summary = run_align(job(base), step(), 0.5, toy_pairs(16, p=(1.0, 0.7, 0.5)), tmp_path / "a", tmp_path / "c")
    assert summary["first_loss"] == pytest.approx(math.log(2), abs=1e-6)
    dropped = write_base(tmp_path / "dropped", attention_dropout=0.5)
    summary = run_align(job(dropped), step(), 0.5, toy_pairs(16), tmp_path / "b", tmp_path / "c")
    assert abs(summary["first_loss"] - math.log(2)) > 1e-4


def test_bf16_autocast_starts_at_ln_2_and_keeps_float32_weights(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda: 1.0)  # also on a CPU where float32 would be taken
    full = run_align(job(base), step(), 0.5, toy_pairs(32), tmp_path / "a", tmp_path / "c")
    mixed = run_align(job(base, bf16=True), step(), 0.5, toy_pairs(32), tmp_path / "b", tmp_path / "c")
    assert mixed["first_loss"] == pytest.approx(math.log(2), abs=1e-2)
    assert mixed["last_loss"] == pytest.approx(full["last_loss"], abs=1e-2)
    assert mixed["last_loss"] != full["last_loss"]
    assert {tensor.dtype for tensor in weights(tmp_path / "b").values()} == {torch.float32}
    assert len(list((tmp_path / "c").iterdir())) == 2  # another precision is another reference


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_all_weights_of_a_16_bit_checkpoint_are_trained_in_float32(
    stored: torch.dtype, base: Path, tmp_path: Path
) -> None:
    """Steps of 1e-6 vanish beside bfloat16 weights, and in float16 they are thousands of times as large."""
    halves = {}
    for kind in (stored, torch.float32):  # both hold the same numbers
        halves[kind] = tmp_path / str(kind)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=stored).to(kind)
        model.save_pretrained(halves[kind])
        AutoTokenizer.from_pretrained(base).save_pretrained(halves[kind])
        rate = {"learning_rate": 1e-6, "lr_scheduler_type": "constant"}
        run_align(job(halves[kind], **rate), step(), 0.5, toy_pairs(32), tmp_path / f"{kind}-out", tmp_path / "c")
    trained, wanted = (weights(tmp_path / f"{kind}-out") for kind in halves)
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
    assert all(torch.equal(trained[name], tensor) for name, tensor in wanted.items())
    asked = replace(job(halves[stored]), base=BaseSpec(model=str(halves[stored]), dtype=str(stored).split(".")[1]))
    assert asked.dtype != "float32"


@pytest.mark.parametrize(
    ("algorithm", "options", "promised"),
    [("dpo", {}, "ln 2"), ("kto", {"desirable_weight": 1.5}, "0.625, half the mean weight")],
)
def test_a_reference_that_is_not_the_policy_stops_before_the_first_update(
    algorithm: str,
    options: dict[str, Any],
    promised: str,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """KTO with w+ = 1.5 and w- = 1 on as many of both: half of 1.25."""
    compute = source_module.reference_logps

    def wrong(*args: object, **kwargs: object) -> torch.Tensor:
        logps = compute(*args, **kwargs)  # type: ignore[arg-type]
        logps[0::2] += 0.01
        return logps

    monkeypatch.setattr(source_module, "reference_logps", wrong)
    with pytest.raises(ModelError, match=f"would not be {promised}\n") as caught:
        run_align(job(base), step(algorithm, **options), 0.5, toy_pairs(16), tmp_path / "a", tmp_path / "c")
    assert float(str(caught.value.value).split()[0]) == pytest.approx(0.01, abs=1e-4)
    assert not (tmp_path / "a" / "model").exists()


def test_dpo_learns_the_toy_preference_along_the_committed_trajectory(base: Path, tmp_path: Path) -> None:
    """Six steps as first measured with this code (the warm-up's first step has learning rate 0)."""
    out = tmp_path / "a"
    run_align(job(base), step(), 0.5, toy_pairs(48), out, tmp_path / "c")
    log = metrics(out)
    assert [entry["loss"] for entry in log] == pytest.approx(GOLDEN_LOSS, abs=1e-5)
    assert [entry["rewards/margins"] for entry in log] == pytest.approx(GOLDEN_MARGIN, abs=1e-5)
    assert log[-1]["rewards/accuracies"] == 1.0
    scored = [job(folder) for folder in (base, out / "model")]
    before, after = (score_heldout(j, j.load_model(), toy_pairs(40, seed=9)) for j in scored)
    assert len(after[1]) == 40
    assert preferences(after[0] - before[0])["accuracy"] == 1.0  # the implicit reward
    assert 0.3 < preferences(before[0])["accuracy"] < 0.7


def test_metrics_have_trls_names_and_no_clock(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    run_align(job(base), step(), 0.5, toy_pairs(16), out, tmp_path / "c")
    assert [*metrics(out)[0]] == [
        "loss",
        "rewards/chosen",
        "rewards/rejected",
        "rewards/accuracies",
        "rewards/margins",
        "logps/chosen",
        "logps/rejected",
        "grad_norm",
        "learning_rate",
        "num_tokens",
        "epoch",
        "step",
    ]
    plain = {name: value for name, value in TRAINING.items() if name != "learning_rate"}
    summary = run_align(
        replace(job(base), training=plain), step("kto"), 0.5, toy_pairs(16), tmp_path / "b", tmp_path / "c"
    )
    assert summary["training"]["learning_rate"] == 1e-6  # of a step of all weights where none is given
    assert {"kl", "rewards/chosen", "rewards/margins", "logps/rejected"} <= metrics(tmp_path / "b")[0].keys()
    assert sorted(p.name for p in out.iterdir()) == ["metrics.jsonl", "model", "summary.json"]


@pytest.mark.parametrize(
    ("changed", "model", "layout", "continues"),
    [
        ({}, {}, "auto", True),
        ({"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}, {}, "auto", True),
        ({"gradient_checkpointing": True}, {}, "auto", False),
        ({}, {"attention_dropout": 0.5}, "auto", False),
        ({}, {}, "padded", False),
    ],
)
def test_z0_needs_no_second_pass_over_prompts_where_that_changes_nothing(
    changed: dict[str, Any],
    model: dict[str, Any],
    layout: Any,
    continues: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = write_base(tmp_path / "base", **model)
    made, runs = [], []
    real = kto_module.make
    monkeypatch.setattr(kto_module, "make", lambda parts: made.append(real(parts)) or made[-1])
    for long_prompt in (0, 1000):
        monkeypatch.setattr(kto_module, "LONG_PROMPT", long_prompt)
        out = tmp_path / f"{long_prompt}"
        run_align(job(base, **changed), step("kto"), 0.5, toy_pairs(24), out, tmp_path / "c", layout=layout)
        runs.append(metrics(out))
    assert [objective.continuing is not None for objective, _ in made] == [continues, False]
    for one, other in zip(*runs, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert max(entry["kl"] for entry in runs[0]) > 1e-3


def test_the_model_is_a_standard_folder(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    run_align(job(base), step(), 0.5, toy_pairs(16), out, tmp_path / "c")
    model = AutoModelForCausalLM.from_pretrained(out / "model")
    assert model.config.use_cache is True
    assert AutoTokenizer.from_pretrained(out / "model").eos_token == "<eos>"
    before = load_file(base / "model.safetensors")
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights(out).items())


@pytest.mark.parametrize("kind", ["sft", "dpo", "ipo", "kto"])
def test_batch_times_accumulation_is_one_number(kind: str, base: Path, tmp_path: Path) -> None:
    """20 pairs in batches of 8 as 8x1, 4x2 and 1x8 (the last batch is short): the same losses and weights."""
    runs = []
    for size, accumulation in ((8, 1), (4, 2), (1, 8)):
        out = tmp_path / f"{size}x{accumulation}"
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
        if kind == "sft":
            run_sft(job(base, **options), toy_demonstrations(20), out)
        else:
            records = toy_pairs(20, p=(1.0, 0.6))
            run_align(job(base, **options), step(kind), 0.5, records, out, tmp_path / "c")
        runs.append((metrics(out), weights(out)))
    (first, tensors), *others = runs
    assert len(first) == (5 if kind == "kto" else 3)
    for log, found in others:
        for a, b in zip(first, log, strict=True):
            a, b = a | {"epoch": 0}, b | {"epoch": 0}  # the Trainer counts device batches, of which the last is short
            if (
                abs(a.get("rewards/margins", 1)) < 1e-5
            ):  # policy and reference are equal: the margins' signs are rounding
                a, b = a | {"rewards/accuracies": 0}, b | {"rewards/accuracies": 0}
            assert a == pytest.approx(b, rel=5e-6, abs=2e-6)
        for name, tensor in tensors.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=2e-6)


def test_older_trainers_know_that_the_loss_is_scaled(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers 5.17 asks the model's signature instead: a forward pass without `**kwargs` changes nothing."""
    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    run_align(job(base, **options), step(), 0.5, toy_pairs(16), tmp_path / "a", tmp_path / "c")
    monkeypatch.setattr(AlignTrainer, "loss_is_scaled_for_ga", None)
    monkeypatch.setattr(LlamaForCausalLM, "accepts_loss_kwargs", False, raising=False)
    run_align(job(base, **options), step(), 0.5, toy_pairs(16), tmp_path / "b", tmp_path / "c")
    for name, tensor in weights(tmp_path / "a").items():
        torch.testing.assert_close(weights(tmp_path / "b")[name], tensor, rtol=0, atol=0)


def test_results_tell_what_a_training_read_and_left_out_and_why(base: Path, tmp_path: Path) -> None:
    records = toy_pairs(8)
    long = replace(records[0], prompt=Prompt.from_text("why " * 300), chosen="yes " * 300)
    run_align(replace(job(base), too_long="drop"), step(), 0.5, [*records, long], tmp_path / "out", tmp_path / "c")
    told = training_facts(Trained(tmp_path / "out"))
    assert (told["records"], told["kept"], told["truncated"], told["pairs"]) == (9, 8, 0, 8)
    assert [(key, told[key]) for key in told if key.startswith("dropped")] == [("dropped: longer than max_length", 1)]
    assert told["longest"] == 601  # of all that were read


def test_hard_labels_round_and_leave_ties_out(base: Path, tmp_path: Path) -> None:
    records = toy_pairs(16, p=(0.7, 0.5, 0.2, 1.0))
    soft = run_align(job(base), step(), 0.5, records, tmp_path / "a", tmp_path / "c")
    hard = run_align(job(base), step(soft_labels=False), 0.5, records, tmp_path / "b", tmp_path / "c")
    assert (soft["pairs"], soft["ties"], soft["ties_dropped"]) == (16, 4, 0)
    assert (hard["pairs"], hard["ties"], hard["ties_dropped"]) == (12, 4, 4)


def test_nan_stops_with_the_step_and_the_records(tmp_path: Path) -> None:
    """A learning rate of 1e30 makes step 2's loss NaN; the message names the second batch of the seeded order."""
    base = write_base(tmp_path / "base")
    records = toy_pairs(16)
    with pytest.raises(TrainingDiverged) as caught:
        run_align(
            job(base, learning_rate=1e30, warmup_steps=0, lr_scheduler_type="constant"),
            step(),
            0.5,
            records,
            tmp_path / "a",
            tmp_path / "c",
        )
    from sacpo.align.engine.order import EpochShuffle

    order = list(EpochShuffle(16, 0))
    assert "in step 2" in str(caught.value)
    assert all(records[i].id in str(caught.value) for i in order[8:])
    assert not any(records[i].id in str(caught.value) for i in order[:8])
    assert not (tmp_path / "a" / "model").exists()


def test_records_of_the_wrong_kind_are_refused(base: Path, tmp_path: Path) -> None:
    labelled = [Labelled(Prompt.from_text("w5 w6"), "w1", True)]
    with pytest.raises(DataError, match="DPO cannot learn"):
        run_align(job(base), step(), 0.5, labelled, tmp_path / "a", tmp_path / "c")
    with pytest.raises(DataError, match="no records"):
        run_align(job(base), step(), 0.5, [], tmp_path / "a", tmp_path / "c")


def test_an_option_that_training_arguments_refuse_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="training option"):
        run_align(job(base, lr_scheduler_type="cosin"), step(), 0.5, toy_pairs(8), tmp_path / "a", tmp_path / "c")


def test_training_leaves_global_random_states_alone(base: Path, tmp_path: Path) -> None:
    import random

    import numpy as np

    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    run_align(job(base), step(), 0.5, toy_pairs(8), tmp_path / "a", tmp_path / "c")
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected


GOLDEN_LOSS = [0.69314718, 0.69314718, 0.59446645, 0.54040784, 0.51300621, 0.46439719]
GOLDEN_MARGIN = [0.0, 0.0, 0.21235085, 0.34424084, 0.40840155, 0.53308183]


def test_a_reference_that_is_not_the_start_is_what_log_ratios_are_to(tmp_path: Path) -> None:
    """The first loss is the mean of -log sigmoid(beta d), d the difference of log pi_start/pi_ref, and no longer ln 2.

    With the start as the reference it is the training without one, bit for bit.
    """
    start, other = write_base(tmp_path / "start"), write_base(tmp_path / "other", seed=1)
    pairs = toy_pairs(8)
    found = run_align(job(start), step(), 0.5, pairs, tmp_path / "a", tmp_path / "c", reference=other)
    logps = [score_heldout(job(place), job(place).load_model(), pairs)[0] for place in (start, other)]
    chosen, rejected = (logps[0] - logps[1]).view(-1, 2).unbind(1)
    expected = -torch.nn.functional.logsigmoid(0.5 * (chosen - rejected)).mean().item()
    assert found["first_loss"] == pytest.approx(expected, abs=1e-5)
    assert abs(expected - math.log(2)) > 1e-3
    run_align(job(start), step(), 0.5, pairs, tmp_path / "same", tmp_path / "c", reference=start)
    run_align(job(start), step(), 0.5, pairs, tmp_path / "none", tmp_path / "c")
    same, none = weights(tmp_path / "same"), weights(tmp_path / "none")
    assert all(torch.equal(same[name], none[name]) for name in none)
