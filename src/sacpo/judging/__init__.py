"""Judging by language models: rubrics, messages, replies, a store of verdicts, budgets and endpoints."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sacpo.judging.llm.budget import Budget, CostEstimate, Price, Usage
from sacpo.judging.llm.judge import LlmJudgeConfig
from sacpo.judging.rubric import Rubric, builtin_rubrics, load_rubric

if TYPE_CHECKING:
    from sacpo.judging.llm.plan import Asking
    from sacpo.judging.llm.run import JudgeRun, Missing, judge_llm
    from sacpo.judging.llm.store import Store

__all__ = [
    "Asking",
    "Budget",
    "CostEstimate",
    "JudgeRun",
    "LlmJudgeConfig",
    "Missing",
    "Price",
    "Rubric",
    "Store",
    "Usage",
    "builtin_rubrics",
    "judge_llm",
    "load_rubric",
]

_WHERE = {
    **dict.fromkeys(("JudgeRun", "Missing", "judge_llm"), "llm.run"),
    "Asking": "llm.plan",
    "Store": "llm.store",
}


def __getattr__(name: str) -> object:  # checks of recipes import this package for its rubrics alone, in under a second
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
