"""What algorithms on preference pairs share: pairs put in order, their rows, reference log-probs and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from sacpo.align.objectives.objective import Batch, FirstLoss, Forward, Gather, Metrics
from sacpo.align.objectives.registry import Made, Parts
from sacpo.data.packing import LayRows, Rows, Tree
from sacpo.data.records import Pair
from sacpo.data.tokenize import TokenPair, tokenize_pairs
from sacpo.errors import DataError
from sacpo.losses.head import TokenStatistics
from sacpo.losses.logps import completion_logps
from sacpo.losses.pair_terms import PairTerms
from sacpo.recipe.algorithms import ALGORITHMS


def oriented(pair: TokenPair) -> TokenPair:
    """Return the pair with the probably preferred completion first; its loss is the same either way."""
    if pair.p >= 0.5:
        return pair
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen, p=1 - pair.p, offset=-pair.offset)


def hardened(pairs: Sequence[TokenPair]) -> list[TokenPair]:
    """Return the oriented pairs with their probabilities rounded to 1; a tie has no hard label and is left out."""
    return [replace(pair, p=1.0) for pair in pairs if pair.p != 0.5]


def pair_trees(pairs: Sequence[TokenPair]) -> list[Tree]:
    """Return each pair as a prompt with two branches, chosen first."""
    return [Tree(pair.prompt, (pair.chosen, pair.rejected)) for pair in pairs]


@dataclass(frozen=True)
class PairLogps:
    """What a loss of pairs is computed from.

    Attributes:
        chosen, rejected: log pi of the completions, in nats. Shape: (pairs,).
        ref_chosen, ref_rejected: log pi_ref of them. Shape: (pairs,).
        chosen_tokens, rejected_tokens: Tokens of the completions. Shape: (pairs,).
        p: Probability that the chosen one is preferred. Shape: (pairs,).
        offset: What the difference of rewards must reach. Shape: (pairs,).
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    ref_chosen: torch.Tensor
    ref_rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    p: torch.Tensor
    offset: torch.Tensor


class PairObjective:
    """A loss over preference pairs with soft labels, against cached reference log-probs; subclasses have the loss.

    Args:
        pairs: Oriented pairs: p >= .5.
        reference: Reference log-probs, chosen and rejected in turn. Shape: (2 x pairs,).
        beta: The step's strength.
        layout: How a device batch is laid out in rows.
        statistics: Log the entropy, mean logits and accuracy of tokens too, which costs some passes over the logits.
    """

    takes_offsets = False

    def __init__(
        self,
        pairs: Sequence[TokenPair],
        reference: torch.Tensor,
        *,
        beta: float,
        layout: LayRows,
        statistics: bool = False,
    ) -> None:
        self.ids = [pair.id for pair in pairs]
        self.pair_groups = None
        self.trees = pair_trees(pairs)
        self.reference = reference.view(-1, 2)
        self.tokens = torch.tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs])
        self.p = torch.tensor([pair.p for pair in pairs], dtype=torch.float32)
        self.offsets = torch.tensor([pair.offset for pair in pairs], dtype=torch.float32)
        self.beta, self.layout, self.statistics = beta, layout, statistics

    @property
    def first_loss(self) -> FirstLoss:
        """The loss while the policy is its reference."""
        raise NotImplementedError

    def terms(self, logps: PairLogps) -> PairTerms:
        """Return each pair's loss and rewards."""
        raise NotImplementedError

    def collate(self, indices: list[int]) -> Batch:
        """Lay out the pairs at these positions; the units are pairs."""
        trees = [self.trees[i] for i in indices]
        chosen = {"p": self.p, "offset": self.offsets, "reference": self.reference, "tokens": self.tokens}
        tensors = {name: values[indices].flatten() for name, values in chosen.items()}
        return Batch(indices, self.layout(trees), len(indices), real_tokens(trees), tensors)

    def prepare(self, batches: Sequence[Batch], forward: Forward[torch.Tensor], gather: Gather) -> None:
        """Do nothing: pairs share nothing."""

    def loss(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, Metrics]:
        """Return the sum of the pairs' losses and TRL's metrics; a tie has no accuracy."""
        seen = TokenStatistics() if self.statistics else None
        logps = forward(lambda model: completion_logps(model, batch.rows, statistics=seen))
        chosen, rejected = logps.view(-1, 2).unbind(1)
        ref_chosen, ref_rejected = batch.tensors["reference"].view(-1, 2).unbind(1)
        p, tokens = batch.tensors["p"], batch.tensors["tokens"].view(-1, 2)
        given = PairLogps(
            chosen, rejected, ref_chosen, ref_rejected, tokens[:, 0], tokens[:, 1], p, batch.tensors["offset"]
        )
        terms = self.terms(given)
        margins = terms.chosen_rewards - terms.rejected_rewards
        decided = (self.p[batch.indices] != 0.5).sum().item()
        n = len(batch)
        return terms.losses.sum(), {
            "rewards/chosen": (terms.chosen_rewards.sum(), n),
            "rewards/rejected": (terms.rejected_rewards.sum(), n),
            "rewards/accuracies": (((margins > 0) & (p != 0.5)).sum(), int(decided)),
            "rewards/margins": (margins.sum(), n),
            "logps/chosen": (chosen.sum(), n),
            "logps/rejected": (rejected.sum(), n),
            **({} if seen is None else token_metrics(seen, batch.rows, batch.rows.owner % 2 == 0)),
        }

    def start_gaps(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each pair's difference of logratios."""
        logps = forward(lambda model: completion_logps(model, batch.rows))
        ratios = (logps - batch.tensors["reference"]).view(-1, 2)
        return ratios[:, 0] - ratios[:, 1], logps


def larger_gaps(batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each pair's larger logratio, for losses in which two equal ones do not cancel; see `start_gaps`."""
    logps = forward(lambda model: completion_logps(model, batch.rows))
    return (logps - batch.tensors["reference"]).view(-1, 2).abs().amax(1), logps


def make_of_pairs(parts: Parts, objective: Callable[..., PairObjective]) -> Made:
    """Return an objective over pairs, and counts for the summary.

    Raises:
        DataError: The records are no pairs, none is left to train on, or they have offsets that the loss cannot use.
    """
    others = [name for name, known in ALGORITHMS.items() if "unpaired" in known.records]
    title = ALGORITHMS[parts.step.algorithm].title
    parts.require(Pair, title, f"pairs; labelled completions train with algorithm: {' or '.join(others)}")
    job, step = parts.job, parts.step
    tokens, report = tokenize_pairs(
        parts.records, parts.tokenizer, parts.template, max_length=job.max_length, too_long=job.too_long
    )
    pairs = [oriented(pair) for pair in tokens]
    ties = sum(pair.p == 0.5 for pair in pairs)
    if not step.soft_labels:
        pairs = hardened(pairs)
    report.require_some(job.name, parts.reference.progress)
    if not pairs:
        raise DataError(
            "no records are left to train on: every pair is a tie, which has no hard label",
            where=f"training of {job.name}",
            value=f"{ties} ties",
            do="set soft_labels: true, or give other pairs",
        )
    trees, reference = pair_trees(pairs), parts.reference
    logps = reference.logps(trees, [pair.id for pair in pairs])
    layout, statistics = reference.layout(trees), reference.statistics
    made = objective(pairs, logps, beta=parts.beta, layout=layout, statistics=statistics)
    if made.offsets.any() and not made.takes_offsets:
        raise no_offsets(job.name, title)
    return made, {
        "records": report.to_json(),
        "pairs": len(pairs),
        "soft_labels": step.soft_labels,
        "ties": ties,
        "ties_dropped": 0 if step.soft_labels else ties,
    }


def no_offsets(training: str, title: str) -> DataError:
    """Return the refusal of pairs with offsets by an algorithm that would ignore them."""
    takers = [known.title for known in ALGORITHMS.values() if known.offsets]
    return DataError(
        f"{title} has no offsets, and these pairs have some",
        where=f"training of {training}",
        allowed=takers,
        do="choose such an algorithm, or give pairs without offsets",
    )


def token_metrics(seen: TokenStatistics, rows: Rows, chosen: torch.Tensor) -> Metrics:
    """Return TRL's metrics of tokens: their entropy, mean logits of both kinds, and how many chosen ones come first.

    Args:
        seen: Of all targets.
        rows: The rows that they are in.
        chosen: Whether a target belongs to a chosen or desirable completion. Shape: (targets,) bool.
    """
    n, good = len(rows.targets), int(chosen.sum())
    return {
        "entropy": (seen.entropy.sum(), n),
        "logits/chosen": ((seen.mean_logit * chosen).sum(), good),
        "logits/rejected": ((seen.mean_logit * ~chosen).sum(), n - good),
        "mean_token_accuracy": ((seen.top & chosen).sum(), good),
    }


def real_tokens(trees: Sequence[Tree]) -> int:
    """Return the tokens of prompts and completions, each counted once."""
    return sum(len(tree.prompt) + sum(map(len, tree.completions)) for tree in trees)
