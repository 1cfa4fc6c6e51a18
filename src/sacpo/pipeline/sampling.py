"""What steps and judges are trained on where a recipe samples it: labelled pairs and resampled answers."""

from __future__ import annotations

from dataclasses import replace

from sacpo.pipeline.experiment import Experiment
from sacpo.pipeline.stages.bank import Bank, Resampled
from sacpo.pipeline.stages.data import Data
from sacpo.pipeline.stages.pairs import Pairs
from sacpo.pipeline.stages.train import names_of
from sacpo.recipe.models import StepModel
from sacpo.recipe.resample import ResampleSpec
from sacpo.recipe.schema import SFT, SampledSpec
from sacpo.recipe.section import Names


class Sampling(Experiment):
    """Does the stages that sample: pairs, banks of scored answers, what is resampled from them."""

    def judged_pairs(self, criterion: str, dataset: str | Names | SampledSpec) -> tuple[Data | Pairs, ...]:
        """Return the pairs that a judge learns from."""
        if isinstance(dataset, SampledSpec):
            return (self.sample(f"judge of {criterion}", f"judge-{criterion}", dataset, SFT),)
        return tuple(self.data[name] for name in names_of(dataset))

    def sample(self, who: str, title: str, spec: SampledSpec, reference: str) -> Pairs:
        """Return pairs that a model is trained on; those who sample the same pairs share them."""
        names = {"sft": SFT, "reference": reference}
        used = [role for role, share in spec.sample_from.items() if share]
        sampled = f"pairs of {spec.words}"
        stage = Pairs(
            title=title if [names[role] for role in used] == [SFT] else f"{reference}+{title}",
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
        )
        own = replace(stage, title="").key
        same = [other for other in self.pairs.values() if replace(other, title="").key == own]
        self.pairs[who] = same[0] if same else self.do(stage)
        return self.pairs[who]

    def resample(self, node: StepModel, spec: ResampleSpec) -> Resampled:
        """Return a step's resampled answers; steps that differ in their weights or strengths share a bank."""
        assert node.beta is not None
        assert not isinstance(node.step.dataset, SampledSpec)
        bank = Bank(
            title=node.step.name,
            model=self.sft,
            prompts=tuple(self.data[name] for name in names_of(node.step.dataset)),
            judges=tuple(self.judge(criterion) for criterion in sorted(spec.weights)),
            samples=spec.samples,
            max_new_tokens=spec.max_new_tokens,
            base=self.recipe.base,
            seed=self.seed("bank"),
        )
        bank = self.do(self.banks.setdefault(replace(bank, title="").key, bank))
        self.resampled[node.name] = Resampled(
            title=node.name,
            bank=bank,
            tilts={criterion: weight / node.beta for criterion, weight in spec.weights.items()},
            keep=spec.keep,
            least_ess=spec.least_ess,
            seed=self.seed("resample"),
            draw=spec.draw,
        )
        return self.do(self.resampled[node.name])
