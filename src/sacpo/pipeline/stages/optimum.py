"""The optimum from SFT samples, and how far each model is from it, where rewards are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sacpo.answer.generate import generate_answers
from sacpo.data.answers import ANSWERS
from sacpo.data.records import Answer, Kind
from sacpo.judging.kinds.oracle import world_scores
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.stage import JsonStage
from sacpo.pipeline.stages.answers import KlSamples, sampling
from sacpo.pipeline.stages.bank import Resampled
from sacpo.pipeline.stages.data import Prompts
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.models import MergedModel, Node, StepModel
from sacpo.recipe.schema import BaseSpec, TheorySpec, WorldSpec
from sacpo.system.files import write_json
from sacpo.theory.optimum import Bank, alarm, curve, kl_to_optimum, optimum, support
from sacpo.theory.tilt import tilt_parts
from sacpo.world import World

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

    @property
    def terms(self) -> tuple[list[float], list[float], list[float]]:
        """What a distance is made of."""
        return self.log_ratio, self.rewards, self.safeties


@dataclass(frozen=True)
class Optimum(JsonStage):
    """The optimum's curve, and every model's distance from its own optimum and from the common target.

    Attributes:
        spec: Samples, strengths and criteria.
        prompts: The prompt set.
        kl: Samples of each model, by its name.
        multipliers: beta and lambda that each model was made for, by its name; None: it has no reward step.
        sft: The SFT model, whose samples estimate the optimum.
        max_new_tokens: Longest answer.
        batch_size: Answers at a time; it changes rounding.
        base: Template, dtype, device of the model.
        world: Where rewards are known.
        seed: The root of sampling.
        resampled: By model, the weights of samples of the SFT model that it learnt from.
    """

    result: ClassVar[str] = THEORY

    spec: TheorySpec
    prompts: Prompts
    kl: Mapping[str, KlSamples]
    multipliers: Mapping[str, tuple[float, float] | None]
    sft: Checkpoint
    max_new_tokens: int
    batch_size: int
    base: BaseSpec
    world: WorldSpec
    seed: int
    resampled: Mapping[str, Resampled] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`theory`."""
        return "theory"

    def work(self, out: Path, tools: Tools) -> None:
        """Sample, score, estimate."""
        spec, world = self.spec, World(self.world)
        prompts = tools.read(self.prompts)[: spec.max_prompts]
        tokenizer, template = tools.tokenizer(self.sft, self.base)
        answers = generate_answers(
            tools.load(self.sft, self.base),
            tokenizer,
            prompts,
            template,
            sampling(self.max_new_tokens, self.batch_size),
            model_name="sft",
            seed=self.seed,
            samples=spec.answers,
            out=out,
            progress=tools.progress,
        )
        bank = make_bank(world, spec, answers, len(prompts))
        target = {"beta": spec.beta, "lam": spec.beta / spec.target}
        points = curve(bank, sorted({*STRENGTHS, spec.target}, reverse=True), beta=spec.beta)
        write_json(
            out / THEORY,
            {
                "curve": [point.to_point(spec.reward, spec.safety) for point in points],
                "kl_to_optimum": self._distances(bank, target, len(prompts), world, tools),
                "alarm": alarm(bank, **target),
                "target": spec.target,
                "prompts": spec.prompts,
                **self._supports(answers, bank, target, tools),
            },
        )
        (out / ANSWERS).unlink()

    def _supports(self, answers: Sequence[Answer], bank: Bank, target: Mapping[str, float], tools: Tools) -> JsonObject:
        """Return what each model's weights reach on these samples, before anything is learnt."""
        pairs = [(answer.prompt, answer.text) for answer in answers]
        found: JsonObject = {}
        for name, stage in self.resampled.items():
            scores = stage.bank.scores(tools, pairs)
            tilt = sum(w * np.array([s.value for s in scores[c]], float) for c, w in stage.tilts.items())
            tilt = np.where(np.isfinite(tilt), tilt, -np.inf).reshape(bank.rewards.shape)
            reached = support(bank, tilt, stage.bank.samples.samples, beta=target["beta"], lam=target["lam"])
            found[name] = asdict(reached)
        return {"support": found} if found else {}

    def _distances(
        self, bank: Bank, target: Mapping[str, float], n_prompts: int, world: World, tools: Tools
    ) -> JsonObject:
        """Return each model's distances from its own optimum and from the target."""
        aim = optimum(bank, **target)
        distances: JsonObject = {}
        for name, stage in self.kl.items():
            samples = _samples(tools.read(stage)[:n_prompts], self.spec, world)
            part = len(samples.log_ratio)
            known = Bank(bank.rewards[:part], bank.safeties[:part])
            parts = tilt_parts(known, *samples.terms, **target)
            found: JsonObject = {
                "target": _distance(samples, aim.log_z[:part], **target),
                "tilt": None if parts is None else asdict(parts),
            }
            own = self.multipliers[name]
            if own is not None:
                strengths = {"beta": own[0], "lam": own[1]}
                found["own"] = _distance(samples, optimum(bank, **strengths).log_z[:part], **strengths)
                found["own_alarm"] = alarm(bank, **strengths)
            distances[name] = found
        return distances


def make_bank(world: World, spec: TheorySpec, answers: Sequence[Answer], n_prompts: int) -> Bank:
    """Score the SFT model's samples, which stand side by side for each prompt."""
    pairs = [(answer.prompt, answer.text) for answer in answers]
    rewards, safeties = (world_scores(world, criterion)(pairs) for criterion in (spec.reward, spec.safety))
    refused = [world.refusal(prompt, text) != "compliance" for prompt, text in pairs]
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


def nominal_multiplier(nodes: Mapping[str, Node], spec: TheorySpec, name: str) -> tuple[float, float] | None:
    """Return the beta and lambda that a model was made for; None where it has no reward step, or a third criterion.

    A step's strength is beta for the reward and beta/lambda for safety, in either order; the weights of a merge
    between a model and one trained on from it stand for lambda = q lambda_bar (section 6 of the paper, eq. 11).
    """
    node = nodes[name]
    if isinstance(node, StepModel):
        strengths = dict(node.strengths)
        if spec.reward not in strengths or strengths.keys() - {spec.reward, spec.safety}:
            return None
        beta = strengths[spec.reward]
        return beta, beta / strengths[spec.safety] if spec.safety in strengths else 0.0
    if isinstance(node, MergedModel) and node.q is not None and node.spec.method != "task-vectors":
        first, later = (nodes[end] for end in node.models)
        if isinstance(later, StepModel) and later.parent == first.name:
            ends = [nominal_multiplier(nodes, spec, end) for end in node.models]
            if ends[0] and ends[1] and ends[0][0] == ends[1][0]:
                return ends[0][0], (1 - node.q) * ends[0][1] + node.q * ends[1][1]
    return None


def _samples(rows: Sequence[JsonMapping], spec: TheorySpec, world: World) -> _Samples:
    pairs = [(row["answer"].prompt, row["answer"].text) for row in rows]
    rewards, safeties = (
        [float(score.value or 0.0) for score in world_scores(world, criterion)(pairs)]
        for criterion in (spec.reward, spec.safety)
    )
    return _Samples([row["sft"] for row in rows], rewards, safeties, [prompt.cluster for prompt, _ in pairs])


def _distance(samples: _Samples, log_z: Any, *, beta: float, lam: float) -> JsonObject:
    return kl_to_optimum(*samples.terms, log_z, beta=beta, lam=lam, clusters=samples.clusters).to_json()
