"""The kinds of judges that a recipe can name, one file each.

A kind is a module here, named as the recipe's `kind` (with `_` for `-`), with

    make(parts) -> Judge              the judge of a criterion
    scores(parts) -> ScoreFunction    where it gives scores, so that it can label sampled pairs

What its judges may say of answers is in `sacpo.recipe.schema.JUDGES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import cast

from sacpo.errors import RecipeError
from sacpo.judging.llm.budget import Budget, Usage
from sacpo.judging.llm.store import Store
from sacpo.judging.question import Judge
from sacpo.judging.rubric import Rubric
from sacpo.judging.scored import ScoreFunction
from sacpo.recipe.schema import BaseSpec, JudgeSpec
from sacpo.system.progress import QUIET, Progress
from sacpo.world import World


@dataclass(frozen=True)
class Bench:
    """What judges work with and no verdict depends on.

    Attributes:
        store: The SQLite file of paid verdicts; None: there is none.
        budget: What language models may use as judges in this command.
        spent: What they have used; each panel adds its own.
        progress: Where to show what is going on.
        again: The unparsed verdicts of the store that this command asks again; see `Store`.
    """

    store: Path | None = None
    budget: Budget = field(default_factory=Budget)
    spent: list[Usage] = field(default_factory=list)
    progress: Progress = QUIET
    again: dict[str, int] = field(default_factory=dict)

    def ask_again(self) -> None:
        """Let this command ask again what could not be read; verdicts stay until others take their place."""
        if self.store is not None and self.store.is_file():
            with Store(self.store) as kept:
                self.again.update(kept.unparsed())


@dataclass(frozen=True)
class Parts:
    """What a judge is made from.

    Attributes:
        criterion: What it judges by.
        spec: What the recipe says.
        base: Template, dtype, device and consent to remote code.
        model: Hub id or folder of the model that scores, where the kind has one.
        world: The world, where there is one.
        rubric: What language models judge by.
        bench: What it works with.
    """

    criterion: str
    spec: JudgeSpec
    base: BaseSpec
    model: str | Path | None = None
    world: World | None = None
    rubric: Rubric | None = None
    bench: Bench = Bench()


def kinds() -> list[str]:
    """Return the names of all kinds."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__))


def make_judge(parts: Parts) -> Judge:
    """Return the judge of a criterion."""
    return cast(Judge, _function(parts, "make")(parts))


def make_scores(parts: Parts) -> ScoreFunction:
    """Return the scores of a criterion's judge.

    Raises:
        RecipeError: Judges of this kind give no scores.
    """
    return cast(ScoreFunction, _function(parts, "scores")(parts))


def _function(parts: Parts, name: str) -> Callable[[Parts], object]:
    module = _module(parts.spec.kind)
    if not hasattr(module, name):
        able = [f"'{kind}'" for kind in kinds() if hasattr(_module(kind), name)]
        raise RecipeError(
            "judges of this kind give no scores",
            where=f"evaluate.judges.{parts.criterion}.kind",
            value=parts.spec.kind,
            do=f"name a judge that scores: {' or '.join(able)}",
        )
    found: Callable[[Parts], object] = getattr(module, name)
    return found


def _module(kind: str) -> ModuleType:
    return import_module(f"{__name__}.{kind.replace('-', '_')}")
