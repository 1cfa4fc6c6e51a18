"""The text of a recipe for a user's own model and data, with comments that say what may be changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sacpo.recipe.formats import RecordKind
from sacpo.recipe.schema import SourceSpec

TEXT = """\
# Written by `sacpo new`. Every key: `sacpo schema`, or docs/recipe.md. Check it: `sacpo validate FILE`; what it would
# do and cost: `sacpo run FILE --dry-run`; do it: `sacpo run FILE`. Paths are relative to the folder you run it in.
{said}
name: {name}
seed: 0

base:
  model: {model}
  template: chat  # how a prompt becomes text: chat (the tokenizer's own), paper, plain, or a text with {{prompt}}
  # dtype: bfloat16  # of the weights; by default float32 where all are trained, else what the model's own files say

data:  # holdout: a share of the pairs' prompts, on which the trained models' preferences are tested
  helpful: {helpful}
  safe: {safe}

training:  # names and meanings of transformers.TrainingArguments, for every step
  num_train_epochs: 1
  per_device_train_batch_size: 8
  gradient_accumulation_steps: 4
  learning_rate: 1.0e-6  # with LoRA about 1.0e-5 to 1.0e-4
  lr_scheduler_type: cosine
  warmup_steps: 0.03  # below 1: a share of all steps
  save_steps: 200  # a killed run goes on from here

steps:
  - name: H  # step 1: helpfulness. It starts from the base, which is its reference ("sft" without an sft section)
    criterion: helpfulness
    from: sft
    dataset: helpful{helpful_algorithm}
    beta: 0.1  # strength of the pull to the reference
    max_length: 512  # tokens of prompt and completion together
    # lora: {{r: 16}}  # train an adapter, in a fraction of the memory
  - name: H-S  # step 2: safety, from step 1
    criterion: harmlessness
    from: H
    dataset: safe{safe_algorithm}
    beta: 0.1  # beta/lambda: a smaller value is a stronger pull to safety. A sweep: [0.1, 0.05, 0.025]
    max_length: 512
    # lora: {{r: 16}}

merge:  # P-SACPO: (1 - q) H + q (H-S), models between the two without more training
  - {{name: P, models: [H, H-S], q: [0.25, 0.5, 0.75]}}

prompts:  # the selection sees "tuning" alone; headlines are read from "report"
  tuning: {{role: tuning, format: prompts, path: {tuning}{tuning_limit}}}
  report: {{role: report, format: prompts, path: {report}{report_limit}}}

evaluate:
  generation: {{max_new_tokens: 256, batch_size: 16}}  # do_sample: true samples; greedy is the default
  judges:  # one a criterion
    refusal: {{kind: refusal}}  # finds refusals in the text, without a model
    # Reward and cost models; `dataset: helpful` in place of `model` trains one on your own pairs:
    # helpfulness: {{kind: reward-model, model: PKU-Alignment/beaver-7b-v1.0-reward}}
    # harmlessness: {{kind: reward-model, model: PKU-Alignment/beaver-7b-v1.0-cost, sign: -1, unsafe_below: 0.0}}
    # Or language models behind an OpenAI-compatible endpoint, by built-in rubrics (the key: OPENAI_API_KEY):
    # helpfulness: {{kind: llm, panel: {{model: gpt-4o-mini}}}}
    # safety: {{kind: llm, panel: {{model: gpt-4o-mini}}}}

# The choice of a model needs such judges: the most helpful one that meets the bound. Without them all are compared.
# constraints:
#   - {{metric: unsafe_rate, prompts: tuning, at_most: 0.05}}
# objective: {{metric: win_rate, criterion: helpfulness, prompts: tuning}}
"""
KTO = "\n    algorithm: kto  # labelled completions: DPO and IPO need pairs"
ENOUGH = 200
"""Prompts of a set that a first run answers."""
PAIRS = "  # algorithm: dpo (the default), ipo or kto"


@dataclass(frozen=True)
class StepData:
    """The data of one step.

    Attributes:
        path: The file to train on.
        spec: How it is read.
        kind: What its records are.
        origin: The user's file.
    """

    path: str
    spec: SourceSpec
    kind: RecordKind
    origin: str


def starter(
    name: str, model: str, steps: Mapping[str, StepData], prompts: Mapping[str, tuple[str, int]], said: Sequence[str]
) -> str:
    """Return a recipe: a helpfulness step, a safety step, their merges, and the refusal detector as a judge.

    Args:
        name: The run's name.
        model: Hub id or folder.
        steps: The data of `helpful` and `safe`.
        prompts: The files of `tuning` and `report`, and how many prompts they hold.
        said: What is known of the files, for the head.
    """
    return TEXT.format(
        said="".join(f"#   {' '.join(line.split())}\n" for line in said).rstrip("\n"),
        name=_quoted(name),
        model=_quoted(model),
        **{step: _source(data) for step, data in steps.items()},
        **{f"{step}_algorithm": KTO if data.kind == "unpaired" else PAIRS for step, data in steps.items()},
        **{role: _quoted(path) for role, (path, _) in prompts.items()},
        **{f"{role}_limit": f", limit: {ENOUGH}" * (n > ENOUGH) for role, (_, n) in prompts.items()},
    )


def _source(data: StepData) -> str:
    label = f", label: {data.spec.label}" if data.spec.label else ""
    origin = "" if data.path == data.origin else f"  # of {' '.join(data.origin.split())}"
    held = ", holdout: 0.05" if data.kind == "pairs" else ""
    return f"{{format: {data.spec.format}, path: {_quoted(data.path)}{label}{held}}}{origin}"


def _quoted(text: str) -> str:
    """Return a text as a YAML scalar; JSON's strings are YAML's."""
    return json.dumps(text, ensure_ascii=False)
