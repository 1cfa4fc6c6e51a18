"""KTO as an objective: labelled completions, with z0 from completions of other prompts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

import numpy as np
import torch

from sacpo.align.objectives.objective import Batch, FirstLoss, Forward, Gather, Metrics
from sacpo.align.objectives.pairs import no_offsets, real_tokens, token_metrics
from sacpo.align.objectives.registry import Made, Parts
from sacpo.align.reference.source import Reference
from sacpo.align.reference.start import has_dropout
from sacpo.data.packing import LayRows, Rows, Tree, continuing_row
from sacpo.data.records import Labelled, Pair
from sacpo.data.tokenize import TokenLabelled, completion_trees, tokenize_labelled
from sacpo.errors import DataError
from sacpo.losses.agreement import check_continuation
from sacpo.losses.head import TokenStatistics
from sacpo.losses.kto import kl_estimate, kto_loss
from sacpo.losses.logps import completion_logps, unwrapped
from sacpo.losses.past import ContinuedRow, KeptRow
from sacpo.recipe.algorithms import Weight
from sacpo.system import processes

LONG_PROMPT = 32
"""Mean tokens of prompts from which on mismatches continue the batch's own row."""
Continuing = Callable[[Sequence[Tree], Sequence[Tree]], Rows]
"""Lays out other completions of the prompts of a flat row in a row that continues it."""


def unpaired(pairs: Sequence[Pair]) -> list[Labelled]:
    """Return two labelled completions a pair: the probably preferred one desirable, the other not; ties are dropped."""
    records = []
    for pair in pairs:
        if pair.p == 0.5:
            continue
        for completion, label in ((pair.chosen, pair.p > 0.5), (pair.rejected, pair.p < 0.5)):
            records.append(Labelled(pair.prompt, completion, label, pair.source, pair.criterion))
    return records


def class_weights(labels: Sequence[bool], desirable: Weight, undesirable: Weight) -> tuple[float, float]:
    """Return (w+, w-); "balanced" is the weight with which both labels weigh the same: w+ n+ = w- n-.

    Source: the paper's section 6 (w+ = 1, w- = n+/n-).

    Raises:
        DataError: All labels are the same.
    """
    good = sum(labels)
    bad = len(labels) - good
    if not good or not bad:
        raise DataError(
            "KTO needs desirable and undesirable completions",
            value=f"{good} desirable, {bad} undesirable",
            do="add completions with the other label, or use pairs with DPO",
        )
    if desirable == "balanced":
        return float(undesirable) * bad / good, float(undesirable)
    if undesirable == "balanced":
        return float(desirable), float(desirable) * good / bad
    return float(desirable), float(undesirable)


def mismatched(prompt_ids: Sequence[str], seed: int) -> list[int]:
    """Return for each record the position of another record whose prompt differs, drawn from the seed.

    Records are grouped by prompt in random order and shifted by the largest group's size, so that every completion is
    used once; where one prompt holds more than half of the records, partners are drawn with replacement.

    Raises:
        DataError: All records have one prompt.
    """
    random = np.random.default_rng([seed, 0x6B746F])  # a stream of its own
    order = random.permutation(len(prompt_ids))
    first = {prompt: rank for rank, prompt in reversed(list(enumerate(prompt_ids[i] for i in order)))}
    grouped = sorted(order.tolist(), key=lambda i: first[prompt_ids[i]])
    largest = max(np.unique(np.asarray(prompt_ids), return_counts=True)[1])
    n = len(prompt_ids)
    if largest == n:
        raise DataError(
            "KTO needs completions of at least two prompts to estimate the KL divergence",
            value=f"{n} completions",
            do="add completions of other prompts, or train with DPO",
        )
    partner = [0] * n
    for place, i in enumerate(grouped):
        partner[i] = grouped[(place + largest) % n]
    for i in range(n):
        if prompt_ids[partner[i]] == prompt_ids[i]:
            others = [j for j in range(n) if prompt_ids[j] != prompt_ids[i]]
            partner[i] = others[int(random.integers(len(others)))]
    return partner


def mismatched_trees(records: Sequence[TokenLabelled], seed: int, max_length: int) -> list[Tree]:
    """Return each record's prompt with another prompt's completion, cut to `max_length` tokens together."""
    partner = mismatched([record.prompt_id for record in records], seed)
    return [
        Tree(record.prompt, (records[j].completion[: max(max_length - len(record.prompt), 1)],))
        for record, j in zip(records, partner, strict=True)
    ]


def couples(prompts: Sequence[Hashable]) -> list[int]:
    """Return a number for each record that two neighbours of one prompt have in common, as the rows of a pair are."""
    numbers: list[int] = []
    for i, prompt in enumerate(prompts):
        second = i > 0 and prompt == prompts[i - 1] and numbers[-2:].count(numbers[-1]) == 1
        numbers.append(numbers[-1] if second else i)
    return numbers


class KtoObjective:
    """w+ (1 - sigmoid(u - z0)) if desirable, w- (1 - sigmoid(z0 - u)) if not, u = beta log pi/pi_ref.

    z0 is beta times KL(pi || pi_ref), estimated on prompts with other prompts' completions, without gradient, averaged
    over the whole batch of an optimiser step (all device batches and processes) and clamped at 0.

    Neighbours of one prompt, such as the two rows of a pair, stay together in a random order, two at a time, so that a
    batch computes their prompt once.

    Args:
        records: Labelled completions.
        mismatches: Each record's prompt with another prompt's completion.
        reference: Reference log-probs of the completions, and of the mismatches. Shape: (2, records).
        beta: The step's strength.
        weights: (w+, w-).
        layout: How a device batch is laid out in rows.
        continuing: Lays out mismatches in a row that continues the batch's own (see `continuing_row`), so that z0 costs
            no second pass over prompts where a device batch is the whole batch; None: mismatches get their own rows.
        statistics: Log the entropy and mean logits of tokens too, which costs some passes over the logits.
    """

    def __init__(
        self,
        records: Sequence[TokenLabelled],
        mismatches: Sequence[Tree],
        reference: torch.Tensor,
        *,
        beta: float,
        weights: tuple[float, float],
        layout: LayRows,
        continuing: Continuing | None = None,
        statistics: bool = False,
    ) -> None:
        self.continuing = continuing
        self.ids = [record.id for record in records]
        self.trees = completion_trees(records)
        self.pair_groups = couples([record.prompt for record in records])
        self.mismatches = mismatches
        self.reference, self.ref_mismatched = reference.reshape(2, -1)
        self.labels = torch.tensor([record.label for record in records])
        self.beta, self.weights, self.layout, self.statistics = beta, weights, layout, statistics
        share = float(self.labels.double().mean())
        mean = weights[0] * share + weights[1] * (1 - share)
        self.first_loss = FirstLoss(mean / 2, f"{mean / 2:.6g}, half the mean weight")

    def collate(self, indices: list[int]) -> Batch:
        """Lay out the completions at these positions; the units are completions."""
        trees = [self.trees[i] for i in indices]
        tensors = {"labels": self.labels[indices], "reference": self.reference[indices]}
        return Batch(indices, self.layout(trees), len(indices), real_tokens(trees), tensors)

    def prepare(self, batches: Sequence[Batch], forward: Forward[torch.Tensor], gather: Gather) -> None:
        """Estimate z0 / beta on the mismatches of the whole batch and give it to every device batch."""
        if self.continuing is not None and len(batches) == 1:
            return  # `loss` does, from what its own pass computes
        policy, reference = [], []
        for batch in batches:
            rows = self.layout([self.mismatches[i] for i in batch.indices]).to(batch.tensors["labels"].device)
            logps = forward(lambda model, rows=rows: completion_logps(model, rows))  # type: ignore[misc]
            policy.append(logps[: batch.units])  # none of a batch that only fills up
            reference.append(self.ref_mismatched[batch.indices[: batch.units]].to(logps.device))
        kl = kl_estimate(gather(torch.cat(policy)), gather(torch.cat(reference)))
        for batch in batches:
            batch.tensors["kl"] = kl

    def loss(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, Metrics]:
        """Return the sum of the completions' losses and TRL's metrics, apart for desirable and undesirable ones."""
        seen = TokenStatistics() if self.statistics else None
        row = None if "kl" in batch.tensors else KeptRow()
        logps = forward(lambda model: completion_logps(model, batch.rows, statistics=seen, past=row))
        labels = batch.tensors["labels"]
        kl = batch.tensors["kl"] if row is None else self._kl_behind(row, batch, forward)
        good, bad = self.weights
        terms = kto_loss(
            logps,
            batch.tensors["reference"],
            labels,
            kl,
            beta=self.beta,
            desirable_weight=good,
            undesirable_weight=bad,
        )
        n_good = int(self.labels[batch.indices].sum())
        n_bad = len(batch) - n_good
        return terms.losses.sum(), {
            "rewards/chosen": ((terms.rewards * labels).sum(), n_good),
            "rewards/rejected": ((terms.rewards * ~labels).sum(), n_bad),
            "logps/chosen": ((logps * labels).sum(), n_good),
            "logps/rejected": ((logps * ~labels).sum(), n_bad),
            "kl": (kl, 1),
            **({} if seen is None else self._token_metrics(seen, batch.rows, labels)),
        }

    @torch.no_grad()
    def _kl_behind(self, row: KeptRow, batch: Batch, forward: Forward[torch.Tensor]) -> torch.Tensor:
        """Return z0 / beta from the mismatches behind the prompts of the batch's own row."""
        assert self.continuing is not None
        indices = batch.indices
        rows = self.continuing([self.trees[i] for i in indices], [self.mismatches[i] for i in indices])
        policy = forward(lambda model: completion_logps(model, rows, past=ContinuedRow(row)))
        return kl_estimate(policy, self.ref_mismatched[indices])

    def _token_metrics(self, seen: TokenStatistics, rows: Rows, labels: torch.Tensor) -> Metrics:
        metrics = token_metrics(seen, rows, labels[rows.owner])
        del metrics["mean_token_accuracy"]  # TRL's KTO has none
        return metrics

    def start_gaps(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each completion's logratio."""
        logps = forward(lambda model: completion_logps(model, batch.rows))
        return logps - batch.tensors["reference"], logps


def make(parts: Parts) -> Made:
    """Return the objective of a step, and counts for the summary.

    The weights of held-out records are those of the training.

    Raises:
        DataError: The records are neither pairs nor labelled completions, or they do not do for KTO.
    """
    records, job, step, reference = parts.records, parts.job, parts.step, parts.reference
    ties = sum(isinstance(record, Pair) and record.p == 0.5 for record in records)
    if records and isinstance(records[0], Pair):
        parts.require(Pair, "KTO that began with pairs", "pairs only")
        if any(record.offset for record in records):
            raise no_offsets(job.name, "KTO")
        records = unpaired(records)
    else:
        parts.require(Labelled, "KTO", "pairs, or labelled completions")
    tokens, report = tokenize_labelled(
        records, parts.tokenizer, parts.template, max_length=job.max_length, too_long=job.too_long
    )
    report.require_some(job.name, parts.reference.progress)
    labels = [record.label for record in tokens]
    if isinstance(parts.training, KtoObjective):
        weights = parts.training.weights
    else:
        weights = class_weights(labels, step.desirable_weight, step.undesirable_weight)
    mismatches = mismatched_trees(tokens, job.seed, job.max_length)
    own = completion_trees(tokens)
    # both completions of a prompt as branches, so that the reference pass computes it once
    trees = [Tree(r.prompt, (r.completion, m.completions[0])) for r, m in zip(tokens, mismatches, strict=True)]
    logps = reference.logps(trees, [record.id for record in tokens], pairing_seed=job.seed)
    objective = KtoObjective(
        tokens,
        mismatches,
        logps.view(-1, 2).T,
        beta=parts.beta,
        weights=weights,
        layout=reference.layout(trees),
        continuing=continuing(reference, own, mismatches),
        statistics=reference.statistics,
    )
    return objective, {
        "records": report.to_json(),
        "completions": len(tokens),
        "ties_dropped": ties,
        "desirable_weight": weights[0],
        "undesirable_weight": weights[1],
    }


def continuing(reference: Reference, trees: Sequence[Tree], others: Sequence[Tree]) -> Continuing | None:
    """Return the layout of other completions behind a batch's own row, where that is right and saves work.

    Keys and values of the prompts are kept for it, which neither dropout nor checkpointing allows; short prompts are
    not worth a part of attention each. Several processes average z0 before their passes.
    """
    assert reference.chosen is not None
    if reference.chosen.name != "flat" or processes.size() > 1 or reference.checkpointing:
        return None
    short = sum(len(tree.prompt) for tree in trees) < LONG_PROMPT * len(trees)
    if short or has_dropout(reference.policy):
        return None
    agrees = check_continuation(unwrapped(reference.policy), trees, others, pad_id=reference.pad_id)
    return partial(continuing_row, pad_id=reference.pad_id) if agrees else None
