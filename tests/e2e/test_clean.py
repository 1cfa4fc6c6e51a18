"""A recipe that changed in the middle of a training: what it left is told, and removed with --clean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bad_input_cases import ABSENT, Case, lay_out, sacpo

from sacpo.align.trainer import AlignTrainer


def test_what_a_changed_recipe_left_is_told_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = {"steps": [], "merge": ABSENT, "prompts": ABSENT, "evaluate": ABSENT, "constraints": ABSENT}
    lay_out(Case("small", {**small, "training.save_steps": 1}))

    def killed(self: Any, *args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AlignTrainer, "compute_loss", killed)
        assert sacpo(("run", "recipe.yaml"), capsys, monkeypatch).code == 130
    (left,) = Path("runs/tiny/partial").iterdir()
    lay_out(Case("other", {**small, "training.save_steps": 1, "sft.training": {"learning_rate": 3e-4}}))
    said = sacpo(("run", "recipe.yaml"), capsys, monkeypatch)
    assert said.code == 0, said.err
    assert "runs/tiny/partial holds 1 unfinished stages of earlier forms of this recipe" in said.err
    assert "--clean removes them" in said.err
    assert left.is_dir()
    used = sum(path.stat().st_size for path in Path("runs/tiny").rglob("*") if path.is_file())
    assert f"({used / 1e6:,.1f} MB of disk)" in said.out
    said = sacpo(("run", "recipe.yaml", "--clean"), capsys, monkeypatch)
    assert said.code == 0, said.err
    assert "unfinished" not in said.err
    assert not left.exists()
