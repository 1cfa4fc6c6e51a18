"""What a model and its tokenizer must agree on: the tokens that end answers, fill rows, and have an embedding."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from sacpo.data.ends import listed_ends, vocabulary_size
from sacpo.errors import ModelError
from sacpo.models.adapters.stack import config_of, is_adapter, read_stack
from sacpo.models.checks import check_place, model_errors


def generation_ends(path: str | Path, revision: str | None = None) -> frozenset[int]:
    """Return the tokens that a model's generation_config.json lists as ends, or its config.json where it has none.

    Adapters have those of their base.

    Raises:
        ModelError: There is no such model.
    """
    check_place(path)
    stack = read_stack(path)
    if stack is not None:
        return generation_ends(stack.base, stack.revision)
    if is_adapter(Path(path)):
        config = config_of(Path(path))
        return generation_ends(config["base_model_name_or_path"], config.get("revision"))
    with model_errors(path):
        try:
            return listed_ends(GenerationConfig.from_pretrained(path, revision=revision or "main"))
        except OSError:  # a folder may have none
            found, _ = PreTrainedConfig.get_config_dict(path, revision=revision)
    text = found.get("text_config") or {}
    return listed_ends(SimpleNamespace(eos_token_id=found.get("eos_token_id", text.get("eos_token_id"))))


def padding_token(tokenizer: PreTrainedTokenizerBase, model: object) -> int:
    """Return the token that fills rows; it is masked.

    It is the tokenizer's padding token, or its end token where the model has no embedding of the former.
    """
    found = tokenizer.pad_token_id if embedded(tokenizer.pad_token_id, model) else tokenizer.eos_token_id
    return cast(int, found)


def classifier_padding(token: Any, end: int, model: Any) -> int:
    """Return the padding token that a classifier finds a row's last token by: `token`, if the model has such a one.

    Where there is none it must not be the end token: the classifier would then read the token before it.
    """
    return int(token) if token is not None and embedded(token, model) else int(end == 0)


def embedded(token: int, model: Any) -> bool:
    """Tell whether a model has an embedding of a token."""
    rows = vocabulary_size(model)
    return rows is None or token < rows


def require_embedded(token: int, model: Any) -> None:
    """Refuse a token that a model has no embedding of.

    Raises:
        ModelError: It has none.
    """
    if not embedded(token, model):
        raise ModelError(
            "the tokenizer gives a token that the model has no embedding of",
            value=token,
            allowed=f"below {vocabulary_size(model)}",
            do="take the model's own tokenizer, or resize the model's embeddings (resize_token_embeddings)",
        )
