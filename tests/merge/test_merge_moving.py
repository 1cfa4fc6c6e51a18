"""Models whose merge weight moves in memory: what is used at q is what a merge at q would be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from sacpo.errors import ModelError
from sacpo.merge import merge_checkpoints
from sacpo.merge.moving import MovingAdapters, MovingLogits, MovingWeights, open_moving
from sacpo.merge.source import Checkpoint, Merge

Make = Callable[..., Path]
TOKENS = torch.tensor([[3, 4, 5, 6]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS).logits.clone()


def written(first: Path, later: Path, q: float, out: Path) -> torch.Tensor:
    """Return the logits of a merge as it is written on the disk and loaded."""
    merge_checkpoints([first, later], [[1 - q, q]], [out])
    return logits(AutoModelForCausalLM.from_pretrained(out))


@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_filled_anew_to_the_bits_of_a_written_merge(checkpoint: Make, tmp_path: Path, tied: bool) -> None:
    first, later, other = (checkpoint(name, seed, tie_word_embeddings=tied) for seed, name in enumerate("abc"))
    moving = open_moving(Merge("linear", (Checkpoint(first), Checkpoint(later)), (0.5, 0.5)), Checkpoint(other))
    assert isinstance(moving, MovingWeights)
    memory = moving.at(0.0).get_input_embeddings().weight.data_ptr()
    for i, q in enumerate((0.3, 0.0, 1.0, 0.7)):
        assert torch.equal(logits(moving.at(q)), written(first, later, q, tmp_path / f"m{i}"))
    assert torch.equal(logits(moving.of(Checkpoint(other))), logits(AutoModelForCausalLM.from_pretrained(other)))
    assert torch.equal(logits(moving.at(0.7)), written(first, later, 0.7, tmp_path / "again"))
    assert moving.at(0.7).get_input_embeddings().weight.data_ptr() == memory, "a second copy was made"


def test_task_vectors_move_too(checkpoint: Make) -> None:
    """At q = .5: first + .5 (later - origin), here for the embeddings."""
    first, later, origin = (checkpoint(name, seed) for seed, name in enumerate("abc"))
    merge = Merge("task-vectors", (Checkpoint(first), Checkpoint(later)), (1.0, 0.0), 1.0, Checkpoint(origin))
    moving = open_moving(merge)
    a, b, c = (
        AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight.data
        for folder in (first, later, origin)
    )
    torch.testing.assert_close(moving.at(0.5).get_input_embeddings().weight.data, a + 0.5 * (b - c))


def adapter(base: Path, out: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(out)
    return out


def test_adapters_change_their_weights_and_the_base_stays(checkpoint: Make, tmp_path: Path) -> None:
    base = checkpoint("base", 0)
    first, later = (adapter(base, tmp_path / f"lora{seed}", seed) for seed in (1, 2))
    moving = open_moving(Merge("linear", (Checkpoint(first), Checkpoint(later)), (0.5, 0.5)), Checkpoint(base))
    assert isinstance(moving, MovingAdapters)
    own = logits(AutoModelForCausalLM.from_pretrained(base))
    for i, q in enumerate((0.25, 1.0, 0.0)):
        torch.testing.assert_close(logits(moving.at(q)), written(first, later, q, tmp_path / f"m{i}"))
    assert torch.equal(logits(moving.of(Checkpoint(base))), own)
    assert not torch.allclose(logits(moving.at(0.5)), own)


def test_logits_are_mixed_and_an_end_is_itself(checkpoint: Make) -> None:
    first, later = checkpoint("a", 0), checkpoint("b", 1)
    moving = open_moving(Merge("token-level", (Checkpoint(first), Checkpoint(later)), (0.5, 0.5)))
    assert isinstance(moving, MovingLogits)
    a, b = (logits(AutoModelForCausalLM.from_pretrained(folder)) for folder in (first, later))
    torch.testing.assert_close(logits(moving.at(0.25)), 0.75 * a + 0.25 * b)
    assert torch.equal(logits(moving.of(Checkpoint(first))), a)
    assert torch.equal(logits(moving.at(1.0)), b)


def test_one_model_is_a_path_of_one_point(checkpoint: Make) -> None:
    folder = checkpoint("a", 0)
    moving = open_moving(Checkpoint(folder))
    assert torch.equal(logits(moving.at(0.9)), logits(AutoModelForCausalLM.from_pretrained(folder)))


def test_models_that_cannot_be_merged_are_refused(checkpoint: Make) -> None:
    first, later = checkpoint("a", 0), checkpoint("b", 1, intermediate_size=24)
    with pytest.raises(ModelError, match="different configurations"):
        open_moving(Merge("linear", (Checkpoint(first), Checkpoint(later)), (0.5, 0.5)))
