"""PreferenceTrainer by itself: where it starts, what it keeps, resumes and refuses."""

from __future__ import annotations

import math
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from align_toys import (
    config,
    history,
    job,
    labelled_rows,
    pair_rows,
    step,
    toy_pairs,
    trained,
    word_tokenizer,
    write_base,
)
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerCallback

import sacpo.align.objectives.kto as kto_module
from sacpo import PreferenceConfig, PreferenceTrainer
from sacpo.align.engine import checkpoints
from sacpo.align.step import run_align
from sacpo.errors import DataError, ModelError, RecipeError, RunError
from sacpo.models.loading import load_model
from sacpo.recipe.schema import LoraSpec
from sacpo.system.progress import Progress
from sacpo.trl.start import tensors_key


def test_the_pages_example_runs(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "trl.md").read_text(encoding="utf-8")
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


def test_a_checkpoint_with_other_groups_of_weights_is_refused(base: Path, tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 3}
    trained(base, tmp_path, **options)
    other = config(tmp_path, head_learning_rate=1e-3, **options)
    again = PreferenceTrainer(str(base), args=other, train_dataset=pair_rows())
    with pytest.raises(RunError, match=r"(?s)other groups of weights.*checkpoint-3.*head_learning_rate"):
        again.train(resume_from_checkpoint=True)


def test_the_reference_is_computed_once_and_found_again(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under output_dir by default, where another strength and an equal model object find it; in memory for ""."""
    import sacpo.align.reference.cached as module

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


def test_rows_that_come_after_the_training_have_no_reference(base: Path, tmp_path: Path) -> None:
    trainer = trained(base, tmp_path, eval_dataset={"a": pair_rows(5), "b": pair_rows(3)}, eval_strategy="epoch")
    assert len([e for e in trainer.state.log_history if "eval_b_loss" in e]) == 2
    found = trainer.evaluate()
    assert {"eval_a_loss", "eval_b_rewards/margins"} <= found.keys()
    trained_on = [entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry]
    assert found["eval_a_num_tokens"] == trained_on[-1] > 0  # as TRL's: those of the training so far
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


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "no rows"),
        ("rows.jsonl", "load it: datasets.load_dataset"),
        (iter(pair_rows(2)), "without streaming"),
        ({"train": pair_rows(2)}, "choose one of its splits: train"),
        ([pair_rows(1)[0], labelled_rows(1)[0]], "mixed"),
        ([{"prompt": "w1", "chosen": "w2"}], "no column 'rejected'"),
        ([{"prompt": "w1", "response_0": "w2", "response_1": "w3"}], "prompt, chosen, rejected \\(pairs\\)"),
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


def test_references_of_one_output_folder_do_not_share_their_log_probs(base: Path, tmp_path: Path) -> None:
    """The policy is the same folder each time; none, one and another reference give three caches."""
    others = {name: write_base(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 2))}

    def reference(ref_model: str | None) -> torch.Tensor:
        arguments = {"args": config(tmp_path / "out"), "train_dataset": pair_rows()}
        return PreferenceTrainer(str(base), ref_model, **arguments).objective.reference

    found = [reference(None), *(reference(str(other)) for other in others.values())]
    assert len(list((tmp_path / "out" / "reference_logps").iterdir())) == 3
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])
    assert torch.equal(reference(str(others["a"])), found[1])


def test_a_given_model_is_known_by_its_weights_and_not_by_a_folder_beside_it(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path / "policy", seed=5)
    keys = set()
    for seed in (1, 2):
        model = AutoModelForCausalLM.from_pretrained(write_base(tmp_path / f"m{seed}", seed=seed))
        PreferenceTrainer(model, args=config(tmp_path / "out"), train_dataset=pair_rows())
        keys |= set((tmp_path / "out" / "reference_logps").iterdir())
    assert len(keys) == 2


def test_adapters_that_differ_in_scale_alone_have_other_keys(base: Path) -> None:
    keys = []
    for alpha in (8, 16):
        lora = LoraConfig(r=4, lora_alpha=alpha, task_type="CAUSAL_LM", init_lora_weights=False)
        torch.manual_seed(0)
        keys.append(tensors_key(get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)))
    assert keys[0] != keys[1]


def test_a_folder_of_adapters_is_merged_and_trained(base: Path, tmp_path: Path) -> None:
    """Step 1's adapter counts; on top of it peft_config is refused, because peft would turn it off."""
    run_align(job(base, lora=LoraSpec(r=4, lora_alpha=32)), step(), 0.5, toy_pairs(48), tmp_path / "H", tmp_path / "c")
    folder, ids = tmp_path / "H" / "model", torch.tensor([[5, 6, 7, 8]])
    trainer = PreferenceTrainer(str(folder), args=config(tmp_path / "o"), train_dataset=pair_rows())
    expected = load_model(folder)(ids).logits
    torch.testing.assert_close(trainer.policy.eval()(ids).logits, expected)
    assert not torch.allclose(expected, load_model(base)(ids).logits, atol=1e-3)
    trainer.train()
    assert history(trainer)[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert history(trainer)[-1]["loss"] < 0.65
    lora = LoraConfig(r=2, task_type="CAUSAL_LM")
    with pytest.raises(RecipeError, match="has an adapter already"):
        PreferenceTrainer(str(folder), args=config(tmp_path / "p"), train_dataset=pair_rows(), peft_config=lora)


def test_a_reference_keeps_its_own_adapter_beside_a_new_one(base: Path, tmp_path: Path) -> None:
    lora = LoraConfig(r=4, task_type="CAUSAL_LM", init_lora_weights=False)
    reference = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
    found = []
    for name, new in (("a", None), ("b", LoraConfig(r=2, task_type="CAUSAL_LM"))):
        arguments = {"args": config(tmp_path / name, reference_cache=""), "train_dataset": pair_rows()}
        trainer = PreferenceTrainer(str(base), reference, peft_config=new, **arguments)
        found.append(trainer.objective.reference)
    torch.testing.assert_close(found[0], found[1])
    alone = PreferenceTrainer(str(base), args=config(tmp_path / "c"), train_dataset=pair_rows())
    assert not torch.allclose(found[0], alone.objective.reference, atol=1e-2)


def test_trained_biases_leave_no_reference_behind(base: Path, tmp_path: Path) -> None:
    neox = write_base(tmp_path / "neox", model_type="gpt_neox")
    lora = LoraConfig(r=2, bias="lora_only", task_type="CAUSAL_LM")
    trainer = trained(neox, tmp_path / "out", peft_config=lora)
    with pytest.raises(RecipeError, match="reference is gone"):
        trainer.evaluate(pair_rows(30)[18:])


def test_a_second_training_in_one_folder_replaces_the_first_ones_checkpoints(base: Path, tmp_path: Path) -> None:
    """Steps of the same number are replaced; later ones, of the longer training, are set aside or counted as oldest."""
    options = {"save_strategy": "steps", "save_steps": 5}
    trained(base, tmp_path, num_train_epochs=4, **options)  # 20 steps
    short = trained(base, tmp_path, num_train_epochs=1, learning_rate=1e-3, **options)
    names = {path.name for path in tmp_path.glob("*checkpoint-*")}
    assert names == {"checkpoint-5", *(f"superseded-checkpoint-{step}" for step in (10, 15, 20))}
    found = load_file(tmp_path / "checkpoint-5" / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in short.model.state_dict().items())
    assert checkpoints.newest(tmp_path) == tmp_path / "checkpoint-5"
    trained(base, tmp_path / "b", num_train_epochs=4, **options)
    trained(base, tmp_path / "b", num_train_epochs=1, save_total_limit=1, **options)
    assert {path.name for path in (tmp_path / "b").glob("*checkpoint-*")} == {"checkpoint-5"}


def test_an_adapter_of_any_name_trains_on_after_a_resume(base: Path, tmp_path: Path) -> None:
    def made(epochs: int) -> PreferenceTrainer:
        torch.manual_seed(0)
        lora = LoraConfig(r=2, task_type="CAUSAL_LM")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora, "policy")
        options = {
            "save_strategy": "steps",
            "save_steps": 5,
            "num_train_epochs": epochs,
            "lr_scheduler_type": "constant",
        }
        return PreferenceTrainer(
            model, args=config(tmp_path / str(epochs), **options), train_dataset=pair_rows(),
            processing_class=word_tokenizer(),
        )  # fmt: skip

    first, whole, again = made(1), made(2), made(2)
    first.train()
    whole.train()
    again.train(resume_from_checkpoint=str(tmp_path / "1" / "checkpoint-5"))
    for (name, tensor), other in zip(whole.model.named_parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(other, tensor, rtol=0, atol=1e-6, msg=name)
        assert other.requires_grad == ("lora_" in name)


def test_a_training_goes_on_when_train_is_called_again(base: Path, tmp_path: Path) -> None:
    trainer = trained(base, tmp_path)
    before = history(trainer)[-1]["loss"]
    trainer.train()
    assert history(trainer)[-1]["loss"] < before


def test_kto_runs_where_the_model_itself_was_told_to_checkpoint(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kto_module, "LONG_PROMPT", 0)
    losses = []
    for checkpointing in (False, True):
        model = AutoModelForCausalLM.from_pretrained(base)
        if checkpointing:
            model.gradient_checkpointing_enable()
        trainer = PreferenceTrainer(
            model, args=config(tmp_path, algorithm="kto"), train_dataset=labelled_rows(),
            processing_class=word_tokenizer(),
        )  # fmt: skip
        assert (trainer.objective.continuing is None) == checkpointing
        trainer.train()
        losses.append([entry["loss"] for entry in history(trainer)])
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)


def test_kto_evaluates_rows_of_one_label_with_the_trainings_weights(base: Path, tmp_path: Path) -> None:
    """24 desirable, 12 undesirable: w+ = 1/2 balances them, on held-out rows too."""
    rows = labelled_rows(36)
    good = [row for row in rows if row["label"]]
    options = {"algorithm": "kto", "desirable_weight": "balanced", "learning_rate": 0.0}
    trainer = trained(base, tmp_path, rows, eval_dataset=good[:8], **options)
    assert trainer.eval_objectives[""].weights == trainer.objective.weights == (0.5, 1.0)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(0.25, abs=1e-5)  # w+ (1 - sigmoid(0))


def test_chats_that_part_before_their_last_turn_are_left_out(base: Path, tmp_path: Path) -> None:
    progress, tokenizer = Recorded(), word_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"

    def chat(*texts: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, texts, strict=False)]

    shared = {"chosen": chat("w3", "w4"), "rejected": chat("w3", "w5")}
    parted = {"chosen": chat("w3", "w4", "w6", "w7"), "rejected": chat("w3", "w5", "w6", "w8")}
    given = {"args": config(tmp_path), "processing_class": tokenizer, "progress": progress}
    trainer = PreferenceTrainer(str(base), train_dataset=[shared, parted, shared], **given)
    assert len(trainer.objective.ids) == 2
    assert "do not share their prompt': 1" in " ".join(progress.notices)
    with pytest.raises(DataError, match="no rows to use"):
        PreferenceTrainer(str(base), train_dataset=[parted], **given)


def test_chats_without_a_chat_template_are_refused_in_the_trainers_words(base: Path, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "w3"}, {"role": "assistant", "content": "w4"}]
    row = {"chosen": chat, "rejected": [chat[0], {"role": "assistant", "content": "w5"}]}
    with pytest.raises(ModelError, match=r"tokenizer\.chat_template = ") as caught:
        PreferenceTrainer(str(base), train_dataset=[row], args=config(tmp_path), processing_class=word_tokenizer())
    assert "train_dataset, processing_class" in str(caught.value) and "--base" not in str(caught.value)


class Recorded(Progress):
    """A progress that keeps its notices."""

    def __init__(self) -> None:
        super().__init__()
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_a_cpu_trains_in_float32_unless_asked(tmp_path: Path) -> None:
    assert PreferenceConfig(str(tmp_path), use_cpu=True).bf16 is False
    assert PreferenceConfig(str(tmp_path), use_cpu=True, bf16=True).bf16 is True


def test_virtual_tokens_are_refused(base: Path, tmp_path: Path) -> None:
    from peft import PromptTuningConfig

    virtual = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(ModelError, match="virtual tokens"):
        trained(base, tmp_path, peft_config=virtual)


def test_no_float_goes_on_dropping(tmp_path: Path) -> None:
    """OPT keeps its probabilities as numbers of its layers, not in nn.Dropout."""
    wet = write_base(tmp_path / "wet", model_type="opt", ffn_dim=32, word_embed_proj_dim=16, dropout=0.4,
                     attention_dropout=0.4)  # fmt: skip
    trainer = trained(wet, tmp_path / "a")
    assert history(trainer)[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert abs(history(trained(wet, tmp_path / "b", disable_dropout=False))[0]["loss"] - math.log(2)) > 1e-3


def test_a_model_of_which_nothing_can_be_trained_is_refused(base: Path, tmp_path: Path) -> None:
    """As peft loads an adapter by default: frozen."""
    lora = LoraConfig(r=2, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(tmp_path / "adapter")
    given = {"args": config(tmp_path / "o"), "train_dataset": pair_rows(), "processing_class": word_tokenizer()}

    def loaded(trainable: bool) -> PeftModel:
        model = AutoModelForCausalLM.from_pretrained(base)
        return PeftModel.from_pretrained(model, tmp_path / "adapter", is_trainable=trainable)

    with pytest.raises(ModelError, match="is_trainable=True"):
        PreferenceTrainer(loaded(False), **given)
    trainer = PreferenceTrainer(loaded(True), **given)
    trainer.train()
    assert history(trainer)[-1]["grad_norm"] > 0


def test_a_model_without_a_name_needs_its_tokenizer(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.config._name_or_path = ""
    with pytest.raises(ModelError, match="give the tokenizer"):
        PreferenceTrainer(model, args=config(tmp_path), train_dataset=pair_rows())


def test_a_configuration_that_peft_refuses_is_an_error_of_ours(base: Path, tmp_path: Path) -> None:
    lora = LoraConfig(r=2, target_modules=["query"], task_type="CAUSAL_LM")
    with pytest.raises(RecipeError, match="peft refuses"):
        trained(base, tmp_path, peft_config=lora)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_an_adapter_that_changes_its_base_starts_at_the_original_model(start: str, base: Path, tmp_path: Path) -> None:
    """With the adapter off the base lacks its first factors; the reference is the model as it was, and so is ln 2."""
    plain = PreferenceTrainer(str(base), args=config(tmp_path / "p", reference_cache=""), train_dataset=pair_rows())
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=start)
    trainer = trained(base, tmp_path / "a", peft_config=lora, reference_cache="")
    torch.testing.assert_close(trainer.objective.reference, plain.objective.reference, atol=1e-4, rtol=1e-5)
    assert history(trainer)[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert history(trainer)[-1]["loss"] < history(trainer)[0]["loss"]
    trainer.save_model(str(tmp_path / "saved"))
    ids = torch.tensor([[5, 6, 7, 8]])
    found, wanted = load_model(tmp_path / "saved")(ids).logits, trainer.policy.eval()(ids).logits
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(wanted, load_model(base)(ids).logits, atol=1e-3)
    with pytest.raises(RecipeError, match="reference is gone"):
        trainer.evaluate(pair_rows(30)[18:])


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"init_lora_weights": False}, "init_lora_weights"),
        ({"lora_dropout": 1.0}, "lora_dropout"),
        ({"modules_to_save": ["score"]}, "modules_to_save"),
        ({"target_modules": ["q_proj", "query"]}, "target_modules"),
        ({"rank_pattern": {"query": 3}}, "rank_pattern"),
        ({"alpha_pattern": {"layers.7.q_proj": 3}}, "alpha_pattern"),
    ],
)
def test_what_peft_would_ignore_of_an_adapter_is_refused(
    options: dict[str, Any], where: str, base: Path, tmp_path: Path
) -> None:
    lora = LoraConfig(r=2, task_type="CAUSAL_LM", **{"target_modules": ["q_proj"], **options})
    with pytest.raises(RecipeError, match=rf"where: +peft_config.{where}\n"):
        PreferenceTrainer(str(base), args=config(tmp_path), train_dataset=pair_rows(), peft_config=lora)


def test_an_invalid_expression_of_modules_is_an_error_of_ours(base: Path, tmp_path: Path) -> None:
    for options in ({"target_modules": "(["}, {"target_modules": ["q_proj"], "rank_pattern": {"([": 2}}):
        lora = LoraConfig(r=2, task_type="CAUSAL_LM", **options)  # type: ignore[arg-type]
        with pytest.raises(RecipeError, match="peft refuses"):
            PreferenceTrainer(str(base), args=config(tmp_path), train_dataset=pair_rows(), peft_config=lora)
