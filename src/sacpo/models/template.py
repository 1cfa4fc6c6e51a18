"""A model's tokenizer, and the template by which it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sacpo.data.templates import Template, make_template
from sacpo.models.loading import load_tokenizer
from sacpo.models.tokens import generation_ends
from sacpo.recipe.schema import BaseSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenizer_and_template(
    path: str | Path, revision: str | None, base: BaseSpec
) -> tuple[PreTrainedTokenizerBase, Template]:
    """Return a model's tokenizer and the prompt template in it.

    Args:
        path: Hub id or folder.
        revision: The hub revision.
        base: The template, and consent to remote code.

    Raises:
        ModelError: There is no such tokenizer, or it has no such template.
    """
    tokenizer = load_tokenizer(path, revision=revision, trust_remote_code=base.trust_remote_code)
    ends, allowed = generation_ends(path, revision), base.special_tokens_in_text
    return tokenizer, make_template(base.template, tokenizer, ends=ends, special_tokens_in_text=allowed)
