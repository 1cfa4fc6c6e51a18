"""The recipe: one YAML file = one experiment, as a pydantic schema.

Only pydantic and YAML are imported here, so that `sacpo validate` answers at once. What a recipe's parts mean:

    name, seed          the run's folder and the root of every random number
    world               the synthetic preference world, where one is used
    base                the model and tokenizer to start from
    data                named sources of records
    sft                 optional supervised fine-tuning; its model is called "sft" (without it, "sft" is the base)
    steps               alignment steps: criterion, algorithm, dataset, strength, and the model to start from
    merge               pairs of models with a method and merge weights q
    prompts             named evaluation sets, each with a role
    evaluate            generation options, judges and the baseline
    constraints         bounds that the selected model must meet
    objective           what the selected model maximises under them
    certify             the constraints, shown to hold on prompts that the choice has not seen
"""

from sacpo.recipe.resample import SFT
from sacpo.recipe.sampled import SafetySpec, SampledSpec
from sacpo.recipe.schema.base import BaseSpec, QuantizationSpec, TokenizerSpec
from sacpo.recipe.schema.evaluate import (
    CertifySpec,
    ConstraintSpec,
    Engine,
    EvaluateSpec,
    GenerationSpec,
    LabelsSpec,
    ObjectiveSpec,
    RaceSpec,
    ReportSpec,
    TailSpec,
    TheorySpec,
)
from sacpo.recipe.schema.judges import JUDGES, SCORER, TRAINED, JudgeFacts, JudgeKind, JudgeSpec
from sacpo.recipe.schema.merges import FIDELITY_SAMPLES, MergeSpec, PathSpec
from sacpo.recipe.schema.recipe import Recipe, WorldSpec
from sacpo.recipe.schema.sources import Data, DataSpec, PromptsSpec, SourceSpec
from sacpo.recipe.schema.steps import DualSpec, SearchSpec, StepSpec, StepStart
from sacpo.recipe.schema.training import LAYOUT, Layout, LoraSpec, SftSpec, TrainingSpec

__all__ = [
    "FIDELITY_SAMPLES",
    "JUDGES",
    "LAYOUT",
    "SCORER",
    "SFT",
    "TRAINED",
    "BaseSpec",
    "CertifySpec",
    "ConstraintSpec",
    "Data",
    "DataSpec",
    "DualSpec",
    "Engine",
    "EvaluateSpec",
    "GenerationSpec",
    "JudgeFacts",
    "JudgeKind",
    "JudgeSpec",
    "LabelsSpec",
    "Layout",
    "LoraSpec",
    "MergeSpec",
    "ObjectiveSpec",
    "PathSpec",
    "PromptsSpec",
    "QuantizationSpec",
    "RaceSpec",
    "Recipe",
    "ReportSpec",
    "SafetySpec",
    "SampledSpec",
    "SearchSpec",
    "SftSpec",
    "SourceSpec",
    "StepSpec",
    "StepStart",
    "TailSpec",
    "TheorySpec",
    "TokenizerSpec",
    "TrainingSpec",
    "WorldSpec",
]
