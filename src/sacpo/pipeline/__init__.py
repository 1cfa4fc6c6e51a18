"""The pipeline: a recipe's stages, their order, and running or planning them.

build           the stages of a recipe and their order
stages          what a stage is; doing and planning stages
study           what all stages share: models, world, seeds
*_work          the work of the stages
run, plan       a whole recipe; single: one stage by itself
"""

from sacpo.pipeline.run import Run, plan, run

__all__ = ["Run", "plan", "run"]
