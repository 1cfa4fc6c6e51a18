"""Token trees, and the rows of tensors that a model's forward pass takes them in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from sacpo.errors import DataError


@dataclass(frozen=True)
class Tree:
    """A prompt and the completions that continue it, as token ids.

    Attributes:
        prompt: At least one token, whose hidden state predicts the first token of every completion.
        completions: At least one.

    Raises:
        DataError: There is no prompt token or no completion.
    """

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.prompt:
            raise DataError(
                "a prompt has no tokens, so nothing predicts the first token of its completions",
                allowed="at least one token",
                do="use a template that adds text or a begin-of-sequence token",
            )
        if not self.completions:
            raise DataError("a prompt has no completions", value=self.prompt, allowed="at least one completion")

    def __len__(self) -> int:
        """Return the tokens when the prompt is laid out once."""
        return len(self.prompt) + sum(map(len, self.completions))


@dataclass
class Rows:
    """What a model's forward pass needs, and where the completions' tokens are predicted.

    A token at column k of a row is visible to the queries of columns k to `visible_until` - 1. One number a token says
    all about a row of prompts with branches: a token is visible to the end of the last branch that continues it, be it
    of the prompt or what several completions begin with. Sliding windows follow from the position ids.

    Attributes:
        input_ids: Shape: (rows, width) long.
        position_ids: Position in its own sequence; branches continue their prompt. Shape: (rows, width) long.
        attention_mask: 1 for tokens, 0 for padding. Shape: (rows, width) long.
        visible_until: See above; None when every row is one plain sequence. Shape: (rows, width) long.
        blocks: Columns of the blocks of trees that one row consists of, where attention goes block by block; else None.
        past: Where each block continues a prompt in another row: the first column there, and the one behind the last.
        past_width: The columns of that row.
        source: Flat index, row x width + column, of the hidden state that predicts each target. Shape: (targets,) long.
        targets: Token ids of the completions, in order. Shape: (targets,) long.
        owner: Which completion, in the trees' order, a target belongs to; never decreases. Shape: (targets,) long.
        own: Flat index of each target itself; completions that begin alike share columns. Shape: (targets,) long.
        before: Flat index of the last token of each completion's prompt. Shape: (completions,) long.
        n_completions: Completions of all trees.
        longest: Tokens of the longest sequence, prompt and one completion.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor
    source: torch.Tensor
    targets: torch.Tensor
    owner: torch.Tensor
    own: torch.Tensor
    before: torch.Tensor
    n_completions: int
    longest: int
    visible_until: torch.Tensor | None = None
    blocks: tuple[int, ...] | None = None
    past: tuple[tuple[int, int], ...] | None = None
    past_width: int = 0

    @property
    def shared(self) -> bool:
        """Whether a row holds more than one plain sequence, so that a model needs a mask of its own."""
        return self.visible_until is not None

    def to(self, device: torch.device | str) -> Rows:
        """Return the rows on a device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        moved: dict[str, Any] = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
        return replace(self, **moved)
