"""`kind: reward-model`: a sequence classifier with one logit, from outside or trained in the run."""

from __future__ import annotations

from sacpo.judging.kinds import Parts
from sacpo.judging.question import Judge
from sacpo.judging.reward_model import reward_model_scores
from sacpo.judging.scored import ScoredJudge, ScoreFunction


def make(parts: Parts) -> Judge:
    """Return a judge by the model's scores."""
    return ScoredJudge(parts.spec.kind, parts.criterion, scores(parts))


def scores(parts: Parts) -> ScoreFunction:
    """Return the model's scores."""
    assert parts.model is not None
    spec = parts.spec
    # consent is given per model: the base's holds for what was trained from it, and where the base is this very model
    own = spec.model is not None and spec.model != parts.base.model
    return reward_model_scores(
        parts.model,
        parts.base,
        sign=spec.sign,
        max_length=spec.max_length,
        batch_size=spec.batch_size,
        unsafe_below=spec.unsafe_below,
        revision=spec.revision,
        trust_remote_code=spec.trust_remote_code if own else parts.base.trust_remote_code,
    )
