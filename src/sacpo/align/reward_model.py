"""A reward model from preference pairs: Bradley-Terry on a sequence classifier with one logit.

The classifier reads template(prompt) + completion + end token, right-padded, as its class does: whoever scores with
it gives it the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification, GenerationConfig, PreTrainedModel

from sacpo.align.engine.arguments import training_arguments
from sacpo.align.engine.kept import keeping
from sacpo.align.engine.layout import require_context
from sacpo.align.heldout import held_out, heldout_trees, preferences
from sacpo.align.job import TrainingJob
from sacpo.align.objectives.objective import Batch, Forward, Gather, Metrics
from sacpo.align.objectives.pairs import no_offsets, oriented, pair_trees, real_tokens
from sacpo.align.outcome import checkpoint_folder, settings, write_outcome
from sacpo.align.reference.score import score_all
from sacpo.align.trainer import train
from sacpo.data.packing import Rows, Tree, padded_rows
from sacpo.data.records import Pair
from sacpo.data.tokenize import TokenPair, tokenize_pairs
from sacpo.errors import RecipeError
from sacpo.models.tokens import classifier_padding
from sacpo.plain import JsonObject
from sacpo.recipe.kept_weights import check_heldout, check_options, evaluates
from sacpo.system.progress import QUIET, Progress


class RewardObjective:
    """-p log sigmoid(d) - (1 - p) log sigmoid(-d), d = r(chosen) - r(rejected): Bradley-Terry with soft labels.

    Args:
        pairs: Oriented pairs: p >= .5.
        pad_id: The tokenizer's padding token.
    """

    def __init__(self, pairs: Sequence[TokenPair], pad_id: int) -> None:
        self.ids = [pair.id for pair in pairs]
        self.pair_groups = self.first_loss = None
        self.trees = pair_trees(pairs)
        self.p = torch.tensor([pair.p for pair in pairs], dtype=torch.float32)
        self.pad_id = pad_id

    def collate(self, indices: list[int]) -> Batch:
        """Lay out the pairs at these positions, one completion a row; the units are pairs."""
        trees = [self.trees[i] for i in indices]
        rows = padded_rows(trees, pad_id=self.pad_id)
        return Batch(indices, rows, len(indices), real_tokens(trees), {"p": self.p[indices]})

    def prepare(self, batches: Sequence[Batch], forward: Forward[torch.Tensor], gather: Gather) -> None:
        """Do nothing: pairs share nothing."""

    def loss(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, Metrics]:
        """Return the sum of the pairs' losses; a tie has no accuracy."""
        chosen, rejected = forward(partial(rewards, rows=batch.rows)).view(-1, 2).unbind(1)
        margin, p = chosen - rejected, batch.tensors["p"]
        losses = -p * logsigmoid(margin) - (1 - p) * logsigmoid(-margin)
        n, decided = len(batch), int((self.p[batch.indices] != 0.5).sum())
        return losses.sum(), {
            "rewards/chosen": (chosen.sum(), n),
            "rewards/rejected": (rejected.sum(), n),
            "rewards/accuracies": (((margin > 0) & (p != 0.5)).sum(), decided),
            "rewards/margins": (margin.sum(), n),
        }

    def start_gaps(self, batch: Batch, forward: Forward[torch.Tensor]) -> None:
        """Return None: there is no reference."""
        return


def rewards(model: PreTrainedModel, rows: Rows) -> torch.Tensor:
    """Return a classifier's logit of each row. Shape: (rows,) float32."""
    logits = model(input_ids=rows.input_ids, attention_mask=rows.attention_mask).logits
    return cast(torch.Tensor, logits[:, 0].float())


def train_reward_model(
    job: TrainingJob,
    records: Sequence[Pair],
    out: Path,
    *,
    heldout: Sequence[Pair] = (),
    progress: Progress = QUIET,
) -> JsonObject:
    """Train a reward model, resuming what a killed process left in `out`.

    Args:
        job: The causal model whose weights the classifier starts from, and how to train.
        records: Preference pairs, soft labels kept.
        out: The stage's working folder; see `sacpo.align.outcome.write_outcome`.
        heldout: Pairs on which its accuracy is measured.
        progress: Where to show it.

    Returns:
        The summary that is also in `summary.json`; `heldout` holds n, accuracy, clusters and correct.

    Raises:
        TrainingDiverged: A loss or gradient norm became NaN or infinite.
        UserError: The data, the model, an option or the machine does not allow it.
    """
    if job.lora is not None:
        raise RecipeError("a reward model is trained with all its weights", where=job.name, do="leave lora out")
    check_options(job.options, job.name)
    check_heldout(job.options, job.name, some=bool(heldout))
    arguments = training_arguments(job, checkpoint_folder(out))
    tokenizer = job.load_tokenizer()
    template = job.template(tokenizer)
    tokens, report = tokenize_pairs(records, tokenizer, template, max_length=job.max_length, too_long=job.too_long)
    report.require_some(job.name, progress)
    if any(pair.offset for pair in tokens):
        raise no_offsets(job.name, "a reward model")
    model = _classifier(job)
    pad_id = classifier_padding(tokenizer.pad_token_id, cast(int, tokenizer.eos_token_id), model)
    model.config.pad_token_id = pad_id  # the class finds a row's last token by it
    objective = RewardObjective([oriented(pair) for pair in tokens], pad_id)
    require_context(model, objective.trees)
    held: RewardObjective | None = None
    if evaluates(job.options):
        others, left = tokenize_pairs(heldout, tokenizer, template, max_length=job.max_length, too_long=job.too_long)
        with held_out(job.name, heldout):
            left.require_some(job.name, QUIET)
        held = RewardObjective([oriented(pair) for pair in others], pad_id)
    kept = keeping(job.options, held)
    log = train(model, arguments, objective, progress=progress, description=job.name, keeping=kept)
    summary = {"kind": "reward-model", "records": report.to_json(), "pairs": len(tokens), **settings(job)}
    if held is not None:
        summary["heldout_records"] = len(held.ids)
    if heldout:
        trees, clusters = heldout_trees(job, heldout)
        scores = score_all(trees, partial(_score, model, pad_id), 16, progress, "held-out pairs")
        independent: JsonObject = {"independent": False} if kept.best else {}  # these pairs chose the weights
        summary["heldout"] = {"n": len(clusters), "clusters": clusters, **preferences(scores), **independent}
    summary = write_outcome(out, model, tokenizer, log, summary, job, write=arguments.should_save)
    if arguments.should_save:  # a classifier does not keep it, and whoever scores ends answers as this training did
        GenerationConfig(eos_token_id=sorted(template.ends)).save_pretrained(out / "model")
    return summary


def _classifier(job: TrainingJob) -> PreTrainedModel:
    one_logit = SimpleNamespace(
        from_pretrained=partial(AutoModelForSequenceClassification.from_pretrained, num_labels=1)
    )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(job.seed)  # the head's first weights
        return job.load_model(model_class=one_logit, adapters="merged", quantization=None)


def _score(model: PreTrainedModel, pad_id: int, trees: Sequence[Tree]) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return rewards(model, padded_rows(trees, pad_id=pad_id).to(model.device))
