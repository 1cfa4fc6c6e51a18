"""`kind: llm`: language models behind endpoints, by a rubric; the whole run shares one store of verdicts."""

from __future__ import annotations

from sacpo.errors import RecipeError
from sacpo.judging.kinds import Parts
from sacpo.judging.llm.judge import LlmJudgeConfig
from sacpo.judging.llm.panel import Panel
from sacpo.judging.llm.specs import asking_of
from sacpo.judging.ratings import rated
from sacpo.judging.rubric import Form
from sacpo.judging.scored import ScoreFunction


def make(parts: Parts) -> Panel:
    """Return the panel of a criterion."""
    spec, bench = parts.spec, parts.bench
    assert parts.rubric is not None and bench.store is not None
    return Panel(
        [LlmJudgeConfig(judge, parts.rubric) for judge in spec.judges],
        bench.store,
        asking=asking_of(spec, bench.budget),
        spent=bench.spent,
        progress=bench.progress,
        again=bench.again,
    )


def scores(parts: Parts) -> ScoreFunction:
    """Return the panel's mean ratings; what it was told stays in the store.

    Raises:
        RecipeError: The rubric rates no single answers.
    """
    assert parts.rubric is not None
    if parts.rubric.kind is not Form.RATING:
        raise RecipeError(
            "this judge's rubric gives no scores of single answers",
            where=f"evaluate.judges.{parts.criterion}.rubric",
            value=parts.rubric.name,
            do="name a rubric of kind rating: helpfulness-rating, harmlessness-rating, or your own",
        )
    return rated(make(parts))
