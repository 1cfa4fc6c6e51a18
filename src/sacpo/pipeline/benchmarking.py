"""lm-evaluation-harness in the program of a run: tasks are loaded first, models are asked last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sacpo.pipeline.stages.certificate import Certificate
from sacpo.pipeline.stages.harness import Harness, HarnessTasks, TaskFiles
from sacpo.pipeline.stages.selection import Selection, chosen_name
from sacpo.recipe.harness import WORLD_STEPS
from sacpo.recipe.schema import SFT

if TYPE_CHECKING:
    from sacpo.pipeline.order import Order


def load_harness(run: Order) -> None:
    """Load the tasks of lm-evaluation-harness, before anything is trained."""
    spec = run.recipe.evaluate.harness
    if spec is not None:
        world = run.recipe.world if WORLD_STEPS in spec.tasks else None
        run.tasks = run.do(HarnessTasks(spec, TaskFiles(spec.include_path), world))


def ask_harness(run: Order, selection: Selection | None, certificate: Certificate | None) -> None:
    """Ask the SFT model and the chosen one what lm-evaluation-harness asks, or the models that are named."""
    if run.tasks is None:
        return
    names = run.tasks.spec.models
    if names is None:
        assert selection is not None
        with run.do.following("lm-evaluation-harness asks the SFT model and the chosen one; the report"):
            certified = None if certificate is None else run.do.read(certificate)
            chosen = chosen_name(run.do.read(selection), certified)
        names = (SFT,) if chosen is None else tuple(dict.fromkeys([SFT, chosen]))
    for name in names:
        stage = Harness(name, run.models[name], run.sft, run.tasks, run.recipe.base)
        run.harness[name] = run.do(stage)
