"""Learning rates: that of a model's head, where it is to be another than that of all other weights."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from sacpo.errors import RecipeError


def head_weights(policy: nn.Module, place: str) -> list[nn.Parameter]:
    """Return the trained weights of what turns a model's last hidden states into logits, or into a reward.

    Of an adapter on the head they are the adapter's; where input and output embeddings are tied they are both.

    Args:
        policy: The model; of a peft model, the model in it.
        place: The training, for messages.

    Raises:
        RecipeError: There is no such part, or none of it is trained.
    """
    found = getattr(policy, "get_output_embeddings", lambda: None)() or getattr(policy, "score", None)
    weights = [] if found is None else [weight for weight in found.parameters() if weight.requires_grad]
    if not weights:
        raise RecipeError(
            f"the model has no {'head' if found is None else 'trained weight in its head'}, so it has no rate",
            where=f"{place}, head_learning_rate",
            do="leave it out; with LoRA an adapter for the head is trained where modules_to_save or target_modules "
            "name it (lm_head)",
        )
    return weights


def give_rate(optimizer: Optimizer, weights: list[nn.Parameter], rate: float) -> None:
    """Give weights a learning rate of their own, in groups behind the others; all else of their groups they keep."""
    own = {id(weight) for weight in weights}
    for group in list(optimizer.param_groups):
        theirs = [weight for weight in group["params"] if id(weight) in own]
        if theirs:
            group["params"] = [weight for weight in group["params"] if id(weight) not in own]
            optimizer.add_param_group({**group, "params": theirs, "lr": rate})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
