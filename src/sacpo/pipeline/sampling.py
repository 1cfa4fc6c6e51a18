"""What steps and judges are trained on where a recipe samples it: labelled pairs and resampled answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sacpo.answer.traits import BOUNDS
from sacpo.pipeline.experiment import Experiment
from sacpo.pipeline.stages.bank import Bank, Resampled, Scorer
from sacpo.pipeline.stages.batch import Batch, Weigher
from sacpo.pipeline.stages.data import Data
from sacpo.pipeline.stages.enough import EnoughPrompts
from sacpo.pipeline.stages.heads import Head, HeadScorer
from sacpo.pipeline.stages.implicit import Calibration, ImplicitScorer, Implied
from sacpo.pipeline.stages.pairs import LabelledPairs, Pairs
from sacpo.pipeline.stages.sample_pairs import SamplePairs
from sacpo.pipeline.stages.samples import Samples
from sacpo.pipeline.stages.scaled import Scale, ScaledScorer
from sacpo.pipeline.stages.traits import Reader, SampleTraits
from sacpo.recipe.models import StepModel
from sacpo.recipe.references import names_of
from sacpo.recipe.resample import POLICY, ResampleSpec
from sacpo.recipe.schema import SFT, SampledSpec, StepSpec
from sacpo.recipe.section import Names

Source = tuple[Data | LabelledPairs, ...]
"""What a score is learned from."""


def _again(node: StepModel) -> tuple[str, ...]:
    """Return what a round behind the first adds to the roots of its draws."""
    return () if node.round == 1 else (f"round {node.round}",)


def _bank_name(node: StepModel, spec: ResampleSpec) -> str:
    """Return what samples and their bank are called: with a share of the policy they are of one model's start."""
    return node.name if POLICY in spec.sample_from else node.title


class Sampling(Experiment):
    """Does the stages that sample: pairs, banks of scored answers, what is resampled from them."""

    def check_labels(self) -> None:
        """See that prompts are enough for the pairs that are labelled for scores, before anything is trained."""
        for step in self.recipe.steps:
            spec = step.resample
            for criterion, label in (spec.label if spec is not None else {}).items():
                assert spec is not None and not isinstance(step.dataset, SampledSpec)
                if not spec.sources(criterion):  # else there are other pairs, too
                    names = names_of(step.dataset) if label.own else (label.prompts,)
                    prompts = tuple(self.data[name] for name in names)
                    each = float(min(label.pairs, spec.most_pairs)) if label.own else 1 / spec.batches
                    self.do(EnoughPrompts(step.name, criterion, prompts, each))

    def judged_pairs(self, criterion: str, dataset: str | Names | SampledSpec) -> Source:
        """Return the pairs that a judge learns from."""
        if isinstance(dataset, SampledSpec):
            return (self.sample(f"judge of {criterion}", f"judge-{criterion}", dataset, {"sft": SFT}),)
        return tuple(self.data[name] for name in names_of(dataset))

    def sample_pairs(self, node: StepModel, spec: SampledSpec) -> Pairs:
        """Return the pairs of a step's round: from SFT, from the step's reference and from the model as it stands."""
        models = {"sft": SFT, "reference": node.parent, POLICY: node.start}
        return self.sample(node.name, node.title, spec, models, node.round)

    def sample(self, who: str, title: str, spec: SampledSpec, names: Mapping[str, str], round: int = 1) -> Pairs:
        """Return pairs that a model is trained on; those who sample the same pairs share them."""
        used = [role for role, share in spec.sample_from.items() if share]
        others = [names[role] for role in used if role != "sft" and [names[one] for one in used] != [SFT]]
        sampled = f"pairs of {spec.words}" + (f", round {round}" if round > 1 else "")
        stage = Pairs(
            title="+".join((*dict.fromkeys(others), title)),
            spec=spec,
            judges=tuple(self.judge(criterion) for criterion in spec.weights),
            prompts=self.data[spec.prompts],
            models={role: (names[role], self.checkpoint(names[role])) for role in used},
            tokenizer=self.sft,
            base=self.recipe.base,
            sampled=sampled,
            seeds={"": self.seed(sampled), **{role: self.seed(sampled, role) for role in used}},
            others=tuple(self.judge(criterion) for criterion in spec.offset or ()),
            safety=None if spec.safety is None else self.judge(spec.safety.judge),
            engine=self.recipe.evaluate.generation.engine,
        )
        own = replace(stage, title="").key
        same = [other for other in self.pairs.values() if replace(other, title="").key == own]
        self.pairs[who] = same[0] if same else self.do(stage)
        return self.pairs[who]

    @property
    def pairs_of_steps(self) -> tuple[Pairs, ...]:
        """The pairs that were sampled for steps, in the order of the models."""
        found = {self.pairs[name].name: self.pairs[name] for name in self.nodes if name in self.pairs}
        return (*found.values(),)

    @property
    def sampled(self) -> tuple[LabelledPairs | Resampled, ...]:
        """What was sampled for steps, in the order of the models."""
        pairs = (*self.pairs_of_steps, *self.batches.values())
        return (*pairs, *(self.resampled[name] for name in self.nodes if name in self.resampled))

    def ready(self, node: StepModel) -> bool:
        """Tell whether a step can be trained: its start is there, and so is what it resamples and learns from."""
        before = node.step.resample.waits_for if node.step.resample is not None else ()
        return node.start in self.models and all(name in self.data or name in self.models for name in before)

    def resample(self, node: StepModel, spec: ResampleSpec) -> Resampled:
        """Return a step's resampled answers; steps that differ in their weights or strengths share a bank.

        Banks that differ in who scores share their samples. Scores are learned first: pairs that are too few for
        it end the run before anything is sampled, where they are not of the samples themselves.
        """
        assert node.beta is not None
        own = self.scorers(node, spec)
        samples = self._samples_of(node, spec)
        judged = tuple(self.judge(criterion) for criterion in sorted(spec.weights) if criterion not in own)
        learned = tuple(own[criterion] for criterion in sorted(own))
        bank = Bank(_bank_name(node, spec), samples, judged, learned)
        bank = self.do(self.banks.setdefault(replace(bank, title="").key, bank))
        self.resampled[node.name] = Resampled(
            title=node.name,
            bank=bank,
            tilts={criterion: weight / node.beta for criterion, weight in spec.weights.items()},
            keep=None if spec.draw == "all" else spec.keep,
            least_ess=spec.least_ess,
            seed=self.seed("resample", *_again(node)),
            draw=spec.draw,
            listwise=node.step.listwise > 0,
            traits=self.traits.get(node.step.name) if node.step.listwise else None,
        )
        return self.do(self.resampled[node.name])

    def _samples_of(self, node: StepModel, spec: ResampleSpec) -> Samples:
        """Return a step's samples; steps that ask for the same share them."""
        assert not isinstance(node.step.dataset, SampledSpec)
        counts = spec.counts(node.start)
        samples = Samples(
            title=_bank_name(node, spec),
            reference=self.sft,
            models=tuple((name, self.models[name], count) for name, count in counts.items()),
            prompts=tuple(self.data[name] for name in names_of(node.step.dataset)),
            max_new_tokens=spec.max_new_tokens,
            base=self.recipe.base,
            seeds=tuple(self.seed("bank", *(() if name == SFT else (name,)), *_again(node)) for name in counts),
            engine=self.recipe.evaluate.generation.engine,
        )
        return self.do(self.samples.setdefault(replace(samples, title="").key, samples))

    def scorers(self, node: StepModel, spec: ResampleSpec) -> dict[str, Scorer]:
        """Return the scores that are learned from pairs, implied by steps' models, or put to scale, by criterion."""
        step = node.step
        if step.name not in self.learned:
            given = {criterion: self._given(spec, criterion) for criterion in spec.learned}
            labelled = self._with_samples(node, spec, given)
            self.learned[step.name] = self._with_batches(step, spec, labelled)
        return self._scorers(step, spec, self.learned[step.name])

    def _scorers(
        self, step: StepSpec, spec: ResampleSpec, records: Mapping[str, Source], batch: int | None = None
    ) -> dict[str, Scorer]:
        """Return the scores that are learned from these pairs, those that are implied, and those put to scale."""
        return {
            **{criterion: self._learned(criterion, step, spec, pairs, batch) for criterion, pairs in records.items()},
            **{criterion: self._implied(criterion, spec) for criterion in spec.implicit},
            **{criterion: self._scaled(criterion, step, spec) for criterion in spec.scale},
        }

    def _given(self, spec: ResampleSpec, criterion: str) -> Source:
        """Return the pairs that are there without any label of the step's own."""
        return tuple(source for name in spec.sources(criterion) for source in self._pairs_of(name))

    def _with_samples(self, node: StepModel, spec: ResampleSpec, records: dict[str, Source]) -> dict[str, Source]:
        """Return a step's pairs with those of its own samples that are labelled for it."""
        own = {criterion: label for criterion, label in spec.label.items() if label.own}
        if not own:
            return records
        samples = self._samples_of(node, spec)
        stage = SampleTraits(node.title, samples, self._reader(node.step, spec))
        same = [one for one in self.traits.values() if replace(one, title=node.title).key == stage.key]
        self.traits[node.step.name] = same[0] if same else self.do(stage)
        for criterion, label in own.items():
            sampled = f"pairs of {label.words} among samples"
            labelled = SamplePairs(
                title=f"{node.step.name}/own/{criterion}",
                spec=label,
                judges=tuple(self.judge(judge) for judge in label.weights),
                sampled=sampled,
                seeds={"": self.seed(sampled)},
                traits=self.traits[node.step.name],
            )
            pairs = self.do(self.batches.setdefault(replace(labelled, title="").key, labelled))
            records = {**records, criterion: (*records[criterion], pairs)}
        return records

    def _reader(self, step: StepSpec, spec: ResampleSpec) -> Reader:
        return Reader(self.sft, self.recipe.base, step.max_length, bounds=BOUNDS if spec.surprise else ())

    def _with_batches(self, step: StepSpec, spec: ResampleSpec, records: dict[str, Source]) -> dict[str, Source]:
        """Return a step's pairs with those that are labelled for it, batch by batch."""
        of_prompts = [criterion for criterion, label in spec.label.items() if not label.own]
        if not of_prompts:
            return records
        for number in range(spec.batches):
            weigher = None
            if spec.batches > 1 and all(records.values()):
                scorers = self._scorers(step, spec, records, number)
                weigher = Weigher(
                    tilts={criterion: weight / step.betas[0] for criterion, weight in spec.weights.items()},
                    judges=tuple(self.judge(criterion) for criterion in sorted(spec.judged)),
                    learned=tuple(scorers[criterion] for criterion in sorted(scorers)),
                    candidates=spec.candidates,
                )
            batches = {criterion: self._batch(step, spec, criterion, number, weigher) for criterion in of_prompts}
            records = {name: (*pairs, *([batches[name]] if name in batches else [])) for name, pairs in records.items()}
        return records

    def _batch(self, step: StepSpec, spec: ResampleSpec, criterion: str, number: int, weigher: Weigher | None) -> Batch:
        """Return a batch of pairs that are labelled for a step's score; steps that ask for the same share it."""
        label = spec.label[criterion]
        sampled = f"pairs of {label.words}" + (f", batch {number + 1}" if number else "")
        stage = Batch(
            title=f"{step.name}/{criterion}-{number + 1}",
            spec=label.sampled,
            judges=tuple(self.judge(judge) for judge in label.weights),
            prompts=self.data[label.prompts],
            models={SFT: (SFT, self.sft)},
            tokenizer=self.sft,
            base=self.recipe.base,
            sampled=sampled,
            seeds={"": self.seed(sampled), SFT: self.seed(sampled, SFT)},
            engine=self.recipe.evaluate.generation.engine,
            number=number,
            of=spec.batches,
            lots=self.seed("batches", label.prompts),
            weigher=weigher,
        )
        batch = self.do(self.batches.setdefault(replace(stage, title="").key, stage))
        assert isinstance(batch, Batch)
        return batch

    def _learned(
        self, criterion: str, step: StepSpec, spec: ResampleSpec, records: Source, batch: int | None
    ) -> HeadScorer:
        """Return a criterion's score that is learned from pairs."""
        head = Head(
            title=f"{step.name}/{criterion}" + ("" if batch is None else f"-{batch}"),
            reader=self._reader(step, spec),
            records=records,
            too_long=step.too_long,
            seed=self.seed("head", criterion),
            kinds=spec.prompt_kinds,
            traits=self.traits.get(step.name),
            surprise=spec.surprise,
        )
        return HeadScorer(criterion, self.do(self.heads.setdefault(replace(head, title="").key, head)))

    def _implied(self, criterion: str, spec: ResampleSpec) -> ImplicitScorer:
        """Return a criterion's score that a step's model implies."""
        node = self.nodes[spec.implicit[criterion]]
        assert isinstance(node, StepModel) and node.beta is not None
        reward = Implied(
            title=node.name,
            model=self.checkpoint(node.name),
            reference=self.checkpoint(node.parent),
            beta=node.beta,
            base=self.recipe.base,
            max_length=node.step.max_length,
            too_long=node.step.too_long,
        )
        if not spec.calibrate:
            return ImplicitScorer(criterion, reward, None)
        return ImplicitScorer(criterion, reward, self.do(Calibration(reward, self._pairs_of(node.name))))

    def _scaled(self, criterion: str, step: StepSpec, spec: ResampleSpec) -> ScaledScorer:
        """Return a judge's score put to the scale of held-out pairs; steps that ask for the same share it."""
        pairs = tuple(source for name in spec.named(spec.scale, criterion) for source in self._pairs_of(name))
        scale = Scale(f"{step.name}/{criterion}", self.judge(criterion), pairs)
        return ScaledScorer(criterion, self.do(self.scales.setdefault(replace(scale, title="").key, scale)))

    def _pairs_of(self, name: str) -> tuple[Data | Pairs, ...]:
        """Return the pairs of a data source, or those that a step learned from."""
        if name in self.data:
            return (self.data[name],)
        if name in self.pairs:
            return (self.pairs[name],)
        node = self.nodes[name]
        assert isinstance(node, StepModel) and not isinstance(node.step.dataset, SampledSpec)
        return tuple(self.data[source] for source in names_of(node.step.dataset))
