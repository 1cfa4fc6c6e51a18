"""Log-probs of answers under a model, in nats, and what they say about the divergence from another model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from sacpo.answer.batches import batched, shared_layout
from sacpo.data.packing import Tree, padded_rows
from sacpo.data.records import Answer
from sacpo.data.templates import Template
from sacpo.data.tokenize import tokenize_prompts
from sacpo.errors import DataError
from sacpo.losses.logps import completion_logps
from sacpo.models.tokens import padding_token
from sacpo.system.memory import kept_memory
from sacpo.system.progress import QUIET, Progress

SCORED = 4096
"""Tokens of a forward pass: of padded rows on a CPU twice as many take longer, and half as many hardly less."""


def score_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    answers: Sequence[Answer],
    template: Template,
    *,
    tokens: int = SCORED,
    progress: Progress = QUIET,
) -> list[float]:
    """Return `log pi(answer | prompt)` of each answer, in nats, summed over its tokens.

    The tokens are those that were decoded, with the end token unless the answer was truncated: the text tokenised
    again may be another sequence. Temperature and top-p play no part: this is the model's own distribution.

    Args:
        model: A causal language model, or several mixed token by token.
        tokenizer: The tokenizer that the answers were decoded with.
        answers: Answers with `tokens`, of any model.
        template: The template that they were generated with.
        tokens: Tokens of a forward pass with prompts of each answer, or one answer that has more.
        progress: Where to show it.

    Raises:
        DataError: An answer does not hold its tokens.
    """
    trees = answer_trees(answers, tokenizer, template)
    return score_trees(model, tokenizer, trees, tokens=tokens, progress=progress)


@kept_memory()
def score_trees(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    trees: Sequence[Tree],
    *,
    tokens: int = SCORED,
    progress: Progress = QUIET,
) -> list[float]:
    """Return the log-probs of the completions of trees that have one each, in nats; see `score_answers`.

    Several completions of a prompt are computed with the prompt once, where the model allows.
    """
    several = len({tree.prompt for tree in trees}) < len(trees)
    layout = shared_layout(model, tokenizer, trees) if several else None
    rows_of = layout or partial(padded_rows, pad_id=padding_token(tokenizer, model))
    logps = [0.0] * len(trees)
    was_training = bool(getattr(model, "training", False))
    model.eval()
    with progress.task("scoring", len(trees), "answers") as task, torch.no_grad():
        for places in batched(trees, tokens, together=layout is not None):
            rows = rows_of([trees[place] for place in places])
            for place, logp in zip(places, completion_logps(model, rows.to(model.device)).tolist(), strict=True):
                logps[place] = logp
            task.advance(len(places))
    model.train(was_training)
    return logps


def kl_terms(logps: Sequence[float], base_logps: Sequence[float]) -> list[float]:
    """Return `log pi(y|x) - log pi_base(y|x)` of each answer.

    Their mean over answers sampled from `pi` at temperature 1 estimates KL(pi || pi_base); single terms may be
    negative. On greedy answers it is no divergence, only a mean log-ratio.
    """
    return [logp - base for logp, base in zip(logps, base_logps, strict=True)]


def answer_trees(answers: Sequence[Answer], tokenizer: PreTrainedTokenizerBase, template: Template) -> list[Tree]:
    """Return each answer's tokens behind its prompt's.

    Raises:
        DataError: An answer does not hold its tokens.
    """
    for answer in answers:
        if not answer.tokens:
            raise DataError(
                "an answer does not hold the tokens that were decoded, so it cannot be scored",
                where=f"answer of {answer.model} to prompt {answer.prompt.id}",
                do="generate the answers with this package",
            )
    prompts = tokenize_prompts((answer.prompt for answer in answers), template, tokenizer)
    return [Tree(prompts[answer.prompt], (answer.tokens,)) for answer in answers]
