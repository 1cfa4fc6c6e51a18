"""Make a language model as helpful as possible under a safety constraint, and show that it is.

`load_recipe` and `run` do a whole experiment; `sacpo.api` has its stages, each on files of its own;
`PreferenceTrainer` is one step, called as TRL's trainers are. Everything is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sacpo._version import __version__

if TYPE_CHECKING:
    from sacpo.pipeline.run import Run, plan, run
    from sacpo.recipe import Recipe, load_recipe, parse_recipe
    from sacpo.trl.trainer import PreferenceConfig, PreferenceTrainer

__all__ = [
    "PreferenceConfig",
    "PreferenceTrainer",
    "Recipe",
    "Run",
    "__version__",
    "load_recipe",
    "parse_recipe",
    "plan",
    "run",
]

_WHERE = {
    **dict.fromkeys(("PreferenceConfig", "PreferenceTrainer"), "sacpo.trl.trainer"),
    **dict.fromkeys(("Run", "plan", "run"), "sacpo.pipeline.run"),
    **dict.fromkeys(("Recipe", "load_recipe", "parse_recipe"), "sacpo.recipe"),
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'sacpo' has no attribute '{name}'")
    return getattr(import_module(_WHERE[name]), name)
