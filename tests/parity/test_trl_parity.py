"""Losses, log-probs and gradients of one batch against TRL's own trainers.

The texts go through TRL's tokenising, collator and `compute_loss`; ours start from the token ids of TRL's data set.
All reference values are TRL's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_models import VOCABULARY, tiny
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sacpo.data.packing import packed_rows, padded_rows
from sacpo.data.rows import Rows, Tree
from sacpo.losses.dpo import dpo_loss
from sacpo.losses.ipo import ipo_loss
from sacpo.losses.kto import kl_estimate, kto_loss
from sacpo.losses.logps import completion_logps
from sacpo.losses.robust import unbiased

trl = pytest.importorskip("trl", reason="TRL is not installed")

WORDS = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{i}" for i in range(VOCABULARY - 4))]
PAD = WORDS.index("<pad>")
BETA = 0.3
ARCHITECTURES = [
    "llama",
    "qwen2",
    "gpt_neox",
    "gpt2",
    "opt",
    "mistral",
    "gemma2",
    "granite",
    "cohere",
    "phi3",
    "stablelm",
]
LAYOUTS: dict[str, Callable[..., Rows]] = {"padded": padded_rows, "packed": packed_rows}


def words(*numbers: int) -> str:
    return "".join(f" w{number}" for number in numbers)


PAIRS = [
    {"prompt": "w1 w2 w3 w4 w5 w6 w7", "chosen": words(8, 9, 10, 11), "rejected": words(12)},
    {"prompt": "w3", "chosen": words(4, 5), "rejected": words(6, 7, 8, 9, 10, 11, 12)},
    {"prompt": "w20 w30 w40", "chosen": words(50), "rejected": words(51, 52)},
    {"prompt": "w3", "chosen": words(13, 14, 15), "rejected": words(4, 5)},
]
LABELLED = [
    {"prompt": "w1 w2 w3 w4 w5 w6 w7", "completion": words(8, 9, 10, 11), "label": True},
    {"prompt": "w3", "completion": words(4, 5), "label": False},
    {"prompt": "w20 w30 w40", "completion": words(50), "label": True},
    {"prompt": "w9 w8", "completion": words(13, 14, 15, 16, 17, 18), "label": False},
    {"prompt": "w5 w5 w6", "completion": words(19, 20), "label": True},
]


def tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def models(kind: str) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A policy and a reference that differ, so that no log-ratio is 0."""
    policy, reference = tiny(kind), tiny(kind)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return policy, reference


def options(folder: Path, **more: Any) -> dict[str, Any]:
    common = {"report_to": "none", "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "beta": BETA}
    return {"output_dir": str(folder), "per_device_train_batch_size": 8, "max_length": None, **common, **more}


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_same_gradients(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """To 1e-5 of the largest entry of all gradients, and to 1e-5."""
    assert ours.keys() == theirs.keys()
    size = max(gradient.abs().max().item() for gradient in theirs.values())
    assert size > 0.01
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).abs().max().item() <= 1e-5 * min(size, 1), name


def ids(row: dict[str, Any], *names: str) -> list[tuple[int, ...]]:
    return [tuple(row[name]) for name in names]


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_losses_of_pairs_equal_trls(kind: str, loss_type: str, tmp_path: Path) -> None:
    policy, reference = models(kind)
    trainer = trl.DPOTrainer(
        model=policy,
        ref_model=reference,
        args=trl.DPOConfig(**options(tmp_path, loss_type=[loss_type])),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=tokenizer(),
    )
    rows = list(trainer.train_dataset)
    batch = trainer.data_collator(rows)
    loss = trainer.compute_loss(policy, batch)
    first = {"sigmoid": math.log(2), "ipo": 1 / (4 * BETA**2)}[loss_type]
    assert abs(loss.item() - first) > 1e-3  # the policy has left the reference
    loss.backward()
    theirs = gradients(policy)
    chosen, rejected = trainer.compute_ref_log_probs(policy, batch)
    ref_chosen, ref_rejected = trainer.compute_ref_log_probs(reference, batch)
    metrics = {name: values[-1] for name, values in trainer._metrics["train" if policy.training else "eval"].items()}

    trees = [Tree(p, (c, r)) for p, c, r in (ids(row, "prompt_ids", "chosen_ids", "rejected_ids") for row in rows)]
    assert [len(tree.completions[0]) for tree in trees] == [5, 3, 2, 4]  # with the end-of-sequence token
    for lay in LAYOUTS.values():
        laid = lay(trees, pad_id=PAD)
        ours = completion_logps(policy, laid, chunk=5).view(-1, 2)
        with torch.no_grad():
            ref = completion_logps(reference, laid, chunk=5).view(-1, 2)
        for found, wanted in ((ours, (chosen, rejected)), (ref, (ref_chosen, ref_rejected))):
            assert torch.allclose(found, torch.stack(wanted, 1), rtol=1e-5, atol=1e-5)
        logps = (*ours.unbind(1), *ref.unbind(1))
        lengths = torch.tensor([[len(completion) for completion in tree.completions] for tree in trees])
        terms = ipo_loss(*logps, *lengths.unbind(1), beta=BETA) if loss_type == "ipo" else dpo_loss(*logps, beta=BETA)
        terms.losses.mean().backward()
        assert terms.losses.mean().item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
        assert terms.chosen_rewards.mean().item() == pytest.approx(metrics["rewards/chosen"], rel=1e-5, abs=1e-5)
        assert terms.rejected_rewards.mean().item() == pytest.approx(metrics["rewards/rejected"], rel=1e-5, abs=1e-5)
        assert_same_gradients(gradients(policy), theirs)


@pytest.mark.parametrize("smoothing", [0.1, 0.4])
def test_one_soft_label_for_all_is_trls_label_smoothing(smoothing: float, tmp_path: Path) -> None:
    """p = 1 - smoothing for all pairs. TRL's "aot" with one pair a batch is the sigmoid loss with label smoothing."""
    policy, reference = models("llama")
    trainer = trl.DPOTrainer(
        model=policy,
        ref_model=reference,
        args=trl.DPOConfig(**options(tmp_path, loss_type=["aot"], label_smoothing=smoothing)),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=tokenizer(),
    )
    for row in trainer.train_dataset:
        loss = trainer.compute_loss(policy, trainer.data_collator([row]))
        loss.backward()
        theirs = gradients(policy)
        prompt, chosen, rejected = ids(row, "prompt_ids", "chosen_ids", "rejected_ids")
        laid = packed_rows([Tree(prompt, (chosen, rejected))], pad_id=PAD)
        with torch.no_grad():
            ref = completion_logps(reference, laid).view(-1, 2)
        ours = completion_logps(policy, laid).view(-1, 2)
        terms = dpo_loss(*ours.unbind(1), *ref.unbind(1), beta=BETA, p=torch.tensor([1 - smoothing]))
        terms.losses.mean().backward()
        assert terms.losses.mean().item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
        assert_same_gradients(gradients(policy), theirs)


def test_robust_dpo_equals_trl(tmp_path: Path) -> None:
    policy, reference = models("llama")
    trainer = trl.DPOTrainer(
        model=policy,
        ref_model=reference,
        args=trl.DPOConfig(**options(tmp_path, loss_type=["robust"], label_smoothing=0.2)),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=tokenizer(),
    )
    rows = list(trainer.train_dataset)
    loss = trainer.compute_loss(policy, trainer.data_collator(rows))
    loss.backward()
    theirs = gradients(policy)
    trees = [Tree(p, (c, r)) for p, c, r in (ids(row, "prompt_ids", "chosen_ids", "rejected_ids") for row in rows)]
    laid = packed_rows(trees, pad_id=PAD)
    with torch.no_grad():
        ref = completion_logps(reference, laid).view(-1, 2)
    ours = completion_logps(policy, laid).view(-1, 2)
    p = unbiased(torch.ones(len(trees)), 0.2)
    terms = dpo_loss(*ours.unbind(1), *ref.unbind(1), beta=BETA, p=p)
    terms.losses.mean().backward()
    assert terms.losses.mean().item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
    assert_same_gradients(gradients(policy), theirs)


@pytest.mark.parametrize("toward", ["policy", "reference"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
def test_kto_equals_trl(kind: str, toward: str, tmp_path: Path) -> None:
    """TRL makes the mismatches itself: each completion goes to the next prompt of its batch.

    Mismatches are scored by two unlike models; in one of the two directions their mean log-ratio is below 0, where
    both clamp the divergence.
    """
    policy, reference = models(kind)
    if toward == "reference":
        policy, reference = reference, policy
    trainer = trl.KTOTrainer(
        model=policy,
        ref_model=reference,
        args=trl.KTOConfig(**options(tmp_path, desirable_weight=1.5, undesirable_weight=0.7)),
        train_dataset=Dataset.from_list(LABELLED),
        processing_class=tokenizer(),
    )
    rows = list(trainer.train_dataset)
    batch = trainer.data_collator(rows)
    loss = trainer.compute_loss(policy, batch)
    loss.backward()
    theirs = gradients(policy)
    metrics = {name: values[-1] for name, values in trainer._metrics["train" if policy.training else "eval"].items()}

    labels = torch.tensor([row["label"] for row in rows])
    matched = [Tree(p, (c,)) for p, c in (ids(row, "prompt_ids", "completion_ids") for row in rows)]
    crossed = [Tree(p, (c,)) for p, c in (ids(row, "prompt_ids", "KL_completion_ids") for row in rows)]
    assert [tree.completions for tree in crossed] == [matched[i - 1].completions for i in range(len(matched))]
    for lay in LAYOUTS.values():
        with torch.no_grad():
            ref, ref_crossed = (completion_logps(reference, lay(some, pad_id=PAD)) for some in (matched, crossed))
            kl = kl_estimate(completion_logps(policy, lay(crossed, pad_id=PAD)), ref_crossed)
        ours = completion_logps(policy, lay(matched, pad_id=PAD), chunk=5)
        terms = kto_loss(ours, ref, labels, kl, beta=BETA, desirable_weight=1.5, undesirable_weight=0.7)
        terms.losses.mean().backward()
        assert kl.item() == pytest.approx(metrics["kl"], rel=1e-5, abs=1e-5)
        assert terms.losses.mean().item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
        assert_same_gradients(gradients(policy), theirs)
