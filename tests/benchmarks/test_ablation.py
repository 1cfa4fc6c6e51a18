"""What an ablation takes away is what a training would have used."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from benchmarks import ablation
from sacpo.align.engine.layout import RowLayout
from sacpo.align.reference import source
from sacpo.data import packing
from sacpo.losses import logps
from sacpo.system import memory


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give what a training chooses its layout with, and put everything back afterwards."""
    for module, name in ((source, "choose_layout"), (packing, "WIDTH"), (logps, "split_model"), (memory, "_glibc")):
        monkeypatch.setattr(module, name, getattr(module, name))
    return lambda: source.choose_layout("auto", None, [], 0, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variant", "name"), [("own_rows", "padded"), ("bounded_rows", "packed"), ("own_prompts", "flat")]
)
def test_a_variants_rows_are_those_that_a_training_takes(variant: str, name: str, chosen: Any) -> None:
    tree = packing.Tree((1, 2), ((3,), (4, 5)))
    ablation.VARIANTS[variant][0]()
    found = chosen()
    assert isinstance(found, RowLayout) and found.name == name
    laid = found.rows([tree])
    assert int((laid.input_ids == 1).sum()) == (1 if variant == "bounded_rows" else 2)


def test_heads_and_freed_memory_are_taken_away(chosen: Any) -> None:
    for variant in ("all_logits", "given_back"):
        ablation.VARIANTS[variant][0]()
    assert logps.split_model(None) is None  # type: ignore[arg-type]
    assert memory._glibc() is None


def test_a_name_that_is_not_there_cannot_be_taken_away() -> None:
    with pytest.raises(AttributeError, match="gone"):
        ablation._put(ModuleType("module"), "gone", None)
