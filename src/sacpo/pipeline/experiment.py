"""A recipe at work: what it says, and what was done of it so far."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from sacpo.judging.llm.specs import check_judges
from sacpo.merge.source import Checkpoint, ModelSource
from sacpo.pipeline.judges import CriterionJudge, options_of
from sacpo.pipeline.outside import Outside
from sacpo.pipeline.runner import Do
from sacpo.pipeline.stages.answers import Answers, KlSamples
from sacpo.pipeline.stages.bank import Bank, Resampled
from sacpo.pipeline.stages.certificate import CertificationPrompts, Certified
from sacpo.pipeline.stages.data import Data, Overlap, Prompts
from sacpo.pipeline.stages.fidelity import EndSamples, MergeFidelity
from sacpo.pipeline.stages.harness import Harness, HarnessTasks
from sacpo.pipeline.stages.heads import Head
from sacpo.pipeline.stages.pairs import LabelledPairs, Pairs
from sacpo.pipeline.stages.path import FoundPath
from sacpo.pipeline.stages.plan import Found
from sacpo.pipeline.stages.race import Race, RacedAnswers, RacedVerdicts
from sacpo.pipeline.stages.samples import Samples
from sacpo.pipeline.stages.scaled import Scale
from sacpo.pipeline.stages.train import Heldout, Training, TrainJudge
from sacpo.pipeline.stages.traits import SampleTraits
from sacpo.pipeline.stages.verdicts import Measures, Verdicts
from sacpo.pipeline.stages.weighed import Weighed
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.models import Node, model_graph
from sacpo.recipe.schema import SFT, JudgeSpec, Recipe, TrainingSpec


def derived_seed(seed: int, *parts: str) -> int:
    """Return a seed for one part of a run, in [0, 2^31)."""
    text = "\0".join([str(seed), *parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@dataclass
class Experiment:
    """A recipe at work: what was done so far, by name.

    Attributes:
        recipe: The experiment.
        do: Does stages, or plans them.
        outside: What the run reads from outside.
        data, prompts: Records and prompt sets.
        sealed: The check of the certification prompts.
        models: Every model of the recipe.
        trained: Trainings, by model.
        judge_models: Trained reward models, by criterion.
        pairs, resampled: Pairs and answers sampled for steps, by model.
        samples, banks, heads: Samples of the SFT model, scored ones, and learned scores, by what they are.
        scales: What puts judges' scores to scale, by what they are.
        batches: Pairs that were labelled for learned scores, by what they are.
        traits: What the SFT model knows of samples, by the step that has pairs of them labelled.
        learned: What each step's scores are learned from, by step and criterion.
        races, dropped: Models that raced, by prompt set, and those among them that were dropped.
        heldout: Scores of held-out pairs, by model.
        answers, verdicts, kl: By model and prompt set.
        measures: By model.
        found: Searches for strengths, by step.
        weighed: Choices of factors, by step.
        paths: Searches for q, by merge.
        fidelity: How far merged models are from their targets, by model and prompt set.
        end_samples: Samples of the models that are merged, which merges of the same models share.
        tasks, harness: Tasks of lm-evaluation-harness, and what models reached on them.
    """

    recipe: Recipe
    do: Do
    outside: Outside
    data: dict[str, Data] = field(default_factory=dict)
    prompts: dict[str, Prompts] = field(default_factory=dict)
    overlap: Overlap | None = None
    sealed: CertificationPrompts | None = None
    models: dict[str, ModelSource] = field(default_factory=dict)
    trained: dict[str, Training] = field(default_factory=dict)
    judge_models: dict[str, TrainJudge] = field(default_factory=dict)
    pairs: dict[str, Pairs] = field(default_factory=dict)
    resampled: dict[str, Resampled] = field(default_factory=dict)
    samples: dict[str, Samples] = field(default_factory=dict)
    banks: dict[str, Bank] = field(default_factory=dict)
    heads: dict[str, Head] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    batches: dict[str, LabelledPairs] = field(default_factory=dict)
    traits: dict[str, SampleTraits] = field(default_factory=dict)
    learned: dict[str, dict[str, tuple[Data | LabelledPairs, ...]]] = field(default_factory=dict)
    heldout: dict[str, Heldout] = field(default_factory=dict)
    answers: dict[str, dict[str, Answers]] = field(default_factory=dict)
    verdicts: dict[str, dict[str, Verdicts]] = field(default_factory=dict)
    kl: dict[str, dict[str, KlSamples]] = field(default_factory=dict)
    measures: dict[str, Measures] = field(default_factory=dict)
    found: dict[str, Found] = field(default_factory=dict)
    weighed: dict[str, Weighed] = field(default_factory=dict)
    paths: dict[str, FoundPath] = field(default_factory=dict)
    fidelity: dict[str, dict[str, MergeFidelity]] = field(default_factory=dict)
    end_samples: list[EndSamples] = field(default_factory=list)
    tasks: HarnessTasks | None = None
    harness: dict[str, Harness] = field(default_factory=dict)
    races: dict[str, dict[str, Race]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    # What follows from the recipe alone

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Every model by name, parents first."""
        return model_graph(self.recipe)

    def settle(self, recipe: Recipe) -> None:
        """Go on with a recipe in which a value that was left to the run (`auto`) is a number."""
        self.recipe = recipe
        self.__dict__.pop("nodes", None)

    @cached_property
    def rubrics(self) -> JsonMapping:
        """The rubrics of the language models that judge, by criterion."""
        return check_judges(self.recipe)

    @property
    def evaluated(self) -> list[str]:
        """The models that are evaluated, the SFT model and the baseline first; without those that a race dropped."""
        evaluate = self.recipe.evaluate
        names = dict.fromkeys([SFT, evaluate.baseline, *(evaluate.models or tuple(self.nodes))])
        return [name for name in names if name not in self.dropped]

    @property
    def wanted(self) -> Certified | None:
        """What is to be certified."""
        recipe = self.recipe
        if recipe.certify is None or recipe.objective is None:
            return None
        return Certified(recipe.certify, recipe.constraints, recipe.objective)

    @property
    def opened(self) -> list[str]:
        """The prompt sets that every model answers: all but the one that only candidates of the certificate see."""
        sealed = self.recipe.certify and self.recipe.certify.prompts
        return [name for name in self.prompts if name != sealed]

    def seed(self, *parts: str) -> int:
        """Return the seed of one part of the run."""
        return derived_seed(self.recipe.seed, *parts)

    def training(self, own: TrainingSpec) -> JsonObject:
        """Return a training's options: its own over the recipe's defaults."""
        return {**self.recipe.training.options(), **own.options()}

    @property
    def sft(self) -> Checkpoint:
        """The model that steps start from."""
        return self.checkpoint(SFT)

    def checkpoint(self, name: str) -> Checkpoint:
        """Return a model that is no merge."""
        found = self.models[name]
        assert isinstance(found, Checkpoint)
        return found

    # Stages that more than one part of the program asks for

    def answering(self, name: str, prompts: str) -> Answers:
        """Return a model's answers to a prompt set, which may still have to be done."""
        options = self.answer_options(name, prompts)
        race = self.races.get(name, {}).get(prompts)
        return Answers(**options) if race is None else RacedAnswers(**options, race=race)

    def answer_options(self, name: str, prompts: str) -> JsonObject:
        """Return who answers what, and how."""
        return {
            "title": name,
            "model": self.models[name],
            "tokenizer": self.sft,
            "prompts": self.prompts[prompts],
            "set_name": prompts,
            "generation": self.recipe.evaluate.generation,
            "base": self.recipe.base,
            "seed": self.seed("generate", prompts),
        }

    def judging(self, name: str, prompts: str) -> Verdicts:
        """Return the verdicts on a model's answers to a prompt set, which may still have to be done."""
        evaluate = self.recipe.evaluate
        judges = evaluate.judges.items()
        criteria = [criterion for criterion, spec in judges if spec.prompts is None or prompts in spec.prompts]
        options: JsonObject = {
            "title": f"{name}/{prompts}",
            "answers": self.answers[name][prompts],
            "baseline": self.answers[evaluate.baseline][prompts],
            "judges": tuple(self.judge(criterion) for criterion in criteria),
        }
        race = self.races.get(name, {}).get(prompts)
        return Verdicts(**options) if race is None else RacedVerdicts(**options, race=race)

    def judge(self, criterion: str, other: JudgeSpec | None = None) -> CriterionJudge:
        """Return a criterion's judge, or another one of the same criterion."""
        spec = other or self.recipe.evaluate.judges[criterion]
        return CriterionJudge(
            criterion=criterion,
            counted=options_of(spec),
            base=self.recipe.base,
            model=self._judge_model(criterion, spec),
            world=self.recipe.world if spec.kind == "oracle" else None,
            rubric=self.rubrics.get(criterion),
            spec=spec,
        )

    def _judge_model(self, criterion: str, spec: JudgeSpec) -> Checkpoint | None:
        if spec.dataset is not None:
            return Checkpoint(self.judge_models[criterion])
        return None if spec.model is None else self.outside.model(spec.model, spec.revision)


def kl_sets_of(recipe: Recipe) -> list[str]:
    """Return the prompt sets on which KL is sampled: those reported, constrained or used by theory."""
    if not recipe.evaluate.kl_prompts:
        return []
    wanted = {name for name, spec in recipe.prompts.items() if spec.role == "report"}
    wanted |= {constraint.prompts for constraint in recipe.constraints if constraint.metric == "kl"}
    if recipe.theory is not None:
        wanted.add(recipe.theory.prompts)
    return [name for name in recipe.prompts if name in wanted]
