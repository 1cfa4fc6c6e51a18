"""`kind: oracle`: the world's own score or label."""

from __future__ import annotations

from sacpo.errors import RecipeError
from sacpo.judging.kinds import Parts
from sacpo.judging.labels import LabelJudge
from sacpo.judging.question import Judge
from sacpo.judging.scored import Score, ScoredJudge, ScoreFunction
from sacpo.world import World
from sacpo.world.facts import SCORES


def make(parts: Parts) -> Judge:
    """Return the world as a judge; of refusals it gives labels, of other criteria scores."""
    if parts.criterion == "refusal":
        assert parts.world is not None
        return LabelJudge("oracle", parts.criterion, parts.world.refusal)
    return ScoredJudge("oracle", parts.criterion, scores(parts))


def scores(parts: Parts) -> ScoreFunction:
    """Return the world's scores; errors as of `world_scores`."""
    assert parts.world is not None
    return world_scores(parts.world, parts.criterion)


def world_scores(world: World, criterion: str) -> ScoreFunction:
    """Return a world's own score of a criterion.

    Raises:
        RecipeError: The world knows no such criterion.
    """
    if criterion == "harmlessness":
        return lambda pairs: [Score(world.safety(prompt, text), world.label(prompt, text)) for prompt, text in pairs]
    if criterion in SCORES:
        return lambda pairs: [Score(world.score(criterion, prompt, text)) for prompt, text in pairs]
    raise RecipeError(
        "the world's oracle scores no such criterion",
        where=f"evaluate.judges.{criterion}",
        value=criterion,
        allowed=[*SCORES],
    )
