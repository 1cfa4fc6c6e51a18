"""`Run.model` returns folders that hold a model, and says of all others why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sacpo.errors import RunError
from sacpo.pipeline.run import Run

MERGE = {"kind": "merge", "parents": ["H", "H-S"], "method": "linear", "q": 0.25}
MODELS = {"sft": {"kind": "base"}, "H": {"kind": "step"}, "H-S": {"kind": "step"}, "P@q0.25": MERGE}


def run_of(folder: Path, chosen: str | None, *stages: str, **more: Any) -> Run:
    for stage in stages:
        model = folder / "stages" / stage / "model"
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
    return Run(folder, {"selection": {"chosen": chosen}, "models": MODELS, **more})


def refused(run: Run, *asked: str) -> str:
    with pytest.raises(RunError) as caught:
        run.model(*asked)
    return str(caught.value)


def test_models_with_a_folder(tmp_path: Path) -> None:
    run = run_of(tmp_path, "P@q0.25", "sft", "align/H", "align/H-S", "chosen")
    stages = tmp_path / "stages"
    assert run.model() == run.model("P@q0.25") == stages / "chosen" / "model"
    assert (run.model("sft"), run.model("H-S")) == (stages / "sft" / "model", stages / "align" / "H-S" / "model")


def test_a_run_without_a_choice_says_which_models_have_a_folder(tmp_path: Path) -> None:
    said = refused(run_of(tmp_path, None, "base", "align/H"))
    assert "no model was chosen" in said and "allowed: sft, H" in said and "run.model(NAME)" in said


def test_a_merge_that_was_not_kept_and_a_wrong_name(tmp_path: Path) -> None:
    run = run_of(tmp_path, "H", "sft", "align/H", "align/H-S", "chosen")
    said = refused(run, "P@q0.25")
    assert "no folder of its own" in said and "api.merge(run.model('H'), run.model('H-S'), OUT, q=0.25)" in said
    said = refused(run, "H_S")
    assert "no such model" in said and "value:   'H_S'" in said and "did you mean 'H-S'?" in said


def test_mixed_logits_that_were_chosen_have_no_folder(tmp_path: Path) -> None:
    """The stage leaves an empty folder beside its card."""
    run = run_of(tmp_path, "P@q0.25", "align/H", "align/H-S")
    (tmp_path / "stages" / "chosen" / "model").mkdir(parents=True)
    assert "no folder of its own" in refused(run)


def test_the_certified_model_is_the_one_in_the_folder(tmp_path: Path) -> None:
    run = run_of(tmp_path, "P@q0.25", "align/H", "chosen", certificate={"certified": "H"})
    assert "no folder of its own" in refused(run, "P@q0.25")
