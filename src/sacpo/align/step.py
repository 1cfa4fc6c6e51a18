"""AlignStep: the one mechanism behind every step, whatever its algorithm, full fine-tuning or LoRA, first or later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sacpo.align.adapters import initial_policy
from sacpo.align.defaults import of_step
from sacpo.align.engine.arguments import training_arguments
from sacpo.align.engine.kept import keeping
from sacpo.align.engine.layout import LayoutName
from sacpo.align.heldout import held_out
from sacpo.align.job import TrainingJob
from sacpo.align.objectives.objective import Objective
from sacpo.align.objectives.registry import Parts, make_objective
from sacpo.align.outcome import checkpoint_folder, settings, write_outcome
from sacpo.align.reference.source import Reference
from sacpo.align.trainer import train
from sacpo.data.records import Labelled, Pair
from sacpo.losses.logps import unwrapped
from sacpo.models.tokens import padding_token
from sacpo.plain import JsonObject
from sacpo.recipe.algorithms import ALGORITHMS
from sacpo.recipe.kept_weights import check_heldout, check_options, evaluates
from sacpo.recipe.schema import StepSpec
from sacpo.system.memory import kept_memory
from sacpo.system.progress import QUIET, Progress


@kept_memory()
def run_align(
    job: TrainingJob,
    step: StepSpec,
    beta: float,
    records: Sequence[Pair] | Sequence[Labelled],
    out: Path,
    cache: Path,
    *,
    reference: str | Path | None = None,
    layout: LayoutName | None = None,
    heldout: Sequence[Pair] = (),
    progress: Progress = QUIET,
) -> JsonObject:
    """Train one alignment step, resuming what a killed process left in `out`.

    The step's reference is the model it starts from, or another one, which is in memory only until its log-probs are
    computed. `beta` is the strength of the step's criterion: for a constraint criterion it is the paper's beta/lambda
    (eq. 11), wherever the step stands in the order.

    Args:
        job: Where to start and how to train.
        step: The algorithm and its options.
        beta: The strength, one of the step's `betas`.
        records: Those that the algorithm takes, see `sacpo.recipe.algorithms`.
        out: The stage's working folder; see `sacpo.align.outcome.write_outcome`.
        cache: Folder of reference log-probs, shared by all steps of a run.
        reference: The reference, where the training starts from another model, as a later round does.
        layout: "padded", "packed" or "auto", see `sacpo.align.engine.layout`; None: the step's.
        heldout: Pairs of other prompts, on which the loss is computed while it trains, where the job's options ask.
        progress: Where to show it.

    Returns:
        The summary that is also in `summary.json`.

    Raises:
        TrainingDiverged: A loss or gradient norm became NaN or infinite.
        UserError: The data, the model, an option or the machine does not allow it.
    """
    if "pairs" in ALGORITHMS[step.algorithm].records:
        job = replace(job, training=of_step(job.training, lora=job.lora is not None))
    check_options(job.options, job.name)
    check_heldout(job.options, job.name, some=bool(heldout))
    arguments = training_arguments(job, checkpoint_folder(out))
    tokenizer, policy = job.load_tokenizer(), initial_policy(job)
    pad_id = padding_token(tokenizer, unwrapped(policy))
    scored = Reference(job, policy, arguments, cache, layout or step.layout, pad_id, progress)
    if reference is not None:
        scored.job = replace(job, model=reference)
        scored.other = scored.job.load_model(adapters="merged").eval()
    parts = Parts(job, step, beta, records, tokenizer, scored)
    objective, counts = make_objective(parts)
    held: Objective | None = None
    if evaluates(job.options):
        with held_out(job.name, heldout):
            held, _ = make_objective(replace(parts, records=heldout, training=objective))
        counts["heldout_records"] = len(held.ids)
    described = scored.describe()
    scored.other = None
    log = train(
        policy,
        arguments,
        objective,
        progress=progress,
        description=job.name,
        starts_at_reference=reference is None,
        keeping=keeping(job.options, held),
    )
    summary = {"kind": step.algorithm, "criterion": step.criterion, "beta": beta, **counts, **settings(job)}
    summary = {**summary, "reference": described}
    return write_outcome(out, policy, tokenizer, log, summary, job, write=arguments.should_save)
