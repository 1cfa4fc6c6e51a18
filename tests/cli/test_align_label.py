"""`sacpo align --label`: the data that the command line names become data sources."""

from __future__ import annotations

from pathlib import Path

from sacpo.cli.align import _labelled
from sacpo.recipe.schema import DataSpec


def test_a_label_goes_with_each_file() -> None:
    """The command line gives paths of files, and ids of hub data sets."""
    found = _labelled([Path("a.jsonl"), "org/set"], "pku-safe-rlhf", "safer")  # type: ignore[list-item]
    assert all(isinstance(spec, DataSpec) for spec in found)
    assert [(spec.path, spec.label) for spec in found if isinstance(spec, DataSpec)] == [
        ("a.jsonl", "safer"),
        ("org/set", "safer"),
    ]
