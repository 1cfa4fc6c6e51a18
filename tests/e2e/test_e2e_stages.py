"""A stage needs nothing but its fields and tools: pickled, it gives the same bytes by the tools of another process."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
from tiny_run import RUN

from sacpo.pipeline.run import plan, tools_of
from sacpo.pipeline.stage import Stage
from sacpo.recipe import load_recipe
from sacpo.system.files import file_hash
from sacpo.system.runs import MANIFEST, RunFolder

ONCE = ("generate", "judge", "measure", "kl", "heldout", "align")
"""Kinds of which one stage is enough."""


@pytest.mark.slow
def test_stages_do_the_same_from_their_fields_alone(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    recipe = load_recipe(Path("tiny.yaml"), [])
    stages = [status.stage for status in plan(recipe, command="sacpo run tiny.yaml").statuses]
    done = set()
    for stage in stages:
        kind = stage.name.split("/")[0]
        if kind in ONCE and kind in done:
            continue
        done.add(kind)
        redo(pickle.loads(pickle.dumps(stage)), RunFolder(finished / RUN), tmp_path / stage.name.replace("/", "~"))
    assert done >= {*ONCE, "data", "prompts", "overlap", "base", "sft", "judge-model", "pairs"}
    assert done >= {"select", "theory", "report", "chosen"}


def redo(stage: Stage[object], run: RunFolder, out: Path) -> None:
    """Do a finished stage's work elsewhere and compare every file."""
    import torch

    out.mkdir()
    torch.set_num_threads(1)
    recipe = load_recipe(Path("tiny.yaml"), [])
    stage.work(out, tools_of(recipe, run))
    manifest = json.loads((run.final(stage.name) / MANIFEST).read_text())
    files = {str(path.relative_to(out)): file_hash(path) for path in out.rglob("*") if path.is_file()}
    assert files == {name: entry["sha256"] for name, entry in manifest["files"].items()}, stage.name
