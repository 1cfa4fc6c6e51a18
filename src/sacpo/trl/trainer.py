"""`PreferenceTrainer`: an alignment step by itself, called as TRL's `DPOTrainer` and `KTOTrainer` are.

It is the mechanism of a recipe's steps: the same objectives, rows, cached reference log-probs, checks and trainer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import HubStrategy, speed_metrics

from sacpo.align.engine.arguments import check_optimizer
from sacpo.align.engine.evaluation import measured
from sacpo.align.engine.kept import Keeping
from sacpo.align.engine.rates import check_rate
from sacpo.align.job import TrainingJob
from sacpo.align.objectives.objective import Objective
from sacpo.align.objectives.registry import Parts, make_objective
from sacpo.align.reference.source import Reference
from sacpo.align.trainer import AlignTrainer
from sacpo.data.ends import listed_ends
from sacpo.errors import DataError, RecipeError
from sacpo.hub.names import check_license
from sacpo.hub.upload import make_repository
from sacpo.losses.logps import unwrapped
from sacpo.models.adapters.folder import moves_base
from sacpo.models.tokens import padding_token
from sacpo.recipe.algorithms import AlgorithmOptions
from sacpo.recipe.explain import checked
from sacpo.recipe.schema import BaseSpec, StepSpec
from sacpo.system.progress import QUIET, Progress
from sacpo.trl.columns import read_columns
from sacpo.trl.config import OWN, UNLIMITED, PreferenceConfig, cache_folder, check_hub, read_config
from sacpo.trl.push import push_folder, push_while_training
from sacpo.trl.start import (
    KeptPadding,
    LoadedJob,
    adapted,
    check_chats,
    check_experts,
    check_trainable,
    disable_dropout,
    other_reference,
    start_of,
)

__all__ = ["PreferenceConfig", "PreferenceTrainer"]


class PreferenceTrainer(AlignTrainer):
    """Train on preferences by a step's algorithm, with packed rows and a reference that is computed once.

    Args:
        model: The initial policy: a hub id, a folder, a loaded model or a peft model.
        ref_model: The reference, if it is not the initial policy; its log-probs are computed at once, and it is not
            kept.
        args: A `PreferenceConfig`, TRL's `DPOConfig` or `KTOConfig`, or plain `TrainingArguments` for DPO.
        data_collator: Not taken: rows are laid out here.
        train_dataset: A `datasets.Dataset` or a list of rows with TRL's columns, texts or messages.
        eval_dataset: The same, or a dictionary of them.
        processing_class: The tokenizer; the model's own by default.
        compute_metrics: Not taken: logits are never held.
        callbacks: Callbacks of `transformers.Trainer`.
        optimizers: An optimiser and a schedule in place of those that `args` ask for.
        peft_config: A configuration of peft: an adapter is trained, and the reference is the model without it.
        progress: Where the reference pass and notices are shown.

    Raises:
        UserError: The data, the model, an option or the machine does not allow it.
    """

    keeps_last = True

    def __init__(
        self,
        model: str | Path | PreTrainedModel | PeftModel,
        ref_model: str | Path | PreTrainedModel | None = None,
        args: object = None,
        data_collator: None = None,
        train_dataset: object = None,
        eval_dataset: object = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        compute_metrics: None = None,
        callbacks: Sequence[object] | None = None,
        optimizers: tuple[object, object] = (None, None),
        quantization_config: None = None,
        peft_config: object = None,
        progress: Progress = QUIET,
    ) -> None:
        _refuse(data_collator=data_collator, compute_metrics=compute_metrics, quantization_config=quantization_config)
        if train_dataset is None:
            raise DataError("there is nothing to train on", where="train_dataset", do="give a data set")
        config = read_config(args)
        check_optimizer(config.optim)
        start = start_of(model, config, processing_class)
        other = other_reference(ref_model, model, config)
        check_experts(start.model, config, given=args)
        policy = adapted(start, peft_config, config.seed, own_reference=other is None)
        check_trainable(policy)
        check_rate(unwrapped(policy), config.head_learning_rate, "args", given=optimizers[0])
        policy = policy if hasattr(start.model, "hf_device_map") else policy.to(config.device)  # type: ignore[arg-type]
        if config.disable_dropout:
            disable_dropout(policy)
        self.config = config
        # one that changed the base when it was made (PiSSA, OLoRA) belongs to the reference: off, it is another model
        moved = moves_base(getattr(peft_config, "init_lora_weights", None))
        self._start, self._policy, self._other = start, policy, other
        self._adapter = peft_config is not None and not moved
        # an adapter that is turned off leaves trained biases in the model
        self._restorable = self._adapter and getattr(peft_config, "bias", "none") == "none"
        self._progress, self._made = progress, False
        self._reference: Reference | None = None
        self._training: Objective | None = None
        objective = self._objective(train_dataset, "train_dataset")
        self.eval_objectives = None if eval_dataset is None else self._objectives(eval_dataset, "eval_dataset")
        self._drop_other()
        if config.load_best_model_at_end and "" not in (self.eval_objectives or {}):
            raise RecipeError(
                "the best weights are those of the lowest loss on one held-out data set",
                where="args.load_best_model_at_end",
                value=True,
                do="give eval_dataset as one data set, or leave it out",
            )
        super().__init__(
            policy,
            config,
            objective,
            callbacks=[KeptPadding(policy, start.tokenizer), *(callbacks or ())],
            starts_at_reference=other is None,
            keeping=Keeping(best=bool(config.load_best_model_at_end)),
            eval_dataset=None if eval_dataset is None else range(1),  # a stand-in: `evaluate` reads the objectives
            processing_class=start.tokenizer,
            optimizers=optimizers,
        )
        self._made = True

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the loss and TRL's metrics on held-out rows, and log them.

        Args:
            eval_dataset: Rows, or a dictionary of them; None: those that the trainer was made with.
            ignore_keys: Not used: no outputs are gathered.
            metric_key_prefix: In front of every name.

        Raises:
            RecipeError: There are no rows, or rows come after the first update, when the reference is gone.
        """
        found = self.eval_objectives if eval_dataset is None else self._objectives(eval_dataset, "eval_dataset")
        if found is None:
            raise RecipeError("there is nothing to evaluate on", where="eval_dataset", do="give a data set")
        metrics: dict[str, float] = {}
        for name, objective in found.items():
            prefix = f"{metric_key_prefix}_{name}" if name else metric_key_prefix
            started = time.time()
            means = {**measured(self, objective), "num_tokens": float(self.meter.tokens)}  # trained on so far, as TRL's
            n = len(objective.ids)
            steps = math.ceil(n / (self.args.per_device_eval_batch_size * self.args.world_size))
            speed = speed_metrics(prefix, started, num_samples=n, num_steps=steps)
            part = {**{f"{prefix}_{key}": value for key, value in means.items()}, **speed}
            self.log(part)
            metrics |= part
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def predict(self, *args: object, **kwargs: object) -> Any:
        """Refuse: logits are never held.

        Raises:
            RecipeError: Always.
        """
        raise RecipeError(
            "logits are never held, so none can be given", where="predict", do="call evaluate for metrics"
        )

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository that `args` name, private unless `hub_private_repo` is false.

        Raises:
            RecipeError: No repository is named, or a token is given as an argument.
            RunError: There is no token, or the hub refuses.
        """
        _refuse(token=token, private=private)
        repository = check_hub(self.config)
        self.hub_model_id = repository  # type: ignore[assignment]
        if self.is_world_process_zero():
            make_repository(repository, "model", self.config.hub_private_repo is not False)

    def push_to_hub(  # type: ignore[override]
        self,
        commit_message: str = "End of training",
        *,
        license: str | None = None,
        license_name: str | None = None,
        license_link: str | None = None,
        dataset_name: str | list[str] | None = None,
    ) -> str | None:
        """Save the model and push it with its card; return the address, None on processes that push nothing.

        Args:
            commit_message: Of the one commit.
            license: The hub's identifier of the licence; None: the card names none.
            license_name: With "other".
            license_link: With "other".
            dataset_name: Hub ids of the data, for the card.

        Raises:
            UserError: As of `init_hf_repo`; the same call goes on where an upload broke off.
        """
        fields = check_license(license, license_name, license_link)
        if self.hub_model_id is None:
            self.init_hf_repo()
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.save_model(_internal_call=True)
        names = [dataset_name] if isinstance(dataset_name, str) else [*(dataset_name or ())]
        return self._push(self.folder, commit_message, fields, names) if self.is_world_process_zero() else None

    def _push(self, folder: Path, message: str, license: dict[str, str], datasets: list[str]) -> str:
        base = self._start.path or getattr(unwrapped(self._start.model).config, "_name_or_path", None)
        return push_folder(
            folder,
            self.config,
            str(self.hub_model_id),
            message,
            base=str(base) if base else None,
            adapter=isinstance(self._policy, PeftModel),
            log=self.state.log_history,
            license=license,
            datasets=datasets,
        )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push a checkpoint's model, without what only resuming needs."""
        if not self.is_world_process_zero() or self.config.hub_strategy == HubStrategy.END:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        step = self.state.global_step
        message = f"Training in progress, step {step}"
        push_while_training(self._progress, step, lambda: self._push(Path(checkpoint_folder), message, {}, []))

    def _objectives(self, rows: object, name: str) -> dict[str, Objective]:
        if isinstance(rows, Mapping):
            return {key: self._objective(part, f"{name}['{key}']") for key, part in rows.items()}
        return {"": self._objective(rows, name)}

    def _objective(self, rows: object, name: str) -> Objective:
        """Return the loss over rows, whose reference log-probs are computed now."""
        foreign = not self.starts_at_reference if self._made else False
        if self._made and (foreign or (self.state.global_step and not self._restorable)):
            raise RecipeError(
                "the reference is gone: it was the policy before its first update, or is not kept",
                where=name,
                do="give these rows as eval_dataset when the trainer is made",
            )
        records, chat, unusable = read_columns(rows, name)
        job = self._job("chat" if chat else "plain", name)
        named = ("algorithm", "beta", *(name for name in AlgorithmOptions.model_fields if name in OWN))
        options = {name: getattr(self.config, name) for name in named}
        step = checked(StepSpec, name="preference", criterion="preference", dataset="rows", **options)
        reference, tokenizer = self._reference_for(job), self._start.tokenizer
        parts = Parts(job, step, self.config.beta, records, tokenizer, reference, training=self._training)
        objective, counts = make_objective(parts)
        self._training = self._training or objective  # which comes first
        if dropped := {**unusable, **counts["records"]["dropped"]}:
            self._progress.notice(f"{name}: rows left out: {dropped}")
        if altered := {what: counts["records"][what] for what in ("rewritten", "quoted") if counts["records"][what]}:
            self._progress.notice(f"{name}: completions that are not as the row has them: {altered}")
        return objective

    def _drop_other(self) -> None:
        """Let go of a reference that is not the policy: its log-probs are known."""
        self._other = None
        if self._reference is not None:
            self._reference.other = None

    def _job(self, template: str, name: str) -> LoadedJob:
        start, config = self._start, self.config
        if template == "chat":
            check_chats(start.tokenizer, name)
        found = start.model if start.folder is None else None
        found = found if self._other is None else self._other
        asked = (config.model_init_kwargs or {}).get("attn_implementation") if start.path else start.attention  # type: ignore[union-attr]
        return LoadedJob(
            name,
            start.path or "policy",
            BaseSpec(
                model=str(start.path or "policy"),
                template=template,
                special_tokens_in_text=config.special_tokens_in_text,
                attn_implementation=asked,
            ),
            {},
            config.seed,
            UNLIMITED if config.max_length is None else config.max_length,
            "cut",
            loaded=found,
            listed=listed_ends(getattr(unwrapped(start.model), "generation_config", None)),
        )

    def _reference_for(self, job: TrainingJob) -> Reference:
        """Return the reference; the row layout is chosen once, on the training's rows."""
        if self._reference is not None:
            self._reference.job = job
            return self._reference
        config, pad_id = self.config, padding_token(self._start.tokenizer, unwrapped(self._start.model))
        self._reference = Reference(
            job,
            self._policy,
            config,
            cache_folder(config),
            config.layout,  # type: ignore[arg-type]
            pad_id,
            self._progress,
            statistics=config.token_metrics,
            other=self._other,
            adapter=not self._adapter,
        )
        return self._reference


def _refuse(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise RecipeError(
                "an argument is not taken", where=name, value=type(value).__name__, allowed="None", do="leave it out"
            )
