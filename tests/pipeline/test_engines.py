"""Which engine samples answers that steps learn from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from pipeline_toys import RECIPE, stages

from sacpo.pipeline.stages.drawn import Drawn
from sacpo.pipeline.stages.pairs import Pairs
from sacpo.pipeline.stages.samples import Samples


def test_every_stage_that_samples_for_a_step_has_the_recipe_s_engine() -> None:
    """And while it is "auto", finished stages of versions that knew no engine there keep their keys."""
    rwr = {"name": "W", "criterion": "joint", "algorithm": "rwr", "from": "sft", "beta": 0.2, "dataset": "asked"}
    rwr["resample"] = {"judge": {"helpfulness": 1.0, "harmlessness": 2.0}, "samples": 4}
    found = {
        engine: [
            stage
            for stage in stages(
                f"evaluate.generation.engine={engine}", "steps.H-S.beta=auto", steps=[*RECIPE["steps"], rwr], merge=[]
            )
            if isinstance(stage, Samples | Pairs | Drawn)
        ]
        for engine in ("auto", "vllm")
    }
    assert {type(stage) for stage in found["vllm"]} == {Samples, Pairs, Drawn}
    for plain, served in zip(found["auto"], found["vllm"], strict=True):
        assert plain.key != served.key
        if not isinstance(plain, Drawn):
            assert replace(cast(Any, served), engine="auto").key == plain.key
            assert "engine" not in plain._content[0]
