"""What a training minimises, apart from how: the seam between the trainer and SFT, DPO, KTO and reward models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import torch
from transformers import PreTrainedModel

from sacpo.data.packing import Rows, Tree

T = TypeVar("T")
Forward = Callable[[Callable[[PreTrainedModel], T]], T]
"""Calls a function of the bare model inside autocast and whatever wraps the model (DDP, FSDP)."""

Metrics = dict[str, tuple[torch.Tensor, int]]
"""name -> (sum over the things counted, how many there were)."""


@dataclass
class Batch:
    """One device batch: what `Objective.collate` made of some records.

    Attributes:
        indices: The records, by position.
        rows: Their tokens.
        units: How many terms the loss is a mean over (pairs, completions or target tokens), whatever the rows' shape;
            0 where it only keeps a process in step with the others.
        tokens: Tokens of the rows without padding.
        tensors: One value a record or completion: reference log-probs, labels, ...
    """

    indices: list[int]
    rows: Rows
    units: int
    tokens: int
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return replace(self, rows=self.rows.to(device), tensors=tensors)

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class FirstLoss:
    """What the mean loss over all records is while the policy is its reference.

    Attributes:
        value: The number.
        text: How a formula writes it.
    """

    value: float
    text: str


class Objective(Protocol):
    """A loss over records; its mean over units is minimised."""

    @property
    def ids(self) -> Sequence[str]:
        """The records' ids, in order."""

    @property
    def trees(self) -> Sequence[Tree]:
        """The records' tokens, in order."""

    @property
    def pair_groups(self) -> Sequence[int] | None:
        """Which neighbours stay neighbours in a random order, see `EpochShuffle`; None: none do."""

    @property
    def first_loss(self) -> FirstLoss | None:
        """The loss while the policy is its reference; None: there is no reference."""

    def collate(self, indices: list[int]) -> Batch:
        """Lay the records at these positions out as a batch on the CPU."""

    def prepare(self, batches: Sequence[Batch], forward: Forward[torch.Tensor], gather: Gather) -> None:
        """Compute what the device batches of one optimiser step share, without gradient."""

    def loss(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, Metrics]:
        """Return the SUM of the loss over the batch's units, and metrics."""

    def start_gaps(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return what must be zero while the policy is its reference, and the log-probs it came from; None: nothing.

        Shape: (records,) and (completions,), in nats.
        """


Gather = Callable[[torch.Tensor], torch.Tensor]
"""Concatenates a one-dimensional tensor over all processes."""
