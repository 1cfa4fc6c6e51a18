"""cuDNN's attention is left out where shapes change: in a training as a whole, and in passes without gradient."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_models import PAD, tiny, trees
from transformers import Trainer

from sacpo.align.engine.kept import Keep, Keeping
from sacpo.align.trainer import AlignTrainer
from sacpo.answer.decoding import Row, Sampling, decode
from sacpo.data.packing import packed_rows
from sacpo.losses.kernels import steady_kernels
from sacpo.losses.logps import completion_logps


@pytest.mark.parametrize("before", [True, False])
def test_the_choice_is_given_back_even_after_an_error(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(before)
    try:
        with pytest.raises(ZeroDivisionError), steady_kernels():
            assert not torch.backends.cuda.cudnn_sdp_enabled()
            1 / 0  # noqa: B018 - the error is the point
        assert torch.backends.cuda.cudnn_sdp_enabled() == before
    finally:
        torch.backends.cuda.enable_cudnn_sdp(usual)


def test_a_pass_with_gradient_keeps_the_kernels_that_its_backward_pass_will_have() -> None:
    """Checkpointing computes the pass again behind it, and must find the same kernels; the trainer chooses for both."""
    model, rows, seen = tiny("llama"), packed_rows(trees(), pad_id=PAD), []
    model.model.layers[0].register_forward_hook(lambda *a: seen.append(torch.backends.cuda.cudnn_sdp_enabled()))
    completion_logps(model, rows)  # and with it the model's check, which has no gradient
    with torch.no_grad():
        completion_logps(model, rows)
    assert seen[-2:] == [torch.backends.cuda.cudnn_sdp_enabled(), False]


def test_a_training_is_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "train", lambda self, *args: torch.backends.cuda.cudnn_sdp_enabled())
    trainer = AlignTrainer.__new__(AlignTrainer)
    trainer.args = SimpleNamespace(should_save=False)
    trainer.keep = Keep(torch.nn.Linear(1, 1), Keeping())
    assert trainer.train() is False
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_answering_is_without_it() -> None:
    """Each token makes the keys longer, which is a new shape."""
    model, seen = tiny("gpt_neox").eval(), []
    model.base_model.layers[0].register_forward_hook(lambda *a: seen.append(torch.backends.cuda.cudnn_sdp_enabled()))
    decode(model, [Row([5, 6, 7], 2)], Sampling(), end_ids=frozenset(), pad_id=PAD)
    assert seen[-2:] == [False, False]
