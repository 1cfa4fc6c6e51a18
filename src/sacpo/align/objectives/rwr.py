"""Reward-weighted regression as an objective: maximum likelihood on weighted samples of the closed form of eq. 11.

Answers of one prompt that stand side by side stay together, so that a batch computes their prompt once.

Source: Peters and Schaal 2007; Korbak et al. 2022 (arXiv 2205.11275) on why its minimum of KL(pi* || pi) is the
target of KL-regularised reinforcement learning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import torch

from sacpo.align.objectives.objective import Batch, Forward, Metrics
from sacpo.align.objectives.registry import Made, Parts
from sacpo.align.sft import SftObjective
from sacpo.data.packing import LayRows, Tree
from sacpo.data.records import Demonstration
from sacpo.data.tokenize import TokenDemo, completion_trees, tokenize_demonstrations
from sacpo.losses.listwise import listwise_loss
from sacpo.losses.logps import completion_logps


class ListwiseObjective(SftObjective):
    """The weighted likelihood and, times a weight, the listwise loss of the answers to a prompt that a batch holds.

    A list that is cut by the edge of a device batch is two lists. Both losses are averaged over completion tokens.

    Args:
        answers: Answers with their weights.
        layout: How a device batch is laid out in rows.
        lists: The number of each answer's prompt; neighbours of equal number stay neighbours in a random order.
        reference: log pi_ref of the answers, in nats. Shape: (answers,).
        listwise: The weight of the listwise loss.
    """

    def __init__(
        self,
        answers: Sequence[TokenDemo],
        layout: LayRows,
        lists: Sequence[int],
        reference: torch.Tensor,
        listwise: float,
    ) -> None:
        super().__init__(answers, layout, pair_groups=lists)
        self.lists, self.reference, self.listwise = torch.tensor(lists), reference, listwise
        self.ref_weights = torch.tensor([answer.ref_weight for answer in answers])

    def collate(self, indices: list[int]) -> Batch:
        """Lay out the answers at these positions, and number the lists among them."""
        batch = super().collate(indices)
        batch.tensors["reference"], batch.tensors["ref_weight"] = self.reference[indices], self.ref_weights[indices]
        batch.tensors["list"] = self.lists[indices].unique(return_inverse=True)[1]
        return batch

    def loss(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, Metrics]:
        """Return the sum of both losses over the batch, and each."""
        logps = forward(lambda model: completion_logps(model, batch.rows))
        tensors = batch.tensors
        likelihood = -(logps * tensors["weight"]).sum()
        listwise = listwise_loss(
            logps, tensors["reference"], tensors["weight"], tensors["ref_weight"], tensors["list"]
        ).sum()
        metrics: Metrics = {
            "losses/likelihood": (likelihood.detach(), batch.units),
            "losses/listwise": (listwise.detach(), batch.units),
        }
        return likelihood + self.listwise * listwise, metrics

    def start_gaps(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each answer's logratio."""
        logps = forward(lambda model: completion_logps(model, batch.rows))
        return logps - batch.tensors["reference"], logps


def make(parts: Parts) -> Made:
    """Return the objective over resampled answers, and counts for the summary.

    Raises:
        DataError: The records are no demonstrations, or none is left to train on.
    """
    parts.require(Demonstration, "RWR", "resampled answers; a recipe's step samples them from its dataset's prompts")
    job, listwise = parts.job, parts.step.listwise
    answers, report = tokenize_demonstrations(
        parts.records, parts.tokenizer, parts.template, max_length=job.max_length, too_long=job.too_long
    )
    report.require_some(job.name, parts.reference.progress)
    trees = completion_trees(answers)
    layout = parts.reference.layout(trees)
    new = [i > 0 and one.prompt != answers[i - 1].prompt for i, one in enumerate(answers)]
    lists = [*accumulate(map(int, new))]
    counts = {"records": report.to_json(), "answers": len(answers)}
    if not listwise:
        return SftObjective(answers, layout, pair_groups=lists), counts
    longest, room = max(Counter(lists).values()), parts.reference.batch_size
    if longest > room:
        parts.reference.progress.notice(
            f"{job.name}: a device batch holds {room} answers and a prompt has up to {longest}: the listwise loss "
            "compares those that meet there; raise per_device_train_batch_size"
        )
    return ListwiseObjective(answers, layout, lists, reference_of(answers, trees, parts), listwise), counts


def reference_of(answers: Sequence[TokenDemo], trees: Sequence[Tree], parts: Parts) -> torch.Tensor:
    """Return log pi_ref of the answers: as the records know it, or computed where any of them does not.

    Records know what the model computes in its own precision, so where a training is autocast it is computed, too.
    """
    known = [answer.ref_logp for answer in answers if answer.ref_logp is not None]
    if len(known) == len(answers) and parts.reference.autocast is None:
        return torch.tensor(known)
    return parts.reference.logps(trees, [answer.id for answer in answers])
