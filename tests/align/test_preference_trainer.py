"""PreferenceTrainer beside TRL's own trainers: the same losses and metric names, step by step, from the same calls."""

from __future__ import annotations

import dataclasses
import math
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from align_toys import toy_pairs, word_tokenizer, write_base
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerCallback, TrainingArguments

import sacpo.align.step as step_module
from sacpo import PreferenceConfig, PreferenceTrainer
from sacpo.align import checkpoints
from sacpo.align.order import EpochShuffle
from sacpo.data.rows import Tree
from sacpo.errors import DataError, MachineError, ModelError, RecipeError, RunError

trl = pytest.importorskip("trl", reason="TRL is not installed")

COMMON: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "num_train_epochs": 2,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "seed": 3,
    "beta": 0.5,
}
TRL_ONLY = {"total_flos"}


def pair_rows(n: int = 18) -> list[dict[str, Any]]:
    return [
        {"prompt": pair.prompt.text, "chosen": f" {pair.chosen}", "rejected": f" {pair.rejected}"}
        for pair in toy_pairs(n)
    ]


def labelled_rows(n: int = 18) -> list[dict[str, Any]]:
    rows = pair_rows(n)
    return [
        {"prompt": row["prompt"], "completion": row["rejected" if i % 3 == 1 else "chosen"], "label": i % 3 != 1}
        for i, row in enumerate(rows)
    ]


def config(folder: Path, **options: Any) -> PreferenceConfig:
    return PreferenceConfig(output_dir=str(folder), **{**COMMON, **options})


def history(trainer: Any) -> list[dict[str, float]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def trained(base: Path, folder: Path, rows: Any = None, **options: Any) -> PreferenceTrainer:
    given = {name: options.pop(name) for name in ("peft_config", "ref_model", "eval_dataset") if name in options}
    trainer = PreferenceTrainer(str(base), args=config(folder, **options), train_dataset=rows or pair_rows(), **given)
    trainer.train()
    return trainer


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


def test_dpo_equals_trl_step_by_step(base: Path, tmp_path: Path) -> None:
    """The same DPOConfig for both, 18 pairs in batches of 4 over two epochs: 10 steps, the last of an epoch short."""
    runs = []
    for kind in (Ordered, PreferenceTrainer):
        trainer = kind(
            model=str(base),
            args=trl.DPOConfig(output_dir=str(tmp_path / kind.__name__), **COMMON),
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
    assert math.isclose(history(ours)[0]["loss"], math.log(2), abs_tol=1e-6)
    assert history(ours)[-1]["loss"] < 0.6
    assert ours._reference.chosen.name == "flat"


@pytest.mark.parametrize("long_prompt", [0, 1000])
def test_kto_equals_trl_step_by_step(
    long_prompt: int, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequential batches in both. TRL's own mismatches are replaced by the seeded ones, which the reference holds.

    Ours are scored behind the batch's own prompts, or in rows of their own.
    """
    monkeypatch.setattr(step_module, "LONG_PROMPT", long_prompt)
    arguments = {"train_sampling_strategy": "sequential", "desirable_weight": 1.5, "undesirable_weight": 0.7}
    arguments["gradient_checkpointing"] = long_prompt > 0  # TRL's default, which keeps no keys and values
    made: dict[str, Any] = {}
    for name, kind in (("ours", PreferenceTrainer), ("theirs", trl.KTOTrainer)):
        made[name] = kind(
            model=str(base),
            args=trl.KTOConfig(output_dir=str(tmp_path / name), **COMMON, **arguments),
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


def test_the_readmes_example_runs(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"## Use it instead of TRL's DPOTrainer.*?```python\n(.*?)```", text, re.S)
    assert len(code.strip().splitlines()) <= 12
    monkeypatch.chdir(tmp_path)
    code = code.replace("Qwen/Qwen2.5-0.5B-Instruct", str(base)).replace("trl-lib/ultrafeedback_binarized", "rows")
    loader = "def load_dataset(name, split):\n    return Dataset.from_list(ROWS)\n"
    code = re.sub(r"from datasets import load_dataset\n", loader, code)
    names: dict[str, Any] = {"ROWS": pair_rows(12), "Dataset": Dataset}
    exec(textwrap.dedent(code), names)
    assert (tmp_path / "out" / "model" / "model.safetensors").is_file()
    assert "rewards/accuracies" in names["trainer"].state.log_history[0]


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
    theirs = trl.DPOTrainer(str(base), args=trl.DPOConfig(str(tmp_path / "a"), **COMMON), **arguments)
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
        str(base), args=trl.DPOConfig(str(tmp_path / "a"), max_length=7, **COMMON), train_dataset=data,
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


def test_a_killed_training_resumes_bit_for_bit(base: Path, tmp_path: Path) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == 5

    options = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 2, "logging_steps": 3}
    whole = trained(base, tmp_path / "a", **options)
    part = PreferenceTrainer(
        str(base), args=config(tmp_path / "b", **options), train_dataset=pair_rows(), callbacks=[Stop()]
    )
    part.train()
    again = PreferenceTrainer(str(base), args=config(tmp_path / "b", **options), train_dataset=pair_rows())
    again.train(resume_from_checkpoint=True)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
    assert history(again) == history(whole)
    assert {p.name for p in (tmp_path / "b").glob("checkpoint-*")} == {"checkpoint-8", "checkpoint-10"}
    again.save_model(str(tmp_path / "model"))
    assert load_file(tmp_path / "model" / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()
    damaged = tmp_path / "b" / "checkpoint-10" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x01")
    with pytest.raises(RunError, match="corrupted"):
        again.train(resume_from_checkpoint=True)
    with pytest.raises(RunError, match="no checkpoint"):
        trained(base, tmp_path / "c").train(resume_from_checkpoint=True)


def test_the_reference_is_computed_once_and_found_again(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under output_dir by default, where another strength and an equal model object find it; in memory for ""."""
    import sacpo.align.reference as module

    calls = []
    real = module.score_all
    monkeypatch.setattr(module, "score_all", lambda *args, **options: calls.append(1) or real(*args, **options))
    trained(base, tmp_path / "a")
    trained(base, tmp_path / "a", beta=0.1)
    assert len(calls) == 1
    assert len(list((tmp_path / "a" / "reference_logps").iterdir())) == 1
    for _ in range(2):
        model = AutoModelForCausalLM.from_pretrained(base)
        PreferenceTrainer(
            model, args=config(tmp_path / "b"), train_dataset=pair_rows(), processing_class=word_tokenizer()
        )
    assert len(calls) == 2
    trained(base, tmp_path / "c", reference_cache="")
    assert len(calls) == 3
    assert not (tmp_path / "c" / "reference_logps").exists()


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
        str(base), args=trl.DPOConfig(str(tmp_path / "b"), **{**COMMON, "learning_rate": 0.05}), peft_config=lora,
        train_dataset=Dataset.from_list(pair_rows()), processing_class=word_tokenizer(),
    )  # fmt: skip
    theirs.train()
    assert_same(history(trainer), history(theirs))


def test_another_reference_is_scored_once_and_let_go(base: Path, tmp_path: Path) -> None:
    other = write_base(tmp_path / "other", seed=1)
    trainer = trained(base, tmp_path / "a", ref_model=str(other))
    theirs = Ordered(
        str(base), AutoModelForCausalLM.from_pretrained(other), args=trl.DPOConfig(str(tmp_path / "b"), **COMMON),
        train_dataset=Dataset.from_list(pair_rows()), processing_class=word_tokenizer(),
    )  # fmt: skip
    theirs.train()
    assert abs(history(trainer)[0]["loss"] - math.log(2)) > 1e-3
    assert_same(history(trainer), history(theirs))
    assert trainer._reference.other is None
    with pytest.raises(RecipeError, match="reference is gone"):
        trainer.evaluate(pair_rows(4))


def test_rows_that_come_after_the_training_have_no_reference(base: Path, tmp_path: Path) -> None:
    trainer = trained(base, tmp_path, eval_dataset={"a": pair_rows(5), "b": pair_rows(3)}, eval_strategy="epoch")
    assert len([e for e in trainer.state.log_history if "eval_b_loss" in e]) == 2
    assert {"eval_a_loss", "eval_b_rewards/margins"} <= trainer.evaluate().keys()
    with pytest.raises(RecipeError, match="reference is gone"):
        trainer.evaluate(pair_rows(4))


def test_evaluation_counts_every_record_once(base: Path, tmp_path: Path) -> None:
    """5 records in batches of 2 are the mean over 5, not over batches: the same as in one batch."""
    losses = [
        trained(base, tmp_path / f"{size}", eval_dataset=pair_rows(5), per_device_eval_batch_size=size).evaluate()
        for size in (2, 5)
    ]
    assert losses[0]["eval_loss"] == pytest.approx(losses[1]["eval_loss"], abs=1e-6)


def test_soft_labels_come_from_the_column_p(base: Path, tmp_path: Path) -> None:
    """p = .5 everywhere pulls nowhere: the loss stays ln 2; rounded labels leave ties out."""
    rows = [{**row, "p": 0.5} for row in pair_rows(8)]
    trainer = trained(base, tmp_path, rows)
    assert history(trainer)[-1]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    with pytest.raises(DataError, match="no records"):
        trained(base, tmp_path, rows, soft_labels=False)


def test_padding_side_changes_nothing(base: Path, tmp_path: Path) -> None:
    logs = []
    for side in ("left", "right"):
        tokenizer = word_tokenizer()
        tokenizer.padding_side = side
        for layout in ("packed", "padded"):
            trainer = PreferenceTrainer(
                str(base), args=config(tmp_path / side / layout, layout=layout), train_dataset=pair_rows(),
                processing_class=tokenizer,
            )  # fmt: skip
            trainer.train()
            logs.append([entry["loss"] for entry in history(trainer)])
    for other in logs[1:]:
        assert other == pytest.approx(logs[0], abs=1e-5)


def test_dropout_acts_in_the_training_and_never_in_the_reference(tmp_path: Path) -> None:
    """With dropout .4 the first loss is not ln 2 although the start check, without dropout, has passed."""
    wet = write_base(tmp_path / "wet", model_type="gpt2", n_embd=16, n_layer=2, n_head=2, n_positions=64,
                     resid_pdrop=0.4, embd_pdrop=0.4, attn_pdrop=0.4)  # fmt: skip
    on = trained(wet, tmp_path / "a", disable_dropout=False)
    off = trained(wet, tmp_path / "b")
    assert abs(history(on)[0]["loss"] - math.log(2)) > 1e-3
    assert history(off)[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert torch.equal(on.objective.reference, off.objective.reference)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_loss_and_no_weight(reentrant: bool, base: Path, tmp_path: Path) -> None:
    plain = trained(base, tmp_path / "a")
    options = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": reentrant}}
    saved = trained(base, tmp_path / "b", **options)
    assert [e["loss"] for e in history(saved)] == pytest.approx([e["loss"] for e in history(plain)], abs=1e-6)
    for name, tensor in plain.model.state_dict().items():
        torch.testing.assert_close(saved.model.state_dict()[name], tensor, rtol=0, atol=1e-6)


def test_bf16_errs_at_most_half_as_much_again_as_trl(tmp_path: Path) -> None:
    """Root mean square of the losses' differences from fp32 over 16 steps, at a rate that leaves both near fp32."""
    base = write_base(tmp_path / "base", hidden_size=64, intermediate_size=128)
    options = {**COMMON, "learning_rate": 1e-3, "num_train_epochs": 4, "per_device_train_batch_size": 8}
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
        {"loss_type": ["ipo"]},
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
        arguments = trl.DPOConfig(str(tmp_path), **{**COMMON, **options})
        with pytest.raises(RecipeError) as caught:
            PreferenceTrainer(str(base), args=arguments, train_dataset=pair_rows(4))
        assert caught.value.where == f"args.{name}"
    kto = trl.KTOConfig(str(tmp_path), **COMMON, loss_type="apo_zero_unpaired")
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
    arguments = trl.DPOConfig(str(tmp_path), **COMMON, **options, pad_to_multiple_of=8)
    before = dataclasses.replace(arguments).to_dict()
    trainer = PreferenceTrainer(str(base), args=arguments, train_dataset=pair_rows(4))
    assert arguments.to_dict() == before
    assert trainer.config.beta == 0.5
    plain = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    assert PreferenceTrainer(str(base), args=plain, train_dataset=pair_rows(4)).config.algorithm == "dpo"


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "no rows"),
        ("rows.jsonl", "cannot be counted"),
        (iter(pair_rows(2)), "cannot be counted"),
        ([pair_rows(1)[0], labelled_rows(1)[0]], "mixed"),
        ([{"prompt": "w1", "chosen": "w2"}], "no column 'rejected'"),
        ([{**pair_rows(1)[0], "image": 1}], "images are not"),
        ([{**pair_rows(1)[0], "tools": "[]"}], "tools are not"),
        (labelled_rows(4), "DPO cannot learn"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(rows: Any, match: str, base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=match):
        PreferenceTrainer(str(base), args=config(tmp_path), train_dataset=rows)


@pytest.mark.slow
def test_a_compiled_model_has_the_same_losses(base: Path, tmp_path: Path) -> None:
    """Packed rows of several sizes through inductor, forward and backward."""
    plain = trained(base, tmp_path / "a")
    compiled = trained(base, tmp_path / "b", torch_compile=True)
    assert compiled.policy.model._compiled_call_impl is not None
    assert [e["loss"] for e in history(compiled)] == pytest.approx([e["loss"] for e in history(plain)], abs=1e-4)
    assert checkpoints.newest(tmp_path / "b") is None
