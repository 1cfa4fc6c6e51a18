"""bf16 on a CPU without bf16 arithmetic: float32 is used, said and written down."""

from pathlib import Path
from typing import Any

import pytest
import torch
from align_toys import job, step, toy_pairs, write_base

from sacpo import PreferenceConfig
from sacpo.align.engine.arguments import training_arguments
from sacpo.align.step import run_align
from sacpo.models import precision
from sacpo.models.loading import load_model
from sacpo.pipeline.stages.report import training_facts
from sacpo.pipeline.stages.train import Trained
from sacpo.trl.config import read_config


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda: 250.0)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda: 1.5)


def test_the_slowdown_is_that_of_a_timed_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds .5 and .002: 250 times."""
    taken = {torch.bfloat16: 0.5, torch.float32: 0.002}
    precision.slowdown.cache_clear()
    monkeypatch.setattr(precision, "seconds", lambda dtype: taken[dtype])
    assert precision.slowdown() == pytest.approx(250)
    assert precision.without_bfloat16("cpu")
    assert not precision.without_bfloat16("cuda:0")
    precision.slowdown.cache_clear()


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("dtype", ["bfloat16", "auto"])
def test_bf16_weights_are_loaded_as_float32_and_it_is_said(dtype: str, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    model = load_model(base)
    model.to(torch.bfloat16).save_pretrained(base)
    with pytest.warns(precision.PrecisionWarning, match="float32, not bf16.* 250 times as long"):
        loaded = load_model(base, dtype=dtype)
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    assert precision.replaced(loaded)
    assert not precision.replaced(load_model(base, dtype="float32"))


@pytest.mark.usefixtures("fast")
def test_bf16_stays_where_the_cpu_has_it(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    assert load_model(base, dtype="bfloat16").dtype == torch.bfloat16
    assert training_arguments(job(base, bf16=True), tmp_path).bf16
    assert read_config(PreferenceConfig(str(tmp_path), bf16=True, use_cpu=True)).bf16


@pytest.mark.usefixtures("slow")
def test_a_training_in_bf16_is_one_in_float32_and_its_summary_says_so(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    with pytest.warns(precision.PrecisionWarning):
        mixed = run_align(job(base, bf16=True), step(), 0.5, toy_pairs(16), tmp_path / "a", tmp_path / "c")
    full: Any = run_align(job(base), step(), 0.5, toy_pairs(16), tmp_path / "b", tmp_path / "c")
    assert mixed["last_loss"] == full["last_loss"]
    assert training_facts(Trained(tmp_path / "a"))["precision"] == mixed["precision"] == precision.REPLACED
    assert "precision" not in full


@pytest.mark.usefixtures("slow")
def test_the_trainer_falls_back_too(tmp_path: Path) -> None:
    given = PreferenceConfig(str(tmp_path), bf16=True, use_cpu=True)
    with pytest.warns(precision.PrecisionWarning):
        config = read_config(given)
    assert (config.bf16, config.mixed_precision, given.bf16) == (False, "no", True)
