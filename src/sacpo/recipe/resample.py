"""How a step resamples answers by their scores, as a recipe says it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sacpo.recipe.sampled import ScorePairs
from sacpo.recipe.section import Count, Names, Positive, Section

SFT, POLICY = "sft", "policy"
MOST_COMBINATIONS = 400
"""Of factors."""
Share = Annotated[float, Field(gt=0, le=1)]
Factor = Annotated[float, Field(ge=1e-6, le=1e6)]


class ResampleSpec(Section):
    """Answers of the SFT model, resampled by self-normalised weights exp(sum_c w_c s_c / beta), eq. 11 of the paper.

    With `judge: {helpfulness: 1, harmlessness: lambda}` that is exp((r + lambda g) / beta). Several steps may share the
    answers and their scores: only what follows from weights and beta is made anew.
    """

    judge: str | Annotated[dict[str, Positive], Field(min_length=2)] = Field(
        description="a judge of 'evaluate' that gives scores (language models do by a rubric of kind rating), or a "
        "criterion of 'learn' or 'implicit'; or several with their weights"
    )
    factors: dict[str, Annotated[tuple[Factor, ...], Field(min_length=1)]] = Field(
        {},
        description="criterion: numbers, one of which multiplies its weight: before anything is trained, the run takes "
        "the combination whose weights alone have the highest mean score of 'objective' among those that meet "
        "'constraints' on tuning prompts; see docs/distil.md",
    )
    learn: dict[str, str | Names] = Field(
        {},
        description="criterion: the step, or the data sources of pairs, that its score is learned from, in place of a "
        "judge's: a Gaussian process on what the SFT model knows of answers, see docs/distil.md",
    )
    label: dict[str, ScorePairs] = Field(
        {},
        description="criterion: pairs of SFT answers, or of the step's own samples, labelled for its score, in place "
        "of those of 'learn' or beside them",
    )
    batches: int = Field(
        1,
        ge=1,
        le=9,
        description="label the pairs in so many batches: behind the first, one answer of a pair is drawn by the "
        "weights of what is learned so far, where the model will be, the other one at random; 1: all at random",
    )
    candidates: int = Field(8, ge=2, le=1024, description="answers to each prompt that such a pair is drawn from")
    prompt_kinds: Literal[1, 2] = Field(
        2,
        description="2: a learned score may tell two kinds of prompts apart, such as those on which safety matters "
        "much and little, if held-out pairs are likelier then; 1: one process for all",
    )
    surprise: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="share of what a learned score compares answers by that says how surprising their tokens are to "
        "the SFT model, by several bounds, and how many there are; 0: by one bound, among hundreds of other traits",
    )
    implicit: dict[str, str] = Field(
        {},
        description="criterion: the step whose implicit reward, beta log pi/pi_ref, is its score, in place of a "
        "judge's",
    )
    calibrate: bool = Field(
        True,
        description="multiply an implicit reward by the factor under which held-out pairs of its step are likeliest; "
        "false: by 1",
    )
    scale: dict[str, str | Names] = Field(
        {},
        description="criterion: the step, or the data sources of pairs, on whose held-out pairs a judge's score is put "
        "to scale: it is multiplied by the factor under which they are likeliest, since a reward or cost model has a "
        "scale of its own",
    )
    sample_from: dict[str, Share] = Field(
        {"sft": 1.0},
        description="shares of the samples, by the model that gives them: 'sft', steps, merges of these, and 'policy': "
        "the model as it stands, of the round before or the one that the step starts from; the weights are corrected "
        "by the balance heuristic, exp(f) pi_sft / sum_k share_k pi_k",
    )
    samples: int = Field(16, ge=2, le=1024, description="answers sampled to each prompt")
    keep: Count = Field(4, description="answers drawn from them to train on")
    draw: Literal["weights", "best", "all", "thinned"] = Field(
        "weights",
        description="draw with those weights; keep the best scores (best of n, RAFT), for which beta is no matter; "
        "all: learn every answer, with its weight in the likelihood, without the noise of a draw; or thinned: of these "
        "the `keep` that tell most, so that the likelihood stays the same on the average",
    )
    max_new_tokens: Count = Field(128, description="longest answer, in tokens")
    least_ess: Positive = Field(
        2.0, description="refuse a bank whose effective sample size is smaller, on the average of its prompts"
    )

    @model_validator(mode="after")
    def _possible(self) -> ResampleSpec:
        given: dict[str, Mapping[str, object]] = {
            "learn": self.learn,
            "label": self.label,
            "implicit": self.implicit,
            "scale": self.scale,
        }
        for option, named in given.items():
            unknown = [name for name in named if name not in self.weights]
            if unknown:
                raise ValueError(f"'{option}' has '{unknown[0]}', which has no weight: 'judge' names what is summed")
        if both := (self.learn.keys() | self.label.keys()) & self.implicit.keys():
            other = "learn" if min(both) in self.learn else "label"
            raise ValueError(f"'{other}' and 'implicit' both give the score of '{min(both)}': leave one of them out")
        if unscaled := self.scale.keys() & (self.learn.keys() | self.label.keys() | self.implicit.keys()):
            other = next(option for option, named in given.items() if min(unscaled) in named)
            raise ValueError(f"'scale' has '{min(unscaled)}', whose score '{other}' gives: a judge's is put to scale")
        if not self.implicit:
            self.unused(("calibrate",), "only implicit rewards are calibrated")
        if abs((total := sum(self.sample_from.values())) - 1) > 1e-6:
            raise ValueError(f"the shares of 'sample_from' must add up to 1, and these add up to {total:g}")
        if any(
            abs(share * self.samples - round(share * self.samples)) > 1e-6 or round(share * self.samples) < 1
            for share in self.sample_from.values()
        ):
            raise ValueError(f"a share of 'sample_from' is no whole number of {self.samples} samples, 1 or more")
        if self.least_ess > self.samples:
            raise ValueError(f"'least_ess' is beyond 'samples': no weights of {self.samples} answers reach it")
        if self.draw == "all":
            self.unused(("keep",), "all answers are learnt, each with its weight")
        if self.draw == "thinned" and self.keep >= self.samples:
            raise ValueError(
                f"'keep' must be below 'samples' ({self.samples}): nothing would be thinned; see 'draw: all'"
            )
        if self.draw == "best":
            self.unused(("least_ess",), "the best answers are kept, whatever their weights are")
            if self.keep >= self.samples:
                raise ValueError(f"'keep' must be below 'samples' ({self.samples}): the best of all answers are all")
        return self

    @model_validator(mode="after")
    def _labelled(self) -> ResampleSpec:
        if not self.learn and not self.label:
            self.unused(("prompt_kinds", "surprise"), "no score is learned from pairs ('learn' or 'label' name some)")
        if not self.label:
            self.unused(("batches", "candidates"), "no pairs are labelled ('label' names some)")
        if self.batches == 1:
            self.unused(("candidates",), "pairs of one batch are two answers at random")
        for criterion, label in self.label.items():
            if label.own:
                self._check_own(f"label.{criterion}", label)
        return self

    def _check_own(self, where: str, label: ScorePairs) -> None:
        """Refuse pairs of the step's own samples that there are not."""
        if self.batches > 1:
            raise ValueError(
                f"batches are of prompts, and '{where}' has pairs of the step's own samples: leave 'batches' out, or "
                "name 'prompts' there"
            )
        if POLICY in self.sample_from:
            raise ValueError(
                f"'{where}' has pairs of the step's own samples, and 'policy' in 'sample_from' gives others for every "
                "training: name 'prompts' there, or sample from other models"
            )
        if label.pairs > self.most_pairs and "pairs" in label.model_fields_set:
            raise ValueError(
                f"'{where}.pairs' is {label.pairs}, and {self.samples} 'samples' make {self.most_pairs:,} pairs"
            )

    @model_validator(mode="after")
    def _multiplied(self) -> ResampleSpec:
        if not self.factors:
            return self
        if len(self.weights) < 2:
            raise ValueError("'factors' weigh several judges' scores: of one alone that is 'beta'")
        if unknown := [name for name in self.factors if name not in self.weights]:
            raise ValueError(f"'factors' has '{unknown[0]}', which has no weight: 'judge' names what is summed")
        named = {name: {f"{number:.6g}" for number in numbers} for name, numbers in self.factors.items()}
        if twice := [name for name, numbers in self.factors.items() if len(named[name]) < len(numbers)]:
            raise ValueError(f"'factors' has the same number twice for '{twice[0]}' (in six digits, as weights have)")
        if len(self.combinations) > MOST_COMBINATIONS:
            raise ValueError(f"'factors' are {len(self.combinations):,} combinations; at most {MOST_COMBINATIONS}")
        if self.draw == "best":
            self.unused(("factors",), "the best answers are kept by the weights that are given")
        return self

    @property
    def combinations(self) -> tuple[dict[str, float], ...]:
        """Every choice of factors, one number for each weight, in the recipe's order; the first numbers first."""
        each = [self.factors.get(name, (1.0,)) for name in self.weights]
        return tuple(dict(zip(self.weights, numbers, strict=True)) for numbers in itertools.product(*each))

    def multiplied(self, factors: Mapping[str, float]) -> ResampleSpec:
        """Return the same with each weight times its factor, in six digits, and no choice left."""
        weights = {name: float(f"{weight * factors[name]:.6g}") for name, weight in self.weights.items()}
        return self.model_copy(update={"judge": weights, "factors": {}})

    @property
    def most_pairs(self) -> int:
        """Different pairs of a prompt's samples, at most."""
        return self.samples * (self.samples - 1) // 2

    @property
    def weights(self) -> dict[str, float]:
        """The judges whose scores are summed, with their weights."""
        return {self.judge: 1.0} if isinstance(self.judge, str) else self.judge

    @property
    def judged(self) -> tuple[str, ...]:
        """The criteria whose scores judges give, as they are."""
        others = (*self.learn, *self.label, *self.implicit, *self.scale)
        return tuple(name for name in self.weights if name not in others)

    @property
    def learned(self) -> tuple[str, ...]:
        """The criteria whose scores are learned from pairs."""
        return tuple(name for name in self.weights if name in self.learn or name in self.label)

    def sources(self, criterion: str) -> tuple[str, ...]:
        """Return the names of what a criterion's score is learned from; pairs that are labelled for it have none."""
        return self.named(self.learn, criterion)

    def named(self, option: Mapping[str, str | Names], criterion: str) -> tuple[str, ...]:
        """Return the names of pairs that `learn` or `scale` has for a criterion."""
        found = option.get(criterion, ())
        return (found,) if isinstance(found, str) else found

    def counts(self, policy: str) -> dict[str, int]:
        """Return how many samples of each prompt every model gives, 'sft' first; `policy` is the model as it stands."""
        found: dict[str, int] = {}
        for name in sorted(self.sample_from, key=lambda name: (name != SFT, name)):
            model = policy if name == POLICY else name
            found[model] = found.get(model, 0) + round(self.sample_from[name] * self.samples)
        return found

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Every model and data source that must be there before: proposals, and what scores come from."""
        return (
            *self.learned_from,
            *self.implicit.values(),
            *(name for name in self.sample_from if name not in (SFT, POLICY)),
        )

    @property
    def learned_from(self) -> tuple[str, ...]:
        """Every step and data source that a score is learned from or put to scale on."""
        options = (self.learn, self.scale)
        return tuple(name for option in options for criterion in option for name in self.named(option, criterion))
