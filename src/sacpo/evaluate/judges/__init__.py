"""Judges: what says whether an answer is better than the baseline's, safe, or a refusal.

`reward_model` is imported on its own, because it needs torch.
"""

from sacpo.evaluate.judges.labels import LabelJudge
from sacpo.evaluate.judges.question import Judge, Question, verdict_on
from sacpo.evaluate.judges.refusal import RefusalJudge, refusal_label
from sacpo.evaluate.judges.scored import Score, ScoredJudge, ScoreFunction

__all__ = [
    "Judge",
    "LabelJudge",
    "Question",
    "RefusalJudge",
    "Score",
    "ScoreFunction",
    "ScoredJudge",
    "refusal_label",
    "verdict_on",
]
