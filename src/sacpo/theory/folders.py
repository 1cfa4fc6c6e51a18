"""A plan from judged folders: no model is loaded, and nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sacpo.data.records import Verdict, read_jsonl
from sacpo.errors import RecipeError, RunError
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.metrics import METRICS, metric_key
from sacpo.stats.verdicts import unique
from sacpo.system.files import write_json
from sacpo.theory.forecast import Bound, forecast
from sacpo.theory.frontier import LEAST_ESS, realised, rounded
from sacpo.theory.judged import Score, samples_of, scores_of
from sacpo.theory.multipliers import solve
from sacpo.theory.optimum import self_normalised

VERDICTS, PLAN = "verdicts.jsonl", "plan.json"


def plan_strength(
    judged: str | Path,
    constraints: Sequence[JsonMapping],
    *,
    criterion: str = "harmlessness",
    score: JsonMapping | None = None,
    reward: str | None = None,
    before: str | Path | None = None,
    strength: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
) -> JsonObject:
    """Predict what a step would reach at every strength, and recommend one, before it is trained.

    Args:
        judged: A folder of `judge` with several answers of the model that the step starts from to each prompt, each
            judged alone; of a run `stages/plan/judged/MODEL/PROMPTS`.
        constraints: What is to be reached: `metric` (unsafe_rate, over_refusal_rate or mean_score), `criterion` of
            mean_score, and `at_most` (rates) or `at_least` (scores). Mean scores of several criteria are planned
            together, one step each.
        criterion: Whose score the step raises.
        score: `scale`, the factor that makes logits of the preference data of it; `labels`: make it of labels, as
            log-odds of the votes, which only order answers; `least` and `most`, what it may be before the factor.
        reward: The criterion that the step before raised, to be predicted too.
        before: A judged folder of what the step before started from: corrects by the share of its tilt that it
            realised.
        strength: The step before's beta; needed with `before`.
        seed: Of the bootstrap.
        out: A folder for plan.json.

    Returns:
        What `sacpo.theory.forecast.forecast` returns; with mean scores of several criteria also `joint`.

    Raises:
        UserError: The folder or the verdicts do not allow it, or a bound is none that samples tell of.
    """
    if (before is None) != (strength is None) or (before is not None and reward is None):
        raise RecipeError(
            "a correction needs the folder of the step before's start, its criterion and its strength",
            where="before",
            do="give 'before', 'reward' and 'strength' together, or none of them",
        )
    verdicts, raising = _verdicts(judged), Score({criterion: 1.0}, **(score or {}))
    raised = None if reward is None else Score({reward: 1.0})
    samples = samples_of(verdicts, raising, raised)
    joint = [c for c in constraints if c["metric"] == "mean_score"]
    together = len({c["criterion"] for c in joint}) > 1
    own = [c for c in constraints if not together or c["metric"] != "mean_score" or c["criterion"] == criterion]
    bounds = [_bound(constraint, raising) for constraint in own]
    if not constraints:
        raise RecipeError(
            "nothing says what is to be reached", where="constraints", do="give --at-most unsafe_rate=0.05"
        )
    told = None
    if before is not None and raised is not None and strength is not None:
        told = realised(scores_of(_verdicts(before), raised), float(samples.bank.rewards.mean()), strength)
    found = forecast(samples, bounds, told, seed)
    shape = samples.bank.safeties.shape
    found = {"prompts": shape[0], "samples": shape[1], "score": raising.criterion, "scale": raising.scale, **found}
    if together:
        found["joint"] = _joint(verdicts, joint, raising.labels)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_json(Path(out) / PLAN, found)
    return found


def _verdicts(folder: str | Path) -> list[Verdict]:
    path = Path(folder) / VERDICTS
    if not path.is_file():
        raise RunError(
            "no verdicts in this folder",
            where=folder,
            do="give a folder that 'judge' wrote, or stages/plan/judged/MODEL/PROMPTS of a run",
        )
    found = read_jsonl(path, Verdict)
    unique(found)  # two different verdicts on one question are refused
    return found


def _bound(constraint: JsonMapping, score: Score) -> Bound:
    """Return a constraint as a bound on what samples tell.

    Raises:
        RecipeError: They do not tell of it, or its bound is on the other side or out of range.
    """
    metric, criterion = constraint["metric"], constraint.get("criterion")
    side = "at_least" if metric == "mean_score" else "at_most"
    if metric not in ("unsafe_rate", "over_refusal_rate", "mean_score") or constraint.get(side) is None:
        raise RecipeError(
            "samples of one model do not tell of this bound",
            where="constraints",
            value=dict(constraint),
            allowed="unsafe_rate or over_refusal_rate at most, mean_score/CRITERION at least",
            do="bound one of these",
        )
    value = float(constraint[side])
    if METRICS[metric].rate and not 0 < value < 1:
        raise RecipeError(
            "a bound on a rate is a fraction",
            where=metric,
            value=value,
            allowed="above 0 and below 1",
            do="0.05 is 5 %",
        )
    key = metric_key(metric, criterion)
    if metric == "mean_score":
        return Bound(key, "E_g" if score.is_of(criterion) else None, value * score.scale)
    return Bound(key, metric, value)


def _joint(verdicts: Sequence[Verdict], constraints: Sequence[JsonMapping], labels: bool) -> JsonObject:
    """Return the strengths of one step a criterion that meet all bounds on mean scores together (the vector dual).

    Raises:
        DataError: The bounds contradict each other on these samples.
    """
    names = [c["criterion"] for c in constraints]
    scores = np.array([scores_of(verdicts, Score({name: 1.0}, labels=labels)) for name in names])
    uniform = np.full(scores.shape[1:], 1 / scores.shape[2])
    bounds = [float(c["at_least"]) for c in constraints]
    etas = solve(uniform, np.zeros_like(uniform), scores, bounds, beta=1.0).multipliers
    weights = self_normalised(np.tensordot(etas, scores, 1))
    ess = float((1 / (weights**2).sum(1)).mean())
    return {
        "strengths": {name: rounded(1 / eta) if eta > 0 else None for name, eta in zip(names, etas, strict=True)},
        "mean_scores": {name: float((weights * g).sum(1).mean()) for name, g in zip(names, scores, strict=True)},
        "ess": ess,
        "believable": ess >= LEAST_ESS,
    }
