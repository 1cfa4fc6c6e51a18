"""Benchmarks of lm-evaluation-harness, as a recipe names them."""

from __future__ import annotations

from pydantic import Field

from sacpo.recipe.section import Count, Names, Section

WORLD_STEPS = "world_steps"
"""The task of the world's own: which of four steps belongs to what was asked for."""


class HarnessSpec(Section):
    """What alignment costs elsewhere: tasks of lm-evaluation-harness, by the SFT model and the chosen one."""

    tasks: Names = Field(
        description="tasks or groups of the harness or of 'include_path'; world_steps: the world's own"
    )
    include_path: str | None = Field(None, description="a folder with task files (YAML) and their data")
    num_fewshot: int | None = Field(None, ge=0, description="examples before each question; the task's own by default")
    limit: Count | None = Field(None, description="take the first so many questions of each task; all by default")
    apply_chat_template: bool = Field(True, description="ask through base.template, as the models were trained")
    batch_size: Count = Field(16, description="questions at a time")
    models: Names | None = Field(None, description="models to ask; the SFT model and the chosen one by default")
