"""Choosing a row layout: packed where it agrees, padded with a notice or a stop where it does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import PAD, tiny, trees

from sacpo.align.engine import layout
from sacpo.align.engine.layout import FLEX, choose_layout, takes_flex
from sacpo.errors import ModelError
from sacpo.losses.agreement import Agreement
from sacpo.system.progress import QUIET


def test_packed_rows_are_taken_where_they_agree() -> None:
    model = tiny("llama")
    assert choose_layout("auto", model, trees(), PAD, QUIET).name == "flat"
    assert choose_layout("packed", model, trees(), PAD, QUIET).name == "flat"
    assert choose_layout("padded", model, trees(), PAD, QUIET).name == "padded"


@pytest.mark.parametrize("kind", ["mamba2", "lfm2", "bloom"])
def test_where_they_cannot_be_had_a_notice_says_so_or_the_training_stops(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny(kind)
    assert choose_layout("auto", model, trees(), PAD, QUIET).name == "padded"
    assert "one completion a row is used, not packed rows" in capsys.readouterr().err
    with pytest.raises(ModelError, match="cannot be shared") as caught:
        choose_layout("packed", model, trees(), PAD, QUIET)
    assert caught.value.where == "layout"
    assert choose_layout("padded", model, trees(), PAD, QUIET).name == "padded"
    assert capsys.readouterr().err == ""


def test_flex_attention_is_taken_on_cuda_alone_and_where_nothing_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    assert not takes_flex(model)
    monkeypatch.setattr(type(model), "device", property(lambda self: torch.device("cuda")))
    assert takes_flex(model)
    model.config.attention_dropout = 0.1
    assert not takes_flex(model)
    eager = tiny("llama", attention="eager")
    assert not takes_flex(eager)


@pytest.mark.parametrize("agrees", [True, False])
def test_flex_attention_stays_only_where_it_agrees(agrees: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU the switch is made by hand: which implementation each comparison saw, and which one remains."""
    model, seen = tiny("llama"), []

    def check(model: Any, *args: Any, **options: Any) -> Agreement:
        seen.append(model.config._attn_implementation)
        return Agreement(0.0, agrees or seen[-1] != FLEX, "")

    monkeypatch.setattr(layout, "takes_flex", lambda model: True)
    monkeypatch.setattr(layout, "takes_flat", lambda model: False)
    monkeypatch.setattr(layout, "check_layout", check)
    assert choose_layout("auto", model, trees(), PAD, QUIET).name == "packed" and seen == ["sdpa"]  # short trees
    seen.clear()
    monkeypatch.setattr(layout, "FLEX_FROM", 8)
    assert choose_layout("auto", model, trees(), PAD, QUIET).name == "packed"
    assert seen == ([FLEX] if agrees else [FLEX, "sdpa"])
    assert model.config._attn_implementation == (FLEX if agrees else "sdpa")
    seen.clear()
    model.set_attn_implementation("sdpa")
    choose_layout("auto", model, trees(), PAD, QUIET, attention="sdpa")
    assert seen == ["sdpa"]  # the user asked for it


def fails(*args: Any, **options: Any) -> Any:
    raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")


@pytest.mark.parametrize("broken", ["check_layout", "completion_logps"])
def test_where_flex_attention_fails_sdpa_is_used(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison fails, as without a C compiler, or the pass under autocast, as with older versions of torch."""
    model, check = tiny("llama"), layout.check_layout
    monkeypatch.setattr(layout, "takes_flex", lambda model: True)
    monkeypatch.setattr(layout, "takes_flat", lambda model: False)
    monkeypatch.setattr(layout, "FLEX_FROM", 8)
    if broken == "check_layout":
        monkeypatch.setattr(
            layout, broken, lambda m, *a, **o: (fails if m.config._attn_implementation == FLEX else check)(m, *a, **o)
        )
    else:
        monkeypatch.setattr(layout, "check_layout", lambda *a, **o: Agreement(0.0, True, ""))
        monkeypatch.setattr(layout, broken, fails)
    assert choose_layout("auto", model, trees(), PAD, QUIET, precision=torch.bfloat16).name == "packed"
    assert model.config._attn_implementation == "sdpa"
