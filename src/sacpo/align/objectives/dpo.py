"""DPO as an objective: preference pairs with soft labels against cached reference log-probs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from sacpo.align.objectives.objective import Batch, FirstLoss, Forward, Gather, Layout, Metrics
from sacpo.data.packing import Rows, Tree
from sacpo.data.tokenize import TokenPair
from sacpo.losses.dpo import dpo_loss
from sacpo.losses.head import TokenStatistics
from sacpo.losses.logps import completion_logps


def oriented(pair: TokenPair) -> TokenPair:
    """Return the pair with the probably preferred completion first; DPO's loss is the same either way."""
    if pair.p >= 0.5:
        return pair
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen, p=1 - pair.p)


def hardened(pairs: Sequence[TokenPair]) -> list[TokenPair]:
    """Return the oriented pairs with their probabilities rounded to 1; a tie has no hard label and is left out."""
    return [replace(pair, p=1.0) for pair in pairs if pair.p != 0.5]


def pair_trees(pairs: Sequence[TokenPair]) -> list[Tree]:
    """Return each pair as a prompt with two branches, chosen first."""
    return [Tree(pair.prompt, (pair.chosen, pair.rejected)) for pair in pairs]


class DpoObjective:
    """-p log sigmoid(d) - (1 - p) log sigmoid(-d), d = beta [log pi/pi_ref (chosen) - log pi/pi_ref (rejected)].

    Args:
        pairs: Oriented pairs: p >= .5.
        reference: Reference log-probs, chosen and rejected in turn. Shape: (2 x pairs,).
        beta: The step's strength.
        layout: How a device batch is laid out in rows.
        statistics: Log the entropy, mean logits and accuracy of tokens too, which costs some passes over the logits.
    """

    def __init__(
        self,
        pairs: Sequence[TokenPair],
        reference: torch.Tensor,
        *,
        beta: float,
        layout: Layout,
        statistics: bool = False,
    ) -> None:
        self.ids = [pair.id for pair in pairs]
        self.together = None
        self.trees = pair_trees(pairs)
        self.reference = reference.view(-1, 2)
        self.p = torch.tensor([pair.p for pair in pairs], dtype=torch.float32)
        self.beta, self.layout, self.statistics = beta, layout, statistics
        self.first_loss = FirstLoss(math.log(2), "ln 2")

    def collate(self, indices: list[int]) -> Batch:
        """Lay out the pairs at these positions; the units are pairs."""
        trees = [self.trees[i] for i in indices]
        tensors = {"p": self.p[indices], "reference": self.reference[indices].flatten()}
        return Batch(indices, self.layout(trees), len(indices), real_tokens(trees), tensors)

    def prepare(self, batches: Sequence[Batch], forward: Forward[torch.Tensor], gather: Gather) -> None:
        """Do nothing: pairs share nothing."""

    def loss(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, Metrics]:
        """Return the sum of the pairs' losses and TRL's metrics; a tie has no accuracy."""
        seen = TokenStatistics() if self.statistics else None
        logps = forward(lambda model: completion_logps(model, batch.rows, statistics=seen))
        chosen, rejected = logps.view(-1, 2).unbind(1)
        ref_chosen, ref_rejected = batch.tensors["reference"].view(-1, 2).unbind(1)
        p = batch.tensors["p"]
        terms = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=self.beta, p=p)
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
        """Return each pair's logratio difference, which is d / beta."""
        logps = forward(lambda model: completion_logps(model, batch.rows))
        ratios = (logps - batch.tensors["reference"]).view(-1, 2)
        return ratios[:, 0] - ratios[:, 1], logps


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
