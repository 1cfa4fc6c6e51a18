"""Supervised fine-tuning: the mean negative log-prob of the demonstrations' tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from sacpo.align.adapters import initial_policy
from sacpo.align.engine.arguments import training_arguments
from sacpo.align.engine.kept import keeping
from sacpo.align.engine.layout import LayoutName, choose_layout
from sacpo.align.job import TrainingJob
from sacpo.align.objectives.objective import Batch, Forward, Gather, Metrics
from sacpo.align.objectives.pairs import real_tokens
from sacpo.align.outcome import checkpoint_folder, settings, write_outcome
from sacpo.align.reference.score import autocast_type
from sacpo.align.trainer import train
from sacpo.data.packing import LayRows
from sacpo.data.records import Demonstration
from sacpo.data.tokenize import TokenDemo, completion_trees, tokenize_demonstrations
from sacpo.losses.logps import completion_token_logps, unwrapped
from sacpo.models.tokens import padding_token
from sacpo.plain import JsonObject
from sacpo.recipe.kept_weights import check_options, refuse_evaluation
from sacpo.system.progress import QUIET, Progress


class SftObjective:
    """-w log pi(token | before), averaged over all completion tokens of a batch; prompts are not learnt.

    Args:
        demonstrations: Completions with their weights w.
        layout: How a device batch is laid out in rows.
        pair_groups: Which neighbours stay neighbours in a random order; None: none do.
    """

    def __init__(
        self, demonstrations: Sequence[TokenDemo], layout: LayRows, pair_groups: Sequence[int] | None = None
    ) -> None:
        self.ids = [demonstration.id for demonstration in demonstrations]
        self.first_loss = None
        self.pair_groups = pair_groups
        self.trees = completion_trees(demonstrations)
        self.weights = torch.tensor([demonstration.weight for demonstration in demonstrations])
        self.layout = layout

    def collate(self, indices: list[int]) -> Batch:
        """Lay out the demonstrations at these positions; the units are completion tokens."""
        trees = [self.trees[i] for i in indices]
        units = sum(len(tree.completions[0]) for tree in trees)
        return Batch(indices, self.layout(trees), units, real_tokens(trees), {"weight": self.weights[indices]})

    def prepare(self, batches: Sequence[Batch], forward: Forward[torch.Tensor], gather: Gather) -> None:
        """Do nothing: demonstrations share nothing."""

    def loss(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, Metrics]:
        """Return the sum of the tokens' negative log-probs, each times its completion's weight."""
        logps = forward(lambda model: completion_token_logps(model, batch.rows))
        weights = batch.tensors["weight"][batch.rows.owner]
        return -(logps * weights).sum(), {}

    def start_gaps(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return None: there is no reference."""
        return None


def run_sft(
    job: TrainingJob,
    records: Sequence[Demonstration],
    out: Path,
    *,
    layout: LayoutName = "auto",
    progress: Progress = QUIET,
) -> JsonObject:
    """Fine-tune a model on demonstrations, resuming what a killed process left in `out`.

    Args:
        job: Where to start and how to train.
        records: Demonstrations.
        out: The stage's working folder; see `sacpo.align.outcome.write_outcome`.
        layout: "padded", "packed" or "auto" (packed where it agrees with padded).
        progress: Where to show it.

    Returns:
        The summary that is also in `summary.json`.

    Raises:
        TrainingDiverged: A loss or gradient norm became NaN or infinite.
        UserError: The data, the model, an option or the machine does not allow it.
    """
    check_options(job.options, job.name)
    refuse_evaluation(job.options, job.name, "SFT has no held-out demonstrations")
    arguments = training_arguments(job, checkpoint_folder(out))
    tokenizer, policy = job.load_tokenizer(), initial_policy(job)
    template = job.template(tokenizer)
    demonstrations, report = tokenize_demonstrations(
        records, tokenizer, template, max_length=job.max_length, too_long=job.too_long
    )
    report.require_some(job.name, progress)
    trees = completion_trees(demonstrations)
    compiled, precision = arguments.torch_compile, autocast_type(arguments)
    asked = job.base.attn_implementation
    choose = partial(choose_layout, attention=asked, compiled=compiled, precision=precision)
    rows = choose(layout, unwrapped(policy), trees, padding_token(tokenizer, policy), progress)
    objective = SftObjective(demonstrations, rows.rows)
    log = train(policy, arguments, objective, progress=progress, description=job.name, keeping=keeping(job.options))
    summary = {"kind": "sft", "records": report.to_json(), "layout": rows.name, **settings(job)}
    return write_outcome(out, policy, tokenizer, log, summary, job, write=arguments.should_save)
