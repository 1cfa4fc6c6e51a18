"""Where an answer ends: one rule for training, scoring, judging and generation.

An answer ends at the tokenizer's end token, at a token that the model's generation_config lists, or at the one by which
the chat template ends an answer. The latter is what training ends answers with.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Any

from transformers import PreTrainedTokenizerBase

from sacpo.data.templates import Template
from sacpo.errors import DataError

Ids = tuple[int, ...]


class EndTokenWarning(UserWarning):
    """A model's configuration lists an end token that the model does not have."""


def listed_ends(config: object) -> frozenset[int]:
    """Return the end tokens that a model's generation_config lists; None lists none.

    Raises:
        DataError: It lists something that is no token's number.
    """
    listed = getattr(config, "eos_token_id", None)
    ends = [] if listed is None else listed if isinstance(listed, list | tuple) else [listed]
    if not all(isinstance(end, int) and not isinstance(end, bool) and end >= 0 for end in ends):
        raise DataError(
            "an end token is given by its number",
            where="generation_config.json, eos_token_id",
            value=listed,
            allowed="a token's number, or a list of them",
            do="correct the file, or delete it: the tokenizer's own end token is used then",
        )
    return frozenset(ends)


def end_tokens(model: object, template: Template) -> frozenset[int]:
    """Return every token that ends an answer of a model that is asked through this template.

    Of those that the model's configuration lists, one beyond its vocabulary ends nothing, and a warning says so.
    """
    listed = listed_ends(getattr(model, "generation_config", None))
    size = vocabulary_size(model)
    if size is not None and (beyond := [end for end in sorted(listed) if end >= size]):
        said = f"eos_token_id of generation_config.json or config.json lists {beyond[0]:,}"
        warnings.warn(f"{said}, and the model has {size:,} tokens: it ends no answer", EndTokenWarning, stacklevel=2)
    ends = template.ends | {end for end in listed if size is None or end < size}
    closing = turn_end(template, ends)
    return ends if closing is None else ends | {closing[0]}


def vocabulary_size(model: object) -> int | None:
    """Return how many tokens a model has embeddings of; None: its configuration does not say."""
    config: Any = getattr(model, "config", None)
    part = config.get_text_config() if hasattr(config, "get_text_config") else config
    return getattr(part, "vocab_size", None)


def turn_end(template: Template, ends: Collection[int]) -> tuple[int, int] | None:
    """Return the token that the template ends an answer with, and how often it stands in the template's tail.

    It is the first of `ends` in the tail, else the first special token there; None where there is neither.
    """
    ids = template.specials.ids
    found = [ids[name] for name in template.specials.pattern.findall(template.tail)]
    chosen = next((i for i in found if i in ends), found[0] if found else None)
    return None if chosen is None else (chosen, found.count(chosen))


def ended(completion: Ids, template: Template, tokenizer: PreTrainedTokenizerBase) -> Ids:
    """Return a completion up to the token that ends it.

    What a chat template writes behind that token (a line break) is left out. Where there is no such token the
    tokenizer's end token is added, unless the text ends with an end token by itself, but for blanks.
    """
    closing = turn_end(template, template.ends)
    if closing is not None:
        token, times = closing
        places = [place for place, found in enumerate(completion) if found == token]
        if len(places) >= times:
            return completion[: places[-times] + 1]
    if not template.ends.isdisjoint(completion):
        last = max(place for place, found in enumerate(completion) if found in template.ends)
        if not str(tokenizer.decode(list(completion[last + 1 :]))).strip():
            return completion[: last + 1]
    return (*completion, tokenizer.eos_token_id)
