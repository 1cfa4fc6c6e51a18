"""Judging by language models: rubrics, messages, replies, a store of verdicts, budgets and endpoints."""

from sacpo.judging.budget import Budget, CostEstimate, Price, Usage
from sacpo.judging.files import judge_files
from sacpo.judging.judge import LlmJudge
from sacpo.judging.rubric import Rubric, builtin_rubrics, load_rubric
from sacpo.judging.run import JudgeRun, Missing, judge_llm
from sacpo.judging.store import Store

__all__ = [
    "Budget",
    "CostEstimate",
    "JudgeRun",
    "LlmJudge",
    "Missing",
    "Price",
    "Rubric",
    "Store",
    "Usage",
    "builtin_rubrics",
    "judge_files",
    "judge_llm",
    "load_rubric",
]
