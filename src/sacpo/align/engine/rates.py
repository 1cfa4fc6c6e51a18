"""Learning rates: that of a model's head, where it is to be another than that of all other weights."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import Optimizer

from sacpo.errors import RecipeError

OWN_STEPS = ("lomo", "adalomo")
"""Optimisers that step while gradients are computed, with one rate for all."""


def check_rate(policy: nn.Module, rate: float | None, place: str, *, given: object = None) -> None:
    """Check that a model's head can have a rate of its own.

    Args:
        policy: The model; of a peft model, the model in it.
        rate: The head's; None: that of all weights.
        place: The training, for messages.
        given: An optimiser that is given.

    Raises:
        RecipeError: It is no rate, there is no head or none of it is trained, or the optimiser is given.
    """
    if rate is None:
        return
    where = f"{place}, head_learning_rate"
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise RecipeError("this is no learning rate", where=where, value=rate, allowed="a number above 0")
    if given is not None:
        raise RecipeError(
            "an optimiser that is given has its own rates",
            where=where,
            value=rate,
            do="leave it out, and give the optimiser a group of the head's weights",
        )
    if not _head_weights(policy):
        raise RecipeError(
            f"the model has no {'head' if _head(policy) is None else 'trained weight in its head'} to give a rate",
            where=where,
            value=rate,
            do="leave it out, or train the head; with LoRA target_modules (an adapter) or modules_to_save (all of it) "
            "can name it",
        )


def refuse_deepspeed(rate: float | None) -> None:
    """Refuse a rate of the head's where DeepSpeed makes the optimiser.

    Raises:
        RecipeError: There is one.
    """
    if rate is not None:
        raise RecipeError(
            "DeepSpeed makes the optimiser in its own way, with one rate for all weights",
            where="head_learning_rate",
            value=rate,
            do="leave it out, or launch with DDP or FSDP2",
        )


def give_rate(optimizer: Optimizer, policy: nn.Module, rate: float) -> None:
    """Give a model's head a learning rate of its own, in groups behind the others; all else of its groups it keeps.

    Of an adapter on the head it is the adapter that has it; where embeddings are tied, the input ones have it, too.

    Raises:
        RecipeError: The optimiser does not hold all of the head's weights in groups with rates.
    """
    own = {id(weight) for weight in _head_weights(policy)}
    kind = type(optimizer).__name__
    for group in list(optimizer.param_groups):
        theirs = [weight for weight in group["params"] if id(weight) in own]
        if theirs:
            group["params"] = [weight for weight in group["params"] if id(weight) not in own]
            optimizer.add_param_group({**group, "params": theirs, "lr": rate})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    if not own <= held or kind.lower() in OWN_STEPS:
        raise RecipeError(
            "this optimiser has one rate for all weights",
            where="head_learning_rate",
            value=kind,
            do="leave it out, or choose another optim, such as adamw_torch",
        )


def _head(policy: nn.Module) -> nn.Module | None:
    """Return what turns a model's last hidden states into logits, or into a reward."""
    found: nn.Module | None = getattr(policy, "get_output_embeddings", lambda: None)()
    return getattr(policy, "score", None) if found is None else found


def _head_weights(policy: nn.Module) -> list[nn.Parameter]:
    found = _head(policy)
    return [] if found is None else [weight for weight in found.parameters() if weight.requires_grad]
