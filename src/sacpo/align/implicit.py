"""Accuracy of the implicit reward, beta log pi/pi_ref, on held-out pairs: its sign against the pairs' labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sacpo.align.dpo import oriented, pair_trees
from sacpo.align.job import TrainingJob
from sacpo.align.layout import Layouts, choose_layout
from sacpo.align.score import score_all, scorer
from sacpo.data.packing import Tree
from sacpo.data.records import Pair
from sacpo.data.templates import make_template
from sacpo.data.tokenize import tokenize_pairs
from sacpo.progress import QUIET, Progress
from sacpo.recipe.schema import BaseSpec


def implicit_reward_accuracy(
    policy_path: str | Path,
    reference_path: str | Path,
    pairs: Sequence[Pair],
    *,
    base: BaseSpec,
    max_length: int = 512,
    too_long: str = "truncate",
    batch_size: int = 16,
    layout: Layouts = "padded",
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Score held-out pairs with a policy and its reference, one model in memory at a time.

    Args:
        policy_path: Folder or hub id of the policy.
        reference_path: The same of the model it was trained from.
        pairs: Held-out pairs; ties have no right answer and are left out.
        base: Data type, device and template.
        max_length: Tokens of prompt and completion together.
        too_long: What is done with longer pairs: "drop" or "truncate".
        batch_size: Pairs a forward pass.
        layout: See `sacpo.align.layout`.
        progress: Where to show it.

    Returns:
        See `accuracies`.
    """
    jobs = [
        TrainingJob("scoring", p, base, max_length=max_length, too_long=too_long) for p in (policy_path, reference_path)
    ]
    trees, clusters = heldout_trees(jobs[0], pairs)
    found = []
    for job in jobs:
        model = job.load_model()
        rows = choose_layout(layout, model, trees, job.load_tokenizer().pad_token_id, progress)
        found.append(score_all(trees, scorer(model, rows.rows), batch_size, progress, job.name))
    return accuracies(found[0], found[1], clusters)


def heldout_trees(job: TrainingJob, pairs: Sequence[Pair]) -> tuple[list[Tree], list[str]]:
    """Return the trees of the pairs that are no ties, preferred completion first, and their prompts' clusters."""
    tokenizer = job.load_tokenizer()
    template = make_template(job.base.template, tokenizer)
    tokens, _ = tokenize_pairs(pairs, tokenizer, template, max_length=job.max_length, too_long=job.too_long)
    decided = [pair for pair in tokens if pair.p != 0.5]
    clusters = {pair.id: pair.prompt.cluster for pair in pairs}
    return pair_trees([oriented(pair) for pair in decided]), [clusters[pair.id] for pair in decided]


def accuracies(policy: torch.Tensor, reference: torch.Tensor, clusters: Sequence[str]) -> dict[str, Any]:
    """Return how often each score prefers the preferred completion, with one value a pair for intervals.

    Args:
        policy: Log-probs under the policy, preferred and other completion in turn. Shape: (2 x pairs,), in nats.
        reference: The same under the reference.
        clusters: Each pair's cluster.

    Returns:
        `n`; `implicit` (log pi/pi_ref), `after` (log pi) and `before` (log pi_ref), each with its `accuracy` in [0, 1]
        and `correct`, one value a pair (equal scores count one half); `clusters` in the same order.
    """
    scores = {"implicit": policy - reference, "after": policy, "before": reference}
    measured = {name: preferences(score) for name, score in scores.items()}
    return {"n": len(clusters), "clusters": list(clusters), **measured}


def preferences(scores: torch.Tensor) -> dict[str, Any]:
    """Return how often the first of two scores is the higher one: `accuracy`, and `correct`, one value a pair.

    Shape: (2 x pairs,), the preferred completion's score first; equal scores count one half.
    """
    chosen, other = scores.double().view(-1, 2).unbind(1)
    correct = ((chosen - other).sign() + 1) / 2
    return {"accuracy": correct.mean().item() if len(correct) else None, "correct": correct.tolist()}
