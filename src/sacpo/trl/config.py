"""The arguments of `PreferenceTrainer`, its own or TRL's, and the refusal of what it does not do."""

from __future__ import annotations

import copy
import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from sacpo.align.engine.arguments import Arguments
from sacpo.errors import RecipeError
from sacpo.hub.names import check_repository
from sacpo.models.precision import warn, without_bfloat16
from sacpo.recipe.algorithms import ALGORITHMS, Weight

UNLIMITED = sys.maxsize


@dataclass
class PreferenceConfig(Arguments):
    """`transformers.TrainingArguments`, with the options of a preference training under TRL's names.

    Attributes:
        head_learning_rate: The learning rate of the head, with the schedule of all; None: that of all.
        algorithm: How it learns: a name of `sacpo.recipe.algorithms`.
        beta: The strength of the pull to the reference.
        max_length: Tokens of prompt and completion together; None: no limit. Completions are cut there.
        desirable_weight: KTO's w+; "balanced" makes w+ n+ = w- n-.
        undesirable_weight: KTO's w-.
        soft_labels: Of pairs: use the column `p` as the probability that `chosen` is preferred; false rounds it.
        label_smoothing: Of pairs: share of the labels that is taken to be flipped.
        disable_dropout: Train without dropout.
        layout: "packed" computes each prompt once or stops, "padded" takes one completion a row, "auto" decides.
        reference_cache: Folder of reference log-probs; None: `reference_logps` in the output folder; "": in memory.
        token_metrics: Log the tokens' entropy, mean logits and accuracy, as TRL does.
        model_init_kwargs: For `from_pretrained`, where the model is given by its id.
        special_tokens_in_text: Read special tokens that texts spell as tokens, not as text; None: where prompts and
            completions are texts, which may be rendered already, as TRL does; in messages they are text.
        trust_remote_code: Whether model and tokenizer may bring code of their own.
    """

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "model_init_kwargs"]  # noqa: RUF012 - as it is there

    learning_rate: float = 1e-6
    logging_steps: float = 10
    bf16: bool | None = None  # type: ignore[assignment]  # true where there is a GPU, unless fp16 is
    algorithm: str = "dpo"
    beta: float = 0.1
    max_length: int | None = 1024
    desirable_weight: Weight = 1.0
    undesirable_weight: Weight = 1.0
    soft_labels: bool = True
    label_smoothing: float = 0.0
    disable_dropout: bool = True
    layout: str = "auto"
    reference_cache: str | None = None
    token_metrics: bool = True
    model_init_kwargs: dict[str, Any] | str | None = field(default=None)
    special_tokens_in_text: bool | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.bf16 is None:
            self.bf16 = not self.fp16 and not self.use_cpu and torch.accelerator.is_available()
        super().__post_init__()  # type: ignore[no-untyped-call]


OWN = [f.name for f in dataclasses.fields(PreferenceConfig) if f.name not in TrainingArguments.__dataclass_fields__]
HERE = {
    "precompute_ref_log_probs",  # always done
    "precompute_ref_batch_size",
    "dataset_num_proc",
    "padding_free",  # always so where rows are packed
    "pad_to_multiple_of",  # nothing is padded to a shape of its own
    "ref_model_mixup_alpha",  # used by sync_ref_model alone, which is refused
    "ref_model_sync_steps",
    "discopop_tau",  # used by loss types that are refused
    "f_alpha_divergence_coef",
    "router_aux_loss_coef",  # looked at with the model
    *OWN,
}
"""Fields of TRL's configurations that are used, or that say how TRL does what is done otherwise here."""

FIXED: dict[str, tuple[Any, str]] = {
    "label_smoothing_factor": (0.0, "give soft labels: a column p"),
    "hub_token": (None, "set HF_TOKEN, or run 'hf auth login': arguments are saved and shown"),
    "hub_revision": (None, "push to main, and move it there"),
    "hub_always_push": (False, "leave it out: a push ends before the training goes on"),
    "use_liger_kernel": (False, "leave it out: logits are never held whole"),
    "auto_find_batch_size": (False, "choose per_device_train_batch_size"),
    "enable_jit_checkpoint": (False, "use save_steps"),
    "include_num_input_tokens_seen": ("no", "read num_tokens"),
    "bf16_full_eval": (False, "evaluation has the training's precision"),
    "fp16_full_eval": (False, "evaluation has the training's precision"),
    "neftune_noise_alpha": (None, "leave it out: the first loss is compared with the reference, without noise"),
    "ignore_data_skip": (False, "leave it out: skipping costs nothing here"),
}
"""Options of TrainingArguments that are refused unless they have this value, and what to do."""


def read_config(args: object) -> PreferenceConfig:
    """Return the arguments as a `PreferenceConfig`; the object that was given is not changed.

    Args:
        args: A `PreferenceConfig`, TRL's `DPOConfig` or `KTOConfig`, `TrainingArguments`, or None for the defaults.

    Raises:
        RecipeError: An option asks for what is not done here.
    """
    if args is None:
        args = PreferenceConfig("preference")
    if not isinstance(args, TrainingArguments):
        raise RecipeError(
            "no arguments of a training",
            where="args",
            value=type(args).__name__,
            allowed=["sacpo.PreferenceConfig", "trl.DPOConfig", "trl.KTOConfig", "transformers.TrainingArguments"],
        )
    config = args if isinstance(args, PreferenceConfig) else _translated(args)
    _check(config)
    config = copy.copy(config)
    config.remove_unused_columns = False
    config.logging_nan_inf_filter = False  # a NaN is an error, not something to average away
    # one process uses one device: nn.DataParallel would split what is no tensor
    config._n_gpu = min(config.n_gpu, 1)
    if config.bf16 and without_bfloat16(config.device):
        warn()
        config.bf16, config.mixed_precision = False, "no"
    return config


def _translated(args: TrainingArguments) -> PreferenceConfig:
    """Return TRL's arguments, or plain ones, under this package's names, without running their set-up again."""
    config = object.__new__(PreferenceConfig)
    for f in dataclasses.fields(PreferenceConfig):
        if f.name in OWN:
            setattr(config, f.name, f.default)
    vars(config).update(vars(args))
    for f in dataclasses.fields(args):
        value = getattr(args, f.name)
        if f.name in TrainingArguments.__dataclass_fields__ or f.name in HERE:
            continue
        if f.name == "loss_type":
            config.algorithm = _algorithm(value)
            continue
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        if value != default and not (f.name == "loss_weights" and value == [1.0]):
            raise _unsupported(f.name, value, default)
    if config.label_smoothing and config.algorithm != "robust":  # other losses of TRL's that are here ignore it
        raise _unsupported("label_smoothing", config.label_smoothing, 0.0)
    return config


def _algorithm(loss: object) -> str:
    name = loss[0] if isinstance(loss, list) and len(loss) == 1 else loss
    known = {algorithm.trl: name for name, algorithm in ALGORITHMS.items() if algorithm.trl is not None}
    if not isinstance(name, str) or name not in known:
        raise RecipeError(
            "no such loss here", where="args.loss_type", value=loss, allowed=[*known], do="use TRL for this loss"
        )
    return known[name]


def _check(config: PreferenceConfig) -> None:
    for name, (value, advice) in FIXED.items():
        if getattr(config, name, value) not in (value, None):
            raise RecipeError(
                "an option asks for what is not done here",
                where=f"args.{name}",
                value=getattr(config, name),
                allowed=value,
                do=advice,
            )
    choices = {
        "algorithm": tuple(name for name, algorithm in ALGORITHMS.items() if algorithm.trl is not None),
        "layout": ("auto", "packed", "padded"),
        "train_sampling_strategy": ("random", "sequential", "group_by_length"),
        "save_strategy": ("no", "steps", "epoch"),
        "hub_strategy": ("end", "every_save"),  # the others send states of optimisers
    }
    for name, allowed in choices.items():
        value = getattr(config, name)
        if getattr(value, "value", value) not in allowed:
            raise RecipeError("no such choice", where=f"args.{name}", value=value, allowed=allowed, do="choose one")
    if config.load_best_model_at_end and (
        config.metric_for_best_model not in (None, "loss", "eval_loss") or config.greater_is_better
    ):
        raise RecipeError(
            "the best weights are those of the lowest held-out loss",
            where="args.metric_for_best_model",
            value=config.metric_for_best_model,
            allowed="eval_loss, with greater_is_better=False",
            do="leave both out",
        )
    if config.push_to_hub:
        check_hub(config)
    if not config.beta > 0:
        raise RecipeError(
            "a strength must be positive", where="args.beta", value=config.beta, allowed="above 0", do="TRL's is 0.1"
        )


def check_hub(config: PreferenceConfig) -> str:
    """Return the repository that is pushed to.

    Raises:
        RecipeError: None is named, or the weights are in shards.
    """
    if config.fsdp:
        raise RecipeError(
            "weights in shards are not pushed",
            where="args.push_to_hub",
            value="fsdp",
            do="save the model, then push it",
        )
    return check_repository(config.hub_model_id or "", where="args.hub_model_id")


def cache_folder(config: PreferenceConfig) -> Path | None:
    """Return the folder of reference log-probs, None to keep them in memory."""
    if config.reference_cache is None:
        return Path(str(config.output_dir)) / "reference_logps"
    return Path(config.reference_cache) if config.reference_cache else None


def _unsupported(name: str, value: object, default: object) -> RecipeError:
    return RecipeError(
        "an option of TRL asks for what is not done here",
        where=f"args.{name}",
        value=value,
        allowed=repr(default),
        do="leave it out, or use TRL for it",
    )
