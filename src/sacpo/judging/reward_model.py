"""Scores from a reward model or a cost model: a sequence classifier with one logit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from sacpo.data.packing import Tree, padded_rows
from sacpo.data.records import Prompt
from sacpo.data.templates import make_template
from sacpo.data.tokenize import text_trees
from sacpo.data.unknown import unknown_token
from sacpo.errors import ModelError
from sacpo.judging.score_model import ScoreModels, is_score_model
from sacpo.judging.scored import Score
from sacpo.models.loading import load_model, load_tokenizer, resolve_device
from sacpo.models.tokens import classifier_padding, generation_ends
from sacpo.recipe.schema import BaseSpec
from sacpo.system.progress import QUIET, Progress


def reward_model_scores(
    path: str | Path,
    base: BaseSpec,
    *,
    sign: int = 1,
    max_length: int = 512,
    batch_size: int = 16,
    unsafe_below: float | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    progress: Progress = QUIET,
) -> Callable[[Sequence[tuple[Prompt, str]]], list[Score]]:
    """Load a reward model and return its score function: `sign x logit(template(prompt) + answer + end token)`.

    Rows are padded on the right and the answer is cut at `max_length`, as the model was trained here. A prompt that
    leaves no room for an answer has no score. The scores of a batch do not depend on which answers share it, but for
    rounding.

    Args:
        path: A hub id or folder of a sequence classifier or of a Safe RLHF score model; its own tokenizer is used.
        base: Where template, device and dtype come from; its consent to remote code is another model's.
        sign: -1 for a cost model, whose logit is higher for worse answers.
        max_length: Most tokens of prompt and answer together.
        batch_size: Answers a forward pass.
        unsafe_below: Answers with a lower score are labelled "unsafe", others "safe"; None: no labels.
        revision: The hub revision.
        trust_remote_code: Consent to this model's own code.
        progress: Where to show it.

    Raises:
        ModelError: There is no such model, it is no classifier, or it has not exactly one logit.
        MachineError: This machine has no such device.
    """
    tokenizer = load_tokenizer(path, revision=revision, trust_remote_code=trust_remote_code)
    model = load_model(
        path,
        dtype=base.dtype,
        device=resolve_device(base.device),
        revision=revision,
        trust_remote_code=trust_remote_code,
        attn_implementation=base.attn_implementation,
        model_class=ScoreModels,
    )
    _check(model, path)
    pad_id = _set_padding(model, tokenizer.eos_token_id)
    template = make_template(
        base.template,
        tokenizer,
        ends=generation_ends(path, revision),
        special_tokens_in_text=base.special_tokens_in_text,
    )

    def score(pairs: Sequence[tuple[Prompt, str]]) -> list[Score]:
        trees = text_trees(pairs, tokenizer, template, max_length)
        unknown = unknown_token(tokenizer)
        odd = sum(unknown in tree.prompt or unknown in tree.completions[0] for tree in trees.values())
        if odd and unknown is not None:
            said = "answers, or their prompts, hold words that its tokenizer does not know"
            progress.notice(f"{path}: {odd:,} of {len(pairs):,} {said}")
        values = _scored(model, trees, pad_id, batch_size, progress)
        return [_score(values.get(place), sign, unsafe_below) for place in range(len(pairs))]

    return score


def _score(logit: float | None, sign: int, unsafe_below: float | None) -> Score:
    if logit is None:
        return Score(None)
    value = sign * logit
    if unsafe_below is None or math.isnan(value):
        return Score(value)
    return Score(value, "unsafe" if value < unsafe_below else "safe")


def _scored(
    model: PreTrainedModel, trees: dict[int, Tree], pad_id: int, batch_size: int, progress: Progress
) -> dict[int, float]:
    """Return the logit of each tree; those of about equal length go together."""
    order = sorted(trees, key=lambda place: (-len(trees[place]), place))
    values: dict[int, float] = {}
    with progress.task("reward model", len(order), "answers") as task, torch.no_grad():
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            rows = padded_rows([trees[place] for place in places], pad_id=pad_id).to(model.device)
            logits = model(input_ids=rows.input_ids, attention_mask=rows.attention_mask).logits[:, 0]
            values.update(zip(places, logits.float().tolist(), strict=True))
            task.advance(len(places))
    return values


def _check(model: PreTrainedModel, path: str | Path) -> None:
    saved = model.config.architectures or []
    if saved and type(model).__name__ not in saved and not is_score_model(model.config):
        raise ModelError(
            "the model is no sequence classifier, so its scores would come from a head of random weights",
            where=path,
            value=saved,
            allowed=type(model).__name__,
            do="name a reward model, or give 'dataset' to train one",
        )
    if model.config.num_labels != 1:
        raise ModelError(
            "a reward model has one logit",
            where=path,
            value=f"{model.config.num_labels} logits",
            do="name a sequence-classification model with num_labels 1",
        )


def _set_padding(model: PreTrainedModel, end: int) -> int:
    """Return the padding token that the model finds a row's last token by.

    It is the one that the model was trained with. A model without one must not get the end token: its classifier would
    then read the token before it.
    """
    config = model.config.get_text_config()
    config.pad_token_id = classifier_padding(config.pad_token_id, end, model)
    return int(config.pad_token_id)
