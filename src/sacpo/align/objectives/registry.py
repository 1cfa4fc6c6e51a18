"""The algorithms, one module here each, named as the recipe's `algorithm`, with

    make(parts) -> (objective, counts)     the loss over a step's records, and counts for the summary

What a recipe knows of them (records, options, help) is in `sacpo.recipe.algorithms`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from transformers import PreTrainedTokenizerBase

from sacpo.align.job import TrainingJob
from sacpo.align.objectives.objective import Objective
from sacpo.align.reference.source import Reference
from sacpo.data.templates import Template
from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.recipe.schema import StepSpec

PACKAGE = "sacpo.align.objectives"
Made = tuple[Objective, JsonObject]


@dataclass(frozen=True)
class Parts:
    """What an objective is made from.

    Attributes:
        job: Where to start and how to train.
        step: The algorithm and its options.
        beta: The strength.
        records: Pairs or labelled completions.
        tokenizer: The policy's tokenizer.
        reference: Gives log-probs and the row layout.
        training: The training's objective, where this one is for held-out records.
    """

    job: TrainingJob
    step: StepSpec
    beta: float
    records: Sequence[Any]
    tokenizer: PreTrainedTokenizerBase
    reference: Reference
    training: Objective | None = None

    @property
    def template(self) -> Template:
        """How prompts are rendered."""
        return self.job.template(self.tokenizer)

    def require(self, kind: type, algorithm: str, allowed: str) -> None:
        """Check that all records are of a kind.

        Raises:
            DataError: One is not; `algorithm` and `allowed` are for the message.
        """
        wrong = next((record for record in self.records if not isinstance(record, kind)), None)
        if wrong is not None:
            raise DataError(
                f"{algorithm} cannot learn from this kind of record",
                where=getattr(wrong, "source", None) or None,
                value=type(wrong).__name__,
                allowed=allowed,
                do=f"give {allowed.split(';')[0]}",
            )


def make_objective(parts: Parts) -> Made:
    """Return a step's loss over its records, with their reference log-probs, and counts for the summary."""
    make: Callable[[Parts], Made] = import_module(f"{PACKAGE}.{parts.step.algorithm}").make
    return make(parts)


def algorithms() -> list[str]:
    """Return the names of the modules here that make an objective."""
    names = [module.name for module in iter_modules(import_module(PACKAGE).__path__)]
    return sorted(name for name in names if hasattr(import_module(f"{PACKAGE}.{name}"), "make"))
