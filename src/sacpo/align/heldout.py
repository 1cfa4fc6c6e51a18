"""Held-out pairs: their log-probs under a model, and how often a score prefers the preferred completion.

The implicit reward of a model is beta log pi/pi_ref: its accuracy on held-out pairs needs the log-probs of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from sacpo.align.engine.layout import choose_layout
from sacpo.align.job import TrainingJob
from sacpo.align.objectives.pairs import oriented, pair_trees
from sacpo.align.reference.score import score_all, scorer
from sacpo.data.packing import Tree
from sacpo.data.records import Pair
from sacpo.data.tokenize import tokenize_pairs
from sacpo.errors import DataError
from sacpo.models.tokens import padding_token
from sacpo.plain import JsonObject
from sacpo.system.progress import QUIET, Progress


@contextmanager
def held_out(name: str, pairs: Sequence[Pair]) -> Iterator[None]:
    """Say of what a loss cannot be made of that it is the held-out pairs of a training of this name.

    Raises:
        DataError: They allow no loss.
    """
    try:
        yield
    except DataError as error:
        raise DataError(
            f"the held-out pairs give no loss: {error.what}",
            where=f"held-out pairs of {name}",
            value=f"{len(pairs)} held out; {error.value}",
            do="hold out more pairs ('holdout'), or leave out eval_strategy and what belongs to it",
        ) from error


def score_heldout(
    job: TrainingJob, model: PreTrainedModel, pairs: Sequence[Pair], *, batch_size: int = 16, progress: Progress = QUIET
) -> tuple[torch.Tensor, list[str]]:
    """Return the log-probs of pairs that are no ties, the preferred completion's first, and each pair's cluster.

    Args:
        job: The model's template and lengths.
        model: The loaded model.
        pairs: Held-out pairs.
        batch_size: Pairs a forward pass.
        progress: Where to show it.

    Shape: (2 x pairs,) float32, in nats.
    """
    trees, clusters = heldout_trees(job, pairs)
    pad_id = padding_token(job.load_tokenizer(), model)
    rows = choose_layout("auto", model, trees, pad_id, progress, alone=True)
    score, what = scorer(model, rows.rows), f"held-out pairs, {job.name}"
    return score_all(trees, score, batch_size, progress, what, by_length=rows.name == "padded"), clusters


def heldout_trees(job: TrainingJob, pairs: Sequence[Pair]) -> tuple[list[Tree], list[str]]:
    """Return the trees of the pairs that are no ties, preferred completion first, and their prompts' clusters."""
    tokenizer = job.load_tokenizer()
    template = job.template(tokenizer)
    tokens, _ = tokenize_pairs(pairs, tokenizer, template, max_length=job.max_length, too_long=job.too_long)
    decided = [pair for pair in tokens if pair.p != 0.5]
    clusters = {pair.id: pair.prompt.cluster for pair in pairs}
    return pair_trees([oriented(pair) for pair in decided]), [clusters[pair.id] for pair in decided]


def preferences(scores: torch.Tensor) -> JsonObject:
    """Return how often the first of two scores is the higher one: `accuracy`, and `correct`, one value a pair.

    Shape: (2 x pairs,), the preferred completion's score first; equal scores count one half.
    """
    chosen, other = scores.double().view(-1, 2).unbind(1)
    correct = ((chosen - other).sign() + 1) / 2
    return {"accuracy": correct.mean().item() if len(correct) else None, "correct": correct.tolist()}
