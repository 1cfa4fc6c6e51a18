"""AlignStep: the one mechanism behind every step, DPO or KTO, full fine-tuning or LoRA, first or later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from sacpo.align.adapters import initial_policy
from sacpo.align.engine.arguments import training_arguments
from sacpo.align.engine.layout import Chosen, Layouts, choose_layout
from sacpo.align.job import TrainingJob
from sacpo.align.objectives.dpo import DpoObjective, hardened, oriented, pair_trees
from sacpo.align.objectives.kto import Continuing, KtoObjective, class_weights, mismatched_trees, unpaired
from sacpo.align.objectives.objective import Layout, Objective
from sacpo.align.outcome import checkpoint_folder, settings, write_outcome
from sacpo.align.reference.cached import reference_key, reference_logps
from sacpo.align.reference.score import Score, autocast_type, scorer
from sacpo.align.reference.start import has_dropout
from sacpo.align.trainer import train
from sacpo.data.packing import Tree, continuing_row
from sacpo.data.records import Labelled, Pair
from sacpo.data.tokenize import tokenize_labelled, tokenize_pairs
from sacpo.errors import DataError
from sacpo.losses.agreement import check_continuation
from sacpo.losses.head import split_model
from sacpo.losses.logps import bare
from sacpo.models.tokens import padding_token
from sacpo.recipe.schema import StepSpec
from sacpo.system import processes
from sacpo.system.memory import kept_memory
from sacpo.system.progress import QUIET, Progress

UNSPLIT = "the head cannot be split from this model: all logits of a device batch are computed, which takes memory"
LONG_PROMPT = 32
"""Mean tokens of prompts from which on KTO's mismatches continue the batch's own row."""


@kept_memory()
def run_align(
    job: TrainingJob,
    step: StepSpec,
    beta: float,
    records: Sequence[Pair] | Sequence[Labelled],
    out: Path,
    cache: Path,
    *,
    layout: Layouts | None = None,
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Train one alignment step, resuming what a killed process left in `out`.

    The step's reference is the model it starts from. `beta` is the strength of the step's criterion: for a constraint
    criterion it is the paper's beta/lambda (eq. 11), wherever the step stands in the order.

    Args:
        job: Where to start and how to train.
        step: Algorithm, soft labels and KTO's weights.
        beta: The strength, one of the step's `betas`.
        records: Pairs for DPO; pairs or labelled completions for KTO.
        out: The stage's working folder; see `sacpo.align.outcome.write_outcome`.
        cache: Folder of reference log-probs, shared by all steps of a run.
        layout: "padded", "packed" or "auto", see `sacpo.align.engine.layout`; None: the step's.
        progress: Where to show it.

    Returns:
        The summary that is also in `summary.json`.

    Raises:
        TrainingDiverged: A loss or gradient norm became NaN or infinite.
        UserError: The data, the model, an option or the machine does not allow it.
    """
    arguments = training_arguments(job, checkpoint_folder(out))
    tokenizer, policy = job.load_tokenizer(), initial_policy(job)
    pad_id = padding_token(tokenizer, bare(policy))
    reference = Reference(job, policy, arguments, cache, layout or step.layout, pad_id, progress)
    objective, counts = make_objective(job, step, beta, records, tokenizer, reference)
    log = train(policy, arguments, objective, progress=progress, description=job.name)
    summary = {"kind": step.algorithm, "criterion": step.criterion, "beta": beta, **counts, **settings(job)}
    summary = {**summary, "reference": reference.describe()}
    return write_outcome(out, policy, tokenizer, log, summary, job, write=arguments.should_save)


@dataclass
class Reference:
    """A step's reference as a source of cached log-probs, and the row layout that it shares with the policy.

    Attributes:
        job: Names the initial policy's weights.
        policy: The initial policy, or a peft model around it.
        arguments: Precision and batch size.
        cache: Folder of log-probs; None: they are kept in memory alone.
        wanted: The row layout asked for.
        pad_id: The padding token.
        progress: Where to show it.
        statistics: Whether the objective logs statistics of tokens.
        other: A reference that is not the initial policy.
        adapter: Whether the policy's adapter belongs to its reference; a new one does not.
        chosen: The row layout, once it is chosen.
    """

    job: TrainingJob
    policy: nn.Module
    arguments: TrainingArguments
    cache: Path | None
    wanted: Layouts
    pad_id: int
    progress: Progress
    statistics: bool = False
    other: PreTrainedModel | None = None
    adapter: bool = False
    chosen: Chosen | None = None

    @cached_property
    def weights(self) -> str:
        """The content key of the reference's weights."""
        return self.job.weights_key()

    @property
    def batch_size(self) -> int:
        """Trees of a forward pass."""
        return self.arguments.per_device_train_batch_size

    def layout(self, trees: Sequence[Tree]) -> Layout:
        """Return the row layout, chosen on the first trees asked for."""
        if self.chosen is None:
            asked = self.job.base.attn_implementation
            compiled, precision = self.arguments.torch_compile, autocast_type(self.arguments)
            choose = partial(choose_layout, attention=asked, compiled=compiled, precision=precision)
            models = [bare(self.policy), *([] if self.other is None else [self.other])]
            found = [choose(self.wanted, model, trees, self.pad_id, self.progress) for model in models]
            self.chosen = min(found, key=lambda chosen: chosen.rank)
            if split_model(bare(self.policy)) is None:
                self.progress.notice(f"{self.job.name}: {UNSPLIT}")
        return self.chosen.rows

    def continuing(self, trees: Sequence[Tree], others: Sequence[Tree]) -> Continuing | None:
        """Return the layout of other completions behind a batch's own row, where that is right and saves work.

        Keys and values of the prompts are kept for it, which neither dropout nor checkpointing allows; short prompts
        are not worth a part of attention each. Several processes average z0 before their passes.
        """
        assert self.chosen is not None
        if self.chosen.name != "flat" or processes.size() > 1 or self._checkpointing:
            return None
        short = sum(len(tree.prompt) for tree in trees) < LONG_PROMPT * len(trees)
        if short or has_dropout(self.policy):
            return None
        agrees = check_continuation(bare(self.policy), trees, others, pad_id=self.pad_id)
        return partial(continuing_row, pad_id=self.pad_id) if agrees else None

    @property
    def _checkpointing(self) -> bool:
        return self.arguments.gradient_checkpointing or bare(self.policy).is_gradient_checkpointing

    def scorer(self) -> Score:
        """Return the reference as a function from trees to log-probs."""
        assert self.chosen is not None
        scored = self.policy if self.other is None else self.other
        off = self.other is None and not self.adapter
        return scorer(scored, self.chosen.rows, autocast_type(self.arguments), reference=off)

    def logps(self, trees: Sequence[Tree], ids: Sequence[str], **settings: Any) -> torch.Tensor:
        """Return the initial policy's log-probs of all completions; `settings` join the content key."""
        self.layout(trees)
        key = ""
        if self.cache is not None:
            key = reference_key(trees, {**self.describe(), "weights": self.weights, **settings})
        return reference_logps(
            trees,
            self.scorer(),
            key=key,
            cache=self.cache,
            batch_size=self.batch_size,
            ids=ids,
            by_length=self.chosen is None or self.chosen.name == "padded",
            progress=self.progress,
        )

    def describe(self) -> dict[str, Any]:
        """Return everything beside weights and tokens that a value depends on."""
        model = bare(self.policy if self.other is None else self.other)
        return {
            "template": self.job.base.template,
            "layout": self.chosen.name if self.chosen else None,
            "attention": model.config._attn_implementation,
            "quantization": self.job.base.quantization and self.job.base.quantization.model_dump(),
            "dtype": str(model.dtype).removeprefix("torch."),
            "autocast": str(autocast_type(self.arguments)).removeprefix("torch."),
            "tf32": bool(self.arguments.tf32),
            "device": model.device.type,
            "batch_size": self.batch_size,
        }


def make_objective(
    job: TrainingJob,
    step: StepSpec,
    beta: float,
    records: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    reference: Reference,
    *,
    weights: tuple[float, float] | None = None,
) -> tuple[Objective, dict[str, Any]]:
    """Return a step's loss over its records, with their reference log-probs, and counts for the summary.

    `weights` are KTO's (w+, w-) where they do not come from these records, as for held-out ones.
    """
    if step.algorithm == "dpo":
        return _dpo(job, step, beta, records, tokenizer, reference)
    return _kto(job, step, beta, records, tokenizer, reference, weights)


def _dpo(
    job: TrainingJob,
    step: StepSpec,
    beta: float,
    records: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    reference: Reference,
) -> tuple[Objective, dict[str, Any]]:
    _require(records, Pair, "DPO", "pairs; labelled completions train with algorithm: kto")
    template = job.template(tokenizer)
    tokens, report = tokenize_pairs(records, tokenizer, template, max_length=job.max_length, too_long=job.too_long)
    pairs = [oriented(pair) for pair in tokens]
    ties = sum(pair.p == 0.5 for pair in pairs)
    if not step.soft_labels:
        pairs = hardened(pairs)
    report.require_some(job.name)
    if not pairs:
        raise DataError(
            "no records are left to train on: every pair is a tie, which has no hard label",
            where=f"training of {job.name}",
            value=f"{ties} ties",
            do="set soft_labels: true, or give other pairs",
        )
    trees = pair_trees(pairs)
    logps = reference.logps(trees, [pair.id for pair in pairs])
    objective = DpoObjective(pairs, logps, beta=beta, layout=reference.layout(trees), statistics=reference.statistics)
    return objective, {
        "records": report.to_json(),
        "pairs": len(pairs),
        "soft_labels": step.soft_labels,
        "ties": ties,
        "ties_dropped": 0 if step.soft_labels else ties,
    }


def _kto(
    job: TrainingJob,
    step: StepSpec,
    beta: float,
    records: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    reference: Reference,
    weights: tuple[float, float] | None,
) -> tuple[Objective, dict[str, Any]]:
    ties = sum(isinstance(record, Pair) and record.p == 0.5 for record in records)
    if records and isinstance(records[0], Pair):
        _require(records, Pair, "KTO that began with pairs", "pairs only")
        records = unpaired(records)
    _require(records, Labelled, "KTO", "pairs, or labelled completions")
    template = job.template(tokenizer)
    tokens, report = tokenize_labelled(records, tokenizer, template, max_length=job.max_length, too_long=job.too_long)
    report.require_some(job.name)
    if weights is None:
        weights = class_weights([record.label for record in tokens], step.desirable_weight, step.undesirable_weight)
    mismatches = mismatched_trees(tokens, job.seed, job.max_length)
    # both completions of a prompt as branches, so that the reference pass computes it once
    trees = [Tree(r.prompt, (r.completion, m.completions[0])) for r, m in zip(tokens, mismatches, strict=True)]
    logps = reference.logps(trees, [record.id for record in tokens], pairing_seed=job.seed)
    objective = KtoObjective(
        tokens,
        mismatches,
        logps.view(-1, 2).T,
        beta=beta,
        weights=weights,
        layout=reference.layout(trees),
        continuing=reference.continuing([Tree(r.prompt, (r.completion,)) for r in tokens], mismatches),
        statistics=reference.statistics,
    )
    return objective, {
        "records": report.to_json(),
        "completions": len(tokens),
        "ties_dropped": ties,
        "desirable_weight": weights[0],
        "undesirable_weight": weights[1],
    }


def _require(records: Sequence[Any], kind: type, algorithm: str, allowed: str) -> None:
    wrong = next((record for record in records if not isinstance(record, kind)), None)
    if wrong is not None:
        raise DataError(
            f"{algorithm} cannot learn from this kind of record",
            where=getattr(wrong, "source", None) or None,
            value=type(wrong).__name__,
            allowed=allowed,
            do=f"give {allowed.split(';')[0]}",
        )
