"""PreferenceTrainer beside TRL's own trainers: the same losses and metric names, step by step, from the same calls."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from align_toys import PREFERENCE, config, history, labelled_rows, pair_rows, trained, word_tokenizer, write_base
from datasets import Dataset
from transformers import AutoModelForCausalLM, TrainingArguments

import sacpo.align.objectives.kto as kto_module
from sacpo import PreferenceTrainer
from sacpo.align.engine.order import EpochShuffle
from sacpo.data.rows import Tree
from sacpo.errors import MachineError, ModelError, RecipeError

trl = pytest.importorskip("trl", reason="TRL is not installed")

TRL_ONLY = {"total_flos"}


class Ordered(trl.DPOTrainer):  # type: ignore[misc]
    """TRL's trainer on the same batches."""

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return EpochSampler(len(self.train_dataset), self.args.seed, self)


class EpochSampler(EpochShuffle):
    """The orders of epochs for a trainer that does not announce them."""

    def __init__(self, n: int, seed: int, trainer: Any) -> None:
        super().__init__(n, seed)
        self.trainer = trainer

    def __iter__(self) -> Any:
        self.set_epoch(int(self.trainer.state.epoch or 0))
        return super().__iter__()


def assert_same(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    """Every metric of TRL's is there under its name and equal to 1e-4; a prompt's tokens are counted once here."""
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys() - TRL_ONLY
        for name in other.keys() - TRL_ONLY:
            if not any(part in name for part in ("num_tokens", "runtime", "per_second")):
                assert mine[name] == pytest.approx(other[name], abs=1e-4, rel=1e-4), name


@pytest.mark.parametrize(
    ("loss", "first", "last"), [("sigmoid", math.log(2), 0.6), ("ipo", 1.0, 0.9), ("robust", math.log(2), 0.6)]
)
def test_losses_of_pairs_equal_trls_step_by_step(
    loss: str, first: float, last: float, base: Path, tmp_path: Path
) -> None:
    """The same DPOConfig for both, 18 pairs in batches of 4 over two epochs: 10 steps, the last of an epoch short.

    beta = .5: IPO starts at 1 / (4 x .25) = 1. Robust DPO takes a tenth of the labels as flipped.
    """
    runs = []
    options = {**PREFERENCE, "label_smoothing": 0.1 if loss == "robust" else 0.0}
    for kind in (Ordered, PreferenceTrainer):
        trainer = kind(
            model=str(base),
            args=trl.DPOConfig(output_dir=str(tmp_path / kind.__name__), loss_type=[loss], **options),
            train_dataset=Dataset.from_list(pair_rows()),
            eval_dataset=Dataset.from_list(pair_rows()[:6]),
            processing_class=word_tokenizer(),
        )
        trainer.train()
        trainer.evaluate()
        runs.append(trainer)
    theirs, ours = runs
    assert len(history(ours)) == 10
    assert_same(history(ours), history(theirs))
    assert_same([e for e in ours.state.log_history if "eval_loss" in e], [theirs.state.log_history[-1]])
    assert math.isclose(history(ours)[0]["loss"], first, abs_tol=1e-6)
    assert history(ours)[-1]["loss"] < last
    assert ours._reference.chosen.name == "flat"


@pytest.mark.parametrize("long_prompt", [0, 1000])
def test_kto_equals_trl_step_by_step(
    long_prompt: int, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequential batches in both. TRL's own mismatches are replaced by the seeded ones, which the reference holds.

    Ours are scored behind the batch's own prompts, or in rows of their own.
    """
    monkeypatch.setattr(kto_module, "LONG_PROMPT", long_prompt)
    arguments = {"train_sampling_strategy": "sequential", "desirable_weight": 1.5, "undesirable_weight": 0.7}
    arguments["gradient_checkpointing"] = long_prompt > 0  # TRL's default, which keeps no keys and values
    made: dict[str, Any] = {}
    for name, kind in (("ours", PreferenceTrainer), ("theirs", trl.KTOTrainer)):
        made[name] = kind(
            model=str(base),
            args=trl.KTOConfig(output_dir=str(tmp_path / name), **PREFERENCE, **arguments),
            train_dataset=Dataset.from_list(labelled_rows()),
            processing_class=word_tokenizer(),
        )
    assert (made["ours"].objective.continuing is not None) == (long_prompt == 0)
    crossed = [list(tree.completions[0]) for tree in made["ours"].objective.mismatches]
    data = made["theirs"].train_dataset
    assert [[*tree.prompt] for tree in made["ours"].objective.trees] == data["prompt_ids"][:]
    made["theirs"].train_dataset = data.remove_columns("KL_completion_ids").add_column("KL_completion_ids", crossed)
    for trainer in made.values():
        trainer.train()
    assert_same(history(made["ours"]), history(made["theirs"]))
    assert max(entry["kl"] for entry in history(made["ours"])) > 1e-3


def test_messages_are_rendered_by_the_chat_template_as_trl_does(base: Path, tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ 'w20 ' if m.role == 'user' else 'w21 ' }}{{ m.content }} "
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'w21 ' }}{% endif %}"
    )
    rows = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"].strip()}],
            "rejected": [{"role": "assistant", "content": row["rejected"].strip()}],
        }
        for row in pair_rows(8)
    ]
    arguments = {"processing_class": tokenizer, "train_dataset": Dataset.from_list(rows)}
    theirs = trl.DPOTrainer(str(base), args=trl.DPOConfig(str(tmp_path / "a"), **PREFERENCE), **arguments)
    ours = PreferenceTrainer(str(base), args=config(tmp_path / "b"), **arguments)
    wanted = [
        (tuple(r["prompt_ids"]), (tuple(r["chosen_ids"]), tuple(r["rejected_ids"]))) for r in theirs.train_dataset
    ]
    assert [(tree.prompt, tree.completions) for tree in ours.objective.trees] == wanted
    whole = [{"chosen": r["prompt"] + r["chosen"], "rejected": r["prompt"] + r["rejected"]} for r in rows]
    again = PreferenceTrainer(str(base), args=config(tmp_path / "c"), train_dataset=whole, processing_class=tokenizer)
    assert again.objective.trees == ours.objective.trees


def test_texts_share_their_prompt_as_trl_finds_it(base: Path, tmp_path: Path) -> None:
    rows = [{"chosen": r["prompt"] + r["chosen"], "rejected": r["prompt"] + r["rejected"]} for r in pair_rows(6)]
    ours = PreferenceTrainer(str(base), args=config(tmp_path), train_dataset=rows)
    found = [trl.data_utils.extract_prompt(row) for row in rows]
    assert {row["prompt"][-2:] for row in found} == {" w"}  # even half a word, which our reading follows
    plain = PreferenceTrainer(str(base), args=config(tmp_path), train_dataset=found)
    assert ours.objective.trees == plain.objective.trees


def test_long_rows_are_cut_and_full_prompts_left_out_as_trl_does(base: Path, tmp_path: Path) -> None:
    rows = pair_rows(12)
    data = Dataset.from_list(rows)
    theirs = trl.DPOTrainer(
        str(base), args=trl.DPOConfig(str(tmp_path / "a"), max_length=7, **PREFERENCE), train_dataset=data,
        processing_class=word_tokenizer(),
    )  # fmt: skip
    ours = PreferenceTrainer(str(base), args=config(tmp_path / "b", max_length=7), train_dataset=data)
    wanted = [
        Tree(
            tuple(r["prompt_ids"]),
            tuple(tuple(r[k][: 7 - len(r["prompt_ids"])]) for k in ("chosen_ids", "rejected_ids")),
        )
        for r in theirs.train_dataset
    ]
    assert 0 < len(wanted) < 12
    assert ours.objective.trees == wanted


def test_an_adapter_trains_beside_its_frozen_reference(base: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    lora = LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM")
    trainer = trained(base, tmp_path / "a", peft_config=lora, learning_rate=0.05)
    assert history(trainer)[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert history(trainer)[-1]["loss"] < 0.66
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    with trainer.model.disable_adapter():
        found = trainer.model.get_base_model().state_dict()
    layer = "model.layers.0.self_attn.q_proj"
    assert torch.equal(found[f"{layer}.base_layer.weight"], before[f"{layer}.weight"])
    trainer.save_model(str(tmp_path / "adapter"))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    assert trainer.evaluate(pair_rows(6))["eval_loss"] < 0.66  # the reference is still there: the adapter off
    theirs = Ordered(
        str(base), args=trl.DPOConfig(str(tmp_path / "b"), **{**PREFERENCE, "learning_rate": 0.05}), peft_config=lora,
        train_dataset=Dataset.from_list(pair_rows()), processing_class=word_tokenizer(),
    )  # fmt: skip
    theirs.train()
    assert_same(history(trainer), history(theirs))


def test_another_reference_is_scored_once_and_let_go(base: Path, tmp_path: Path) -> None:
    other = write_base(tmp_path / "other", seed=1)
    trainer = trained(base, tmp_path / "a", ref_model=str(other))
    theirs = Ordered(
        str(base), AutoModelForCausalLM.from_pretrained(other), args=trl.DPOConfig(str(tmp_path / "b"), **PREFERENCE),
        train_dataset=Dataset.from_list(pair_rows()), processing_class=word_tokenizer(),
    )  # fmt: skip
    theirs.train()
    assert abs(history(trainer)[0]["loss"] - math.log(2)) > 1e-3
    assert_same(history(trainer), history(theirs))
    assert trainer._reference.other is None
    with pytest.raises(RecipeError, match="reference is gone"):
        trainer.evaluate(pair_rows(4))


def test_bf16_errs_at_most_half_as_much_again_as_trl(tmp_path: Path) -> None:
    """Root mean square of the losses' differences from fp32 over 16 steps, at a rate that leaves both near fp32."""
    base = write_base(tmp_path / "base", hidden_size=64, intermediate_size=128)
    options = {**PREFERENCE, "learning_rate": 1e-3, "num_train_epochs": 4, "per_device_train_batch_size": 8}
    losses = {}
    for kind in (Ordered, PreferenceTrainer):
        for bf16 in (False, True):
            arguments = {**options, "bf16": bf16, "output_dir": str(tmp_path / f"{kind.__name__}{bf16}")}
            trainer = kind(
                model=str(base), args=trl.DPOConfig(**arguments), train_dataset=Dataset.from_list(pair_rows(32)),
                processing_class=word_tokenizer(),
            )  # fmt: skip
            trainer.train()
            losses[kind, bf16] = torch.tensor([entry["loss"] for entry in history(trainer)], dtype=torch.float64)
    errors = {
        kind: (losses[kind, True] - losses[kind, False]).pow(2).mean().sqrt() for kind in (Ordered, PreferenceTrainer)
    }
    assert errors[PreferenceTrainer] > 0
    assert errors[PreferenceTrainer] <= 1.5 * errors[Ordered]


def test_what_is_not_done_is_refused(base: Path, tmp_path: Path) -> None:
    for options in (
        {"loss_type": ["hinge"]},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.1]},
        {"sync_ref_model": True},
        {"f_divergence_type": "js_divergence"},
        {"ld_alpha": 0.5},
        {"use_weighting": True},
        {"label_smoothing": 0.1},
        {"activation_offloading": True},
        {"router_aux_loss_coef": 0.1},
        {"label_smoothing_factor": 0.1},
        {"auto_find_batch_size": True},
        {"neftune_noise_alpha": 5.0},
        {"train_sampling_strategy": "batch_rebalance"},
    ):
        (name, *_) = options
        arguments = trl.DPOConfig(str(tmp_path), **{**PREFERENCE, **options})
        with pytest.raises(RecipeError) as caught:
            PreferenceTrainer(str(base), args=arguments, train_dataset=pair_rows(4))
        assert caught.value.where == f"args.{name}"
    kto = trl.KTOConfig(str(tmp_path), **PREFERENCE, loss_type="apo_zero_unpaired")
    with pytest.raises(RecipeError, match="no such loss"):
        PreferenceTrainer(str(base), args=kto, train_dataset=labelled_rows(4))
    with pytest.raises(RecipeError, match="not taken"):
        PreferenceTrainer(str(base), args=config(tmp_path), train_dataset=pair_rows(4), compute_metrics=print)
    with pytest.raises(RecipeError, match="no arguments"):
        PreferenceTrainer(str(base), args={"beta": 0.1}, train_dataset=pair_rows(4))
    model = AutoModelForCausalLM.from_pretrained(base)
    with pytest.raises(ModelError, match="very model"):
        PreferenceTrainer(model, model, args=config(tmp_path), train_dataset=pair_rows(4))
    with pytest.raises(MachineError, match="bitsandbytes"):
        PreferenceTrainer(str(base), args=config(tmp_path, optim="paged_adamw_8bit"), train_dataset=pair_rows(4))


def test_what_trl_computes_otherwise_is_accepted(base: Path, tmp_path: Path) -> None:
    """Flags that say how TRL does what is always done here; the object that was given is left as it was."""
    options = {"precompute_ref_log_probs": True, "precompute_ref_batch_size": 2, "dataset_num_proc": 1}
    arguments = trl.DPOConfig(str(tmp_path), **PREFERENCE, **options, pad_to_multiple_of=8)
    before = dataclasses.replace(arguments).to_dict()
    trainer = PreferenceTrainer(str(base), args=arguments, train_dataset=pair_rows(4))
    assert arguments.to_dict() == before
    assert trainer.config.beta == 0.5
    plain = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    assert PreferenceTrainer(str(base), args=plain, train_dataset=pair_rows(4)).config.algorithm == "dpo"
