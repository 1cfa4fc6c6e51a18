"""From a recipe to its stages: the only file that knows their order.

    data -> base -> SFT -> steps -> q -> answers -> verdicts -> measures -> selection -> certificate -> theory ->
    harness -> report -> the chosen model

`experiment` is the program of a run. `do(stage)` does a stage if it is not done yet, `do.all(stages)` those that may
be done at the same time, `do.read(stage)` gives its result, so that what follows may depend on it. A dry run executes
the same program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sacpo.merge.source import Checkpoint, Merge
from sacpo.pipeline.benchmarking import ask_harness, load_harness
from sacpo.pipeline.certifying import certify, check_certification
from sacpo.pipeline.experiment import kl_sets_of
from sacpo.pipeline.factors import check_tuning
from sacpo.pipeline.outside import Outside
from sacpo.pipeline.path import find_paths, measure_fidelity
from sacpo.pipeline.race import race_models
from sacpo.pipeline.runner import Do
from sacpo.pipeline.sampling import Sampling
from sacpo.pipeline.stages.answers import KlSamples
from sacpo.pipeline.stages.certificate import Certificate
from sacpo.pipeline.stages.chosen import Chosen
from sacpo.pipeline.stages.data import Data, Overlap, Prompts
from sacpo.pipeline.stages.fidelity import merged_key
from sacpo.pipeline.stages.optimum import Optimum, nominal_multiplier
from sacpo.pipeline.stages.pairs import Pairs
from sacpo.pipeline.stages.report import Report
from sacpo.pipeline.stages.selection import Selection
from sacpo.pipeline.stages.train import (
    Align,
    Base,
    FineTune,
    FromGguf,
    Heldout,
    TrainJudge,
    sft_options,
    step_options,
)
from sacpo.pipeline.stages.verdicts import Measures
from sacpo.pipeline.strength import find_unknown
from sacpo.recipe.models import MergedModel, Node, StepModel
from sacpo.recipe.references import names_of
from sacpo.recipe.schema import SFT, Recipe, SampledSpec


def experiment(recipe: Recipe, do: Do, outside: Outside, command: str = "") -> None:
    """Do a recipe.

    Args:
        recipe: The experiment.
        do: Does stages, or plans them.
        outside: What the run reads from outside.
        command: How the run was started, for the report.
    """
    run = Order(recipe, do, outside)
    run.read_data()
    check_certification(run)
    check_tuning(run)
    run.check_labels()
    load_harness(run)
    run.make_base()
    run.train_judges()
    run.train_steps()
    run.name_merges()
    run.paths = find_paths(run)
    run.score_heldout()
    run.evaluate()
    selection = run.select()
    certificate = certify(run, selection)
    optimum = run.find_optimum()
    ask_harness(run, selection, certificate)
    run.report(selection, certificate, optimum, command)


class Order(Sampling):
    """The program: every method does a part of the recipe, on what was done before it."""

    # Data and models

    def read_data(self) -> None:
        """Read the data sources and the prompt sets, and see what they share."""
        recipe, do = self.recipe, self.do
        world = recipe.world
        for name, spec in recipe.data.items():
            source = self.outside.source("data", name, spec)
            stage = Data(source, _world(spec, world), self.seed("data", name), self.seed("holdout"))
            self.data[name] = do(stage)
        for name, prompts in recipe.prompts.items():
            source = self.outside.source("prompts", name, prompts)
            self.prompts[name] = do(Prompts(source, _world(prompts, world), self.seed("prompts", name)))
        if self.prompts:
            stages = (*self.data.values(),), (*self.prompts.values(),)
            self.overlap = do(Overlap(*stages, recipe.allow_shared_prompts))

    def make_base(self) -> None:
        """Name or build the base, and fine-tune it."""
        recipe, base, do = self.recipe, self.recipe.base, self.do
        if base.gguf:
            model = Checkpoint(do(FromGguf(self.outside.file(str(base.model)), base.dtype)))
        elif base.model is not None:
            model = self.outside.model(base.model, base.revision)
        else:
            built = base.tokenizer
            given = self.outside.model(built) if isinstance(built, str) else None
            texts = () if built is None or isinstance(built, str) else tuple(self.data[n] for n in built.datasets)
            model = Checkpoint(do(Base(base, given, texts, recipe.world, self.seed("base"))))
        if recipe.sft is not None:
            records = tuple(self.data[name] for name in names_of(recipe.sft.dataset))
            options = self.training(recipe.sft.training)
            stage = FineTune(SFT, model, base, records, options, self.seed(SFT), sft_options(recipe.sft))
            self.trained[SFT] = do(stage)
            model = Checkpoint(stage)
        self.models[SFT] = model

    def train_judges(self) -> None:
        """Train the reward models that judges are to be."""
        for criterion, spec in self.recipe.evaluate.judges.items():
            if spec.dataset is None:
                continue
            self.judge_models[criterion] = TrainJudge(
                title=f"judge of {criterion}",
                model=self.sft,
                base=self.recipe.base,
                records=self.judged_pairs(criterion, spec.dataset),
                training=self.training(spec.training),
                seed=self.seed("judge", criterion),
                criterion=criterion,
                max_length=spec.max_length,
                too_long=spec.too_long,
            )
        self.do.all([*self.judge_models.values()])

    def train_steps(self) -> None:
        """Train every step at every strength, those whose references are there at the same time; find unknown ones."""
        while left := [node for node in self.nodes.values() if self._waits(node)]:
            self.name_merges()
            ready = [node for node in left if isinstance(node, StepModel) and self.ready(node)]
            given = [node.name for node in ready if node.beta is not None]
            if given:
                self.train(given)
            else:
                find_unknown(self, ready[0])

    def name_merges(self) -> None:
        """Name the merges of models that are trained; they are made where they are needed."""
        for name, node in self.nodes.items():
            if isinstance(node, MergedModel) and all(end in self.models for end in node.models):
                models = tuple(self.checkpoint(end) for end in node.models)
                origin = self.sft if node.spec.method == "task-vectors" else None
                self.models[name] = Merge(node.spec.method, models, node.weights, node.spec.scale, origin)

    def _waits(self, node: Node) -> bool:
        return isinstance(node, StepModel) and node.name not in self.models

    def train(self, names: Sequence[str]) -> None:
        """Train steps whose references are trained, at their strengths."""
        stages = [self._step(node) for name in names if isinstance(node := self.nodes[name], StepModel)]
        self.do.all(stages)
        for stage in stages:
            self.trained[stage.title] = stage
            self.models[stage.title] = Checkpoint(stage)

    def _step(self, node: StepModel) -> Align:
        """Return a step's training; its pairs are sampled where it samples any."""
        dataset = node.step.dataset
        if isinstance(dataset, SampledSpec):
            records: tuple[Any, ...] = (self.sample_pairs(node, dataset),)
        elif node.step.resample is not None:
            records = (self.resample(node, node.step.resample),)
        else:
            records = tuple(self.data[name] for name in names_of(dataset))
        assert node.beta is not None
        other = node.parent if node.round > 1 else None
        if node.step.algorithm == "rwr":  # whose reference is the SFT model, where it has one
            other = SFT if node.step.listwise and node.start != SFT else None
        return Align(
            title=node.name,
            model=self.checkpoint(node.start),
            base=self.recipe.base,
            records=records,
            training=self.training(node.step.training),
            seed=self.seed("align", node.title),
            step=step_options(node.step, node.beta),
            reference=None if other is None else self.checkpoint(other),
        )

    def score_heldout(self) -> None:
        """Score the held-out pairs under every trained model, and under merged weights that are evaluated."""
        held = [name for name, spec in self.recipe.data.items() if spec.holdout > 0]
        drawn = [stage for stage in self.pairs_of_steps if stage.prompts.source.name in held]
        data: tuple[Data | Pairs, ...] = (*(self.data[name] for name in held), *drawn)
        steps = [name for name, node in self.nodes.items() if isinstance(node, StepModel)]
        if not data or not steps:
            return
        first = self.recipe.steps[0]
        merges = [node for name in self.evaluated if isinstance(node := self.nodes[name], MergedModel)]
        merged = [node.name for node in merges if node.spec.method != "token-level"]
        for name in (SFT, *steps, *merged):
            stage = Heldout(name, self.models[name], self.recipe.base, data, first.max_length, first.too_long)
            self.heldout[name] = self.do(stage)

    # Evaluation

    def evaluate(self) -> None:
        """Let every model answer every prompt set, judge the answers, and measure; the race drops some early."""
        race_models(self)
        for name in self.evaluated:
            for prompts in self.opened:
                self.answer(name, prompts)
        for name in self.evaluated:
            for prompts in self.opened:
                self.judge_answers(name, prompts)
            if self.opened:
                kl = self.kl.get(name, {})
                self.measures[name] = self.do(Measures(name, self.answers[name], self.verdicts[name], kl))

    def answer(self, name: str, prompts: str) -> None:
        """Let a model answer a prompt set, and sample its KL where the recipe wants it."""
        self.answers.setdefault(name, {})[prompts] = self.do(self.answering(name, prompts))
        if prompts not in kl_sets_of(self.recipe):
            return
        sample = self.do(KlSamples(name, self.models[name], **self.kl_options(name, prompts)))
        self.kl.setdefault(name, {})[prompts] = sample
        measure_fidelity(self, name, prompts)

    def kl_options(self, name: str, prompts: str) -> dict[str, Any]:
        """Return how a model's own distribution is sampled on a prompt set, and what is scored."""
        node, generation = self.nodes[name], self.recipe.evaluate.generation
        others = {"sft": self.sft}
        if isinstance(node, StepModel):
            others["reference"] = self.checkpoint(node.parent)
        if isinstance(node, MergedModel) and node.spec.fidelity:
            others |= {merged_key(place): self.checkpoint(end) for place, end in enumerate(node.models)}
        return {
            "tokenizer": self.sft,
            "others": others,
            "prompts": self.prompts[prompts],
            "n_prompts": self.recipe.evaluate.kl_prompts,
            "max_new_tokens": generation.max_new_tokens,
            "batch_size": generation.batch_size,
            "base": self.recipe.base,
            "seed": self.seed("kl", prompts),
        }

    def judge_answers(self, name: str, prompts: str) -> None:
        """Judge a model's answers to a prompt set, beside the baseline's."""
        self.verdicts.setdefault(name, {})[prompts] = self.do(self.judging(name, prompts))

    # The end

    def select(self) -> Selection | None:
        """Choose the model."""
        recipe = self.recipe
        if recipe.objective is None:
            return None
        roles = {name: spec.role for name, spec in recipe.prompts.items()}
        return self.do(Selection((*self.measures.values(),), recipe.constraints, recipe.objective, roles))

    def find_optimum(self) -> Optimum | None:
        """Estimate the optimum and the models' distances from it."""
        recipe, spec = self.recipe, self.recipe.theory
        if spec is None:
            return None
        assert recipe.world is not None
        generation = recipe.evaluate.generation
        stage = Optimum(
            spec=spec,
            prompts=self.prompts[spec.prompts],
            kl={name: self.kl[name][spec.prompts] for name in self.evaluated},
            multipliers={name: nominal_multiplier(self.nodes, spec, name) for name in self.evaluated},
            sft=self.sft,
            max_new_tokens=generation.max_new_tokens,
            batch_size=generation.batch_size,
            base=recipe.base,
            world=recipe.world,
            seed=self.seed("theory"),
            resampled={name: stage for name, stage in self.resampled.items() if stage.of_sft and not stage.bank.paid},
        )
        return self.do(stage)

    def report(
        self, selection: Selection | None, certificate: Certificate | None, optimum: Optimum | None, command: str
    ) -> None:
        """Write the report and the chosen model."""
        if not self.prompts:
            return
        assert self.overlap is not None
        report = Report(
            recipe=self.recipe,
            command=command,
            data=(*self.data.values(),),
            pairs=self.sampled,
            prompts=(*self.prompts.values(),),
            overlap=self.overlap,
            trained=self.trained,
            heldout=self.heldout,
            answers=self.answers,
            verdicts=self.verdicts,
            kl=self.kl,
            measures=self.measures,
            selection=selection,
            certificate=certificate,
            optimum=optimum,
            found=self.found,
            weighed=self.weighed,
            paths=self.paths,
            fidelity=self.fidelity,
            harness=self.harness,
            races=self.races,
        )
        self.do(report)
        if selection is not None:
            self.do(Chosen(selection, certificate, report, self.models))


def _world(spec: Any, world: Any) -> Any:
    """Return the world where a source reads from it."""
    return world if spec.format == "world" else None
