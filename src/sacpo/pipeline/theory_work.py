"""Work of the theory stage: the optimum from SFT samples, and how far each model is from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sacpo.answer.generate import ANSWERS
from sacpo.data.records import Answer, Kind
from sacpo.pipeline.data_work import prompts_of
from sacpo.pipeline.evaluation_work import oracle, sampled_answers, samples_of
from sacpo.pipeline.stages import At
from sacpo.pipeline.study import Study
from sacpo.recipe.models import MergedModel, StepModel
from sacpo.recipe.schema import SFT, TheorySpec
from sacpo.system.runs import write_json
from sacpo.theory.optimum import Bank, alarm, curve, kl_to_optimum, optimum

THEORY = "theory.json"
STRENGTHS = (4.0, 2.0, 1.0, 0.7, 0.5, 0.35, 0.25, 0.175, 0.125, 0.1)
"""Strengths beta/lambda at which the optimum's curve is drawn, beside the target's."""


@dataclass(frozen=True)
class _Samples:
    """One model's samples: log pi - log pi_sft, r* and g* of each, and each prompt's cluster."""

    log_ratio: list[float]
    rewards: list[float]
    safeties: list[float]
    clusters: list[str]


def theory(study: Study, out: Path, at: At) -> None:
    """Estimate the optimum's curve and every model's distance from its own optimum and from the common target."""
    spec = study.recipe.theory
    assert spec is not None
    prompts = prompts_of(at(f"prompts/{spec.prompts}"))[: spec.max_prompts]
    answers = sampled_answers(study, SFT, prompts, spec.answers, ("theory",), out, at)
    bank = make_bank(study, spec, answers, len(prompts))
    target = {"beta": spec.beta, "lam": spec.beta / spec.target}
    aim = optimum(bank, **target)
    distances: dict[str, Any] = {}
    for name in study.evaluated:
        samples = _samples(study, spec, name, len(prompts), at)
        part = len(samples.log_ratio)
        found: dict[str, Any] = {"target": _distance(samples, aim.log_z[:part], **target)}
        own = nominal_multiplier(study, spec, name)
        if own is not None:
            strengths = {"beta": own[0], "lam": own[1]}
            found["own"] = _distance(samples, optimum(bank, **strengths).log_z[:part], **strengths)
            found["own_alarm"] = alarm(bank, **strengths)
        distances[name] = found
    points = curve(bank, sorted({*STRENGTHS, spec.target}, reverse=True), beta=spec.beta)
    write_json(
        out / THEORY,
        {
            "curve": [point.to_point(spec.reward, spec.safety) for point in points],
            "kl_to_optimum": distances,
            "alarm": alarm(bank, **target),
            "target": spec.target,
            "prompts": spec.prompts,
        },
    )
    (out / ANSWERS).unlink()


def make_bank(study: Study, spec: TheorySpec, answers: Sequence[Answer], n_prompts: int) -> Bank:
    """Score the SFT model's samples, which stand side by side for each prompt."""
    pairs = [(answer.prompt, answer.text) for answer in answers]
    rewards, safeties = (oracle(study, criterion)(pairs) for criterion in (spec.reward, spec.safety))
    refused = [study.world.refusal(prompt, text) != "compliance" for prompt, text in pairs]
    kinds = [answer.prompt.kind for answer in answers[:: spec.answers]]
    shape = (n_prompts, spec.answers)
    return Bank(
        rewards=np.reshape([score.value for score in rewards], shape),
        safeties=np.reshape([score.value for score in safeties], shape),
        unsafe=np.reshape([score.label == "unsafe" for score in safeties], shape),
        refused=np.reshape(refused, shape),
        restricted=np.array([kind is Kind.RESTRICTED for kind in kinds]),
        borderline=np.array([kind is Kind.BORDERLINE for kind in kinds]),
    )


def nominal_multiplier(study: Study, spec: TheorySpec, name: str) -> tuple[float, float] | None:
    """Return the beta and lambda that a model was made for; None where it has no reward step.

    A step's strength is beta for the reward and beta/lambda for safety, in either order; the weights of a merge
    between a model and one trained on from it stand for lambda = q lambda_bar (section 6 of the paper, eq. 11).
    """
    node = study.nodes[name]
    if isinstance(node, StepModel):
        strengths = dict(node.strengths)
        if spec.reward not in strengths:
            return None
        beta = strengths[spec.reward]
        return beta, beta / strengths[spec.safety] if spec.safety in strengths else 0.0
    if isinstance(node, MergedModel) and node.spec.method != "task-vectors":
        first, later = (study.nodes[end] for end in node.models)
        if isinstance(later, StepModel) and later.parent == first.name:
            ends = [nominal_multiplier(study, spec, end) for end in node.models]
            if ends[0] and ends[1] and ends[0][0] == ends[1][0]:
                return ends[0][0], (1 - node.q) * ends[0][1] + node.q * ends[1][1]
    return None


def _samples(study: Study, spec: TheorySpec, name: str, n_prompts: int, at: At) -> _Samples:
    rows = samples_of(at(f"kl/{name}/{spec.prompts}"))[:n_prompts]
    pairs = [(row["answer"].prompt, row["answer"].text) for row in rows]
    rewards, safeties = (
        [float(score.value or 0.0) for score in oracle(study, criterion)(pairs)]
        for criterion in (spec.reward, spec.safety)
    )
    return _Samples([row["sft"] for row in rows], rewards, safeties, [prompt.cluster for prompt, _ in pairs])


def _distance(samples: _Samples, log_z: Any, *, beta: float, lam: float) -> dict[str, Any]:
    return kl_to_optimum(
        samples.log_ratio, samples.rewards, samples.safeties, log_z, beta=beta, lam=lam, clusters=samples.clusters
    ).to_json()
