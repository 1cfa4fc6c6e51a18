"""The iterated dual (`dual`): train at a constraint's weight, measure its mean score, correct the weight, train again.

Every training and measure is an ordinary stage, so a killed loop goes on where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sacpo.errors import DataError
from sacpo.pipeline.stages.bank import Bank
from sacpo.pipeline.stages.samples import Samples
from sacpo.recipe.dual import dual_step, member, unrolled
from sacpo.recipe.models import StepModel
from sacpo.recipe.schema import SampledSpec

if TYPE_CHECKING:
    from sacpo.pipeline.order import Order


def find_weight(run: Order, node: StepModel) -> None:
    """Train a step at one weight after the other; settle the recipe with them.

    Each training starts from the step's own start, which is the reference of all of them: the source's problem has one.

    Args:
        run: The run; the model that the step starts from is trained.
        node: The step's model.

    Source: algorithm 1 of CAID, arXiv 2505.19387; the policy step is DPO on pairs that the step's judges label.
    """
    before, step, dual = run.recipe, node.step, node.step.dual
    assert dual is not None and isinstance(step.dataset, SampledSpec)
    index = before.steps.index(step)
    weights = [step.dataset.weights[dual.judge]]
    start = _samples(run, f"{step.name}-0", node.parent, step.dataset, dual.judge)
    while True:
        run.settle(unrolled(before, index, weights))
        name = member(step, len(weights) - 1)
        run.train([name])
        left = dual.trainings - len(weights)
        if not left:
            return
        bank = _samples(run, name, name, step.dataset, dual.judge)
        with run.do.following(f"{step.name} is trained at up to {left} more weights of {dual.judge}"):
            gain = _mean(run, bank, dual.judge) - _mean(run, start, dual.judge)
        weights.append(round(dual_step(weights[-1], gain, dual.gain, dual.rate), 4))


def _mean(run: Order, bank: Bank, judge: str) -> float:
    """Return the mean of the scores that there are.

    Raises:
        DataError: There are none: no weight follows from that.
    """
    scores = run.do.read(bank).scores[judge]
    if not np.isfinite(scores).any():
        raise DataError(
            f"none of the answers has a score of {judge}, so no weight of it can be found",
            where=bank.name,
            value=f"0 of {scores.size:,} answers scored",
            do="look at this judge: what it says of such answers, and whether its model is the right one",
        )
    return float(np.mean(scores[np.isfinite(scores)]))


def _samples(run: Order, title: str, model: str, spec: SampledSpec, judge: str) -> Bank:
    """Return an answer of a model to each of the step's prompts, with its score."""
    samples = Samples(
        title=title,
        reference=run.checkpoint(model),
        models=((model, run.checkpoint(model), 1),),
        prompts=(run.data[spec.prompts],),
        max_new_tokens=spec.max_new_tokens,
        base=run.recipe.base,
        seeds=(run.seed("dual"),),
        engine=run.recipe.evaluate.generation.engine,
    )
    return run.do(Bank(title, run.do(samples), (run.judge(judge),)))
