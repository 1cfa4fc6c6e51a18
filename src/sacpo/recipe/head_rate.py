"""What a learning rate of its own for a model's head needs."""

from __future__ import annotations

from sacpo.errors import RecipeError
from sacpo.plain import JsonMapping
from sacpo.recipe.schema import LoraSpec


def check_head_rate(options: JsonMapping, where: str, lora: LoraSpec | None) -> None:
    """Check that a training with a rate for the head trains the head, and makes its optimiser here.

    Args:
        options: All options of the training.
        where: The training, for messages.
        lora: What adapters it trains; None: all weights.

    Raises:
        RecipeError: The adapters leave the head alone, or DeepSpeed makes the optimiser.
    """
    rate = options.get("head_learning_rate")
    if rate is None:
        return
    if options.get("deepspeed"):
        raise RecipeError(
            "DeepSpeed makes the optimiser in its own way, with one rate for all weights",
            where=f"{where}, head_learning_rate",
            value=rate,
            do="leave out head_learning_rate or deepspeed; fsdp goes with it",
        )
    if lora is None or lora.modules_to_save or lora.bias != "none":
        return
    if lora.target_modules is None or str(lora.target_modules).lower() == "all-linear":
        raise RecipeError(
            "these adapters leave the head as it is, so it has no rate",
            where=f"{where}, head_learning_rate",
            value=rate,
            do="leave it out, also of the recipe's training; or name the head in lora.target_modules (an adapter) "
            "or lora.modules_to_save (all of it)",
        )
