"""Scores that a step's own model implies: beta log pi/pi_ref, calibrated on held-out pairs of what it learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from sacpo.answer.scoring import score_trees
from sacpo.data.packing import Tree
from sacpo.data.records import Pair, Prompt
from sacpo.data.tokenize import text_trees, tokenize_pairs
from sacpo.errors import DataError
from sacpo.judging.scored import Score
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.stage import JsonStage
from sacpo.pipeline.stages.data import Data
from sacpo.pipeline.stages.pairs import Pairs
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonObject
from sacpo.recipe.schema import BaseSpec
from sacpo.system.files import write_json
from sacpo.system.progress import Progress
from sacpo.theory.calibrated import HOTTEST, LEAST_PAIRS, calibrating_factor, pair_loss
from sacpo.theory.optimum import Floats

FOLDS = 5


@dataclass(frozen=True)
class Implied:
    """A step's implicit reward, up to a term of the prompt: beta log pi/pi_ref, eq. 5 of the paper.

    Attributes:
        title: The step's model.
        model, reference: What the step gave, and what it was held against.
        beta: The step's strength.
        base: Template, dtype, device of the models.
        max_length, too_long: How texts are tokenised.
    """

    title: str
    model: Checkpoint
    reference: Checkpoint
    beta: float
    base: BaseSpec
    max_length: int
    too_long: str


def log_probs(models: Sequence[Checkpoint], base: BaseSpec, trees: Sequence[Tree], tools: Tools) -> list[Floats]:
    """Return the log-probs of the trees' one completions under each model; one that is named twice is asked once."""
    tokenizer, _ = tools.tokenizer(models[-1], base)
    found: list[tuple[Checkpoint, Floats]] = []
    for model in models:
        if not any(other == model for other, _ in found):
            loaded = tools.load(model, base)
            logps = score_trees(loaded, tokenizer, trees, progress=tools.progress)
            found.append((model, np.array(logps)))
    return [next(logps for other, logps in found if other == model) for model in models]


@dataclass(frozen=True)
class Calibration(JsonStage):
    """By what an implicit reward is to be multiplied, so that held-out preferences are likeliest under it.

    Attributes:
        reward: The reward.
        records: What its step learned from.
    """

    result: ClassVar[str] = "calibration.json"

    reward: Implied
    records: tuple[Data | Pairs, ...]

    @property
    def name(self) -> str:
        """`implicit/MODEL`."""
        return f"implicit/{self.reward.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Score the held-out pairs, and find the factor.

        Raises:
            DataError: Nothing is held out.
        """
        reward = self.reward
        tokenizer, template = tools.tokenizer(reward.reference, reward.base)
        held = [pair for source in self.records for pair in tools.read(source).heldout if isinstance(pair, Pair)]
        pairs, _ = tokenize_pairs(held, tokenizer, template, max_length=reward.max_length, too_long=reward.too_long)
        if not pairs:
            raise DataError(
                "no pair is held out to calibrate an implicit reward on",
                where=self.name,
                value=f"{len(held)} pairs held out, none of them within {reward.max_length} tokens",
                do="raise the step's max_length, hold out more, or give 'calibrate: false'",
            )
        trees = [Tree(pair.prompt, (side,)) for pair in pairs for side in (pair.chosen, pair.rejected)]
        own, other = log_probs((reward.model, reward.reference), reward.base, trees, tools)
        sides = reward.beta * (own - other)
        preferred, prompts = np.array([pair.p for pair in pairs]), [str(pair.prompt) for pair in pairs]
        found = calibration(sides[::2] - sides[1::2], preferred, prompts)
        few_prompts(self.name, found, prompts, "give 'calibrate: false'", tools.progress)
        write_json(out / self.result, found)


def few_prompts(name: str, found: JsonObject, prompts: Sequence[str], otherwise: str, progress: Progress) -> None:
    """Say of a calibration on few prompts that it tells little, and what else can be done."""
    if (n := len({*prompts})) < LEAST_PAIRS:
        progress.notice(
            f"{name}: {n} prompts of held-out pairs tell little of a scale: the factor is {found['factor']:.2g}, and "
            f"at most 1 below {LEAST_PAIRS} prompts; hold out more, or {otherwise}"
        )


def calibration(margins: Floats, preferred: Floats, prompts: Sequence[str]) -> JsonObject:
    """Return the factor of margins and what is known of it.

    The loss is of prompts that the factor was not fitted to, in turn (`FOLDS` parts). Where it is no less than a
    coin's, the factor is 0: such a score is to move nothing. With fewer than `LEAST_PAIRS` prompts it is at most 1: a
    handful of pairs that are all told apart would make it as large as it may be.
    """
    coin = float(np.log(2))
    known, part = np.unique(prompts, return_inverse=True)
    most = HOTTEST if len(known) >= LEAST_PAIRS else 1.0
    factor, loss = min(calibrating_factor(margins, preferred), most), coin
    if len(known) > 1:
        part = part % min(FOLDS, len(known))
        factors = [calibrating_factor(margins[part != k], preferred[part != k]) for k in range(part.max() + 1)]
        loss = pair_loss(np.minimum(factors, most)[part] * margins, preferred)
    if loss >= coin:
        factor = 0.0
    decided = preferred != 0.5
    agree = np.sign(margins[decided]) * np.sign(preferred[decided] - 0.5)
    accuracy = float((agree / 2 + 0.5).mean()) if decided.any() else None
    return {"pairs": len(margins), "factor": factor, "accuracy": accuracy, "loss": loss, "coin": coin}


@dataclass(frozen=True)
class ImplicitScorer:
    """A criterion's score of any text: a step's implicit reward.

    Attributes:
        criterion: What it is called.
        reward: The reward.
        calibration: What found its factor; None: it is not scaled.
    """

    criterion: str
    reward: Implied
    calibration: Calibration | None

    def known(self, tools: Tools) -> JsonObject:
        """Return what is known of the score."""
        return {"factor": 1.0} if self.calibration is None else tools.read(self.calibration)


def implicit_scores(
    scorers: Sequence[ImplicitScorer], tools: Tools, texts: Sequence[tuple[Prompt, str]]
) -> dict[str, list[Score]]:
    """Return the scores of texts by criterion; models that several rewards need are asked once.

    A text is cut at the largest `max_length`; a prompt without room for one has no score.
    """
    if not scorers:
        return {}
    base, longest = scorers[0].reward.base, max(scorer.reward.max_length for scorer in scorers)
    models = [model for scorer in scorers for model in (scorer.reward.model, scorer.reward.reference)]
    tokenizer, template = tools.tokenizer(models[-1], base)
    trees = text_trees(texts, tokenizer, template, longest)
    logps = log_probs(models, base, [*trees.values()], tools)
    found: dict[str, list[Score]] = {}
    for scorer, own, other in zip(scorers, logps[::2], logps[1::2], strict=True):
        scale = scorer.known(tools)["factor"] * scorer.reward.beta
        values = dict(zip(trees, (scale * (own - other)).tolist(), strict=True))
        found[scorer.criterion] = [Score(values.get(place)) for place in range(len(texts))]
    return found
