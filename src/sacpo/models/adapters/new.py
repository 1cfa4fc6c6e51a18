"""What is refused about a new adapter's options: what peft would accept and ignore."""

from __future__ import annotations

import re

from torch import nn

from sacpo.errors import RecipeError
from sacpo.models.adapters.folder import moves_base

PEFT_ERRORS = (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, re.error)
"""What peft raises for options that it cannot use."""
NAMES = ("target_modules", "modules_to_save", "exclude_modules", "rank_pattern", "alpha_pattern")


def check_new(model: nn.Module, options: object, where: str) -> None:
    """Refuse options of a new adapter of which nothing would come; call it before the adapter is made.

    Args:
        model: What the adapter will stand on.
        options: peft's configuration, or options under its names.
        where: What the message calls them.

    Raises:
        RecipeError: A name matches no module, or dropout drops everything.
    """
    dropout = getattr(options, "lora_dropout", 0.0)
    if isinstance(dropout, int | float) and not 0 <= dropout < 1:
        raise RecipeError(
            "dropout of 1 drops all that the adapter would learn from" if dropout == 1 else "no probability of dropout",
            where=f"{where}.lora_dropout",
            value=dropout,
            allowed="at least 0, below 1",
            do="correct it",
        )
    modules = [name for name, _ in model.named_modules() if name]
    for option in NAMES:
        names = getattr(options, option, None) or ()
        if isinstance(names, str):
            continue  # a regular expression, or "all-linear"
        lost = [name for name in names if not _matches(name, modules, as_pattern=option.endswith("pattern"))]
        if lost and not (option == "target_modules" and len(lost) == len(names)):  # of that peft tells
            _refuse(f"{where}.{option}", lost[0], modules)


def check_start(options: object, where: str, *, own_reference: bool) -> None:
    """Refuse first weights of an adapter whose model could not be loaded again, or is not its own reference.

    Raises:
        RecipeError: They change the base by more than follows from it, or begin away from it.
    """
    start = getattr(options, "init_lora_weights", True)
    if start is False and own_reference:
        reason = "the adapter's first weights change the model, so the policy would not begin at its reference"
    elif moves_base(start) and str(start).lower() not in ("pissa", "olora"):
        reason = "the adapter's first weights change the base in a way that cannot be made again when it is loaded"
    else:
        return
    raise RecipeError(
        reason,
        where=f"{where}.init_lora_weights",
        value=start,
        allowed="True, 'gaussian', 'orthogonal', 'eva', 'pissa', 'olora'",
        do="leave it out, or choose one of these",
    )


def _matches(name: str, modules: list[str], *, as_pattern: bool) -> bool:
    pattern = re.compile(rf"(.*\.)?{name if as_pattern else re.escape(name)}")
    return any(pattern.fullmatch(module) for module in modules)


def _refuse(where: str, name: str, modules: list[str]) -> None:
    last = {module.rsplit(".", 1)[-1] for module in modules}
    raise RecipeError(
        "a name matches no module of the model",
        where=where,
        value=name,
        allowed=sorted(part for part in last if not part.isdigit() and part not in ("base_layer", "default")),
        do="correct it, or leave it out",
    )
