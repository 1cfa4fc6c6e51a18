"""Reward-weighted regression as an objective: maximum likelihood on weighted samples of the closed form of eq. 11.

Answers of one prompt that stand side by side stay together, so that a batch computes their prompt once.

Source: Peters and Schaal 2007; Korbak et al. 2022 (arXiv 2205.11275) on why its minimum of KL(pi* || pi) is the
target of KL-regularised reinforcement learning.
"""

from __future__ import annotations

from itertools import accumulate

from sacpo.align.objectives.registry import Made, Parts
from sacpo.align.sft import SftObjective
from sacpo.data.records import Demonstration
from sacpo.data.tokenize import completion_trees, tokenize_demonstrations


def make(parts: Parts) -> Made:
    """Return the objective over resampled answers, and counts for the summary.

    Raises:
        DataError: The records are no demonstrations, or none is left to train on.
    """
    parts.require(Demonstration, "RWR", "resampled answers; a recipe's step samples them from its dataset's prompts")
    job = parts.job
    answers, report = tokenize_demonstrations(
        parts.records, parts.tokenizer, parts.template, max_length=job.max_length, too_long=job.too_long
    )
    report.require_some(job.name, parts.reference.progress)
    layout = parts.reference.layout(completion_trees(answers))
    new = [i > 0 and one.prompt != answers[i - 1].prompt for i, one in enumerate(answers)]
    objective = SftObjective(answers, layout, pair_groups=[*accumulate(map(int, new))])
    return objective, {"records": report.to_json(), "answers": len(answers)}
