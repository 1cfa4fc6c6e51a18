"""Where a `PreferenceTrainer` starts: policy, tokenizer and reference, loaded or given."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from sacpo.align.job import TrainingJob
from sacpo.errors import ModelError, RecipeError
from sacpo.losses.logps import unwrapped
from sacpo.models.adapters.new import PEFT_ERRORS, check_new, check_start
from sacpo.models.loading import checked_tokenizer, has_adapters, load_model, load_tokenizer, weights_key
from sacpo.models.tokens import embedded
from sacpo.trl.config import PreferenceConfig


@dataclass(frozen=True)
class LoadedJob(TrainingJob):
    """A training whose models are loaded.

    Attributes:
        loaded: The model whose log-probs are the reference's; None: it was loaded from the folder `model`.
        listed: The end tokens that the policy's generation_config lists.
    """

    loaded: PreTrainedModel | PeftModel | None = None
    listed: frozenset[int] = frozenset()

    def ends(self) -> frozenset[int]:
        """Return the end tokens that the policy's generation_config lists."""
        return self.listed

    def weights_key(self) -> str:
        """Return the content key of the reference's weights."""
        return weights_key(self.model) if self.loaded is None else tensors_key(self.loaded)


def tensors_key(model: PreTrainedModel | PeftModel) -> str:
    """Return a hash of a model's tensors, names, shapes and types included, its configuration and active adapters."""
    digest = hashlib.sha256()
    settings = unwrapped(model).config.to_dict()
    settings.pop("_name_or_path", None)  # equal models are equal wherever they were loaded from
    digest.update(repr(sorted(settings.items())).encode())
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            digest.update(f"{name} {module.active_adapters} {sorted(module.scaling.items())}".encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Start:
    """The initial policy and its tokenizer; `path` where they were loaded from here, "" for given objects."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    path: str
    attention: str | None

    @property
    def folder(self) -> Path | None:
        """The local folder that holds the weights, None for a hub id or a given model."""
        return Path(self.path) if self.path and Path(self.path).is_dir() else None


def check_chats(tokenizer: object, name: str) -> None:
    """Check that rows of messages can be written as text.

    Raises:
        ModelError: The tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            "rows of messages need a chat template, and the tokenizer has none",
            where=f"{name}, processing_class",
            value=getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__,
            allowed="a tokenizer with a chat_template; or rows whose prompt and completions are texts",
            do="give the tokenizer one: tokenizer.chat_template = TEMPLATE, and processing_class=tokenizer",
        )


def start_of(model: Any, config: PreferenceConfig, tokenizer: PreTrainedTokenizerBase | None) -> Start:
    """Return the initial policy, loaded if it is named, and its tokenizer.

    Adapters of a folder are merged into the weights, which are trained.

    Raises:
        ModelError: There is no such model or tokenizer.
    """
    path = str(model) if isinstance(model, str | Path) else ""
    loaded = _loaded(path, config, adapters="merged") if path else model
    place = path or getattr(unwrapped(loaded).config, "_name_or_path", "")
    if tokenizer is None and not place:
        raise ModelError(
            "the model does not say where its tokenizer is", where="processing_class", do="give the tokenizer"
        )
    if tokenizer is None:
        tokenizer = load_tokenizer(place, trust_remote_code=config.trust_remote_code)
    elif not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(
            "no tokenizer",
            where="processing_class",
            value=type(tokenizer).__name__,
            allowed="a tokenizer of transformers",
        )
    return Start(loaded, checked_tokenizer(tokenizer, place), path, unwrapped(loaded).config._attn_implementation)


def _loaded(path: str, config: PreferenceConfig, **settings: object) -> PreTrainedModel:
    options = dict(config.model_init_kwargs or {})  # type: ignore[arg-type]
    known = ("dtype", "attn_implementation", "revision", "trust_remote_code")
    strange = sorted(options.keys() - {*known})
    if strange:
        raise RecipeError(
            "an option of loading is not taken",
            where="args.model_init_kwargs",
            value=strange,
            allowed=known,
            do="load the model yourself and give it as `model`",
        )
    options["dtype"] = str(options.get("dtype") or "float32").removeprefix("torch.")
    return load_model(path, **{"trust_remote_code": config.trust_remote_code, **options, **settings})


def other_reference(ref_model: Any, model: Any, config: PreferenceConfig) -> PreTrainedModel | None:
    """Return a reference that is not the initial policy, None where it is.

    Raises:
        ModelError: The reference is the very object that is trained.
    """
    if ref_model is None or (isinstance(ref_model, str | Path) and str(ref_model) == str(model)):
        return None
    if ref_model is model:
        raise ModelError(
            "the reference is the very model that is trained",
            where="ref_model",
            do="leave it out: the reference is the model before its first update",
        )
    loaded = _loaded(str(ref_model), config) if isinstance(ref_model, str | Path) else ref_model
    return cast(PreTrainedModel, loaded.to(config.device))  # type: ignore[arg-type]


def adapted(start: Start, peft_config: Any, seed: int, *, own_reference: bool = True) -> PreTrainedModel | PeftModel:
    """Return the initial policy with a new adapter whose first weights come from the seed, if one is configured.

    `own_reference` says that the policy is its own reference, so that it must begin there.

    Raises:
        RecipeError: The model has an adapter already, peft refuses the configuration, or would ignore a part of it.
    """
    model = start.model
    if peft_config is None:
        return model
    if isinstance(model, PeftModel) or (start.path and has_adapters(start.path)):
        raise RecipeError(
            "the model has an adapter already",
            where="peft_config",
            value=start.path or type(model).__name__,
            do="stack adapters with `sacpo align` and its LoRA options, merge this one first, or leave peft_config out",
        )
    check_start(peft_config, "peft_config", own_reference=own_reference)
    try:
        check_new(model, peft_config, "peft_config")
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            return cast(PeftModel, get_peft_model(model, peft_config))
    except PEFT_ERRORS as error:
        raise RecipeError(
            f"peft refuses the configuration: {error}",
            where="peft_config",
            do="correct it; without target_modules peft chooses them",
        ) from error


def check_trainable(model: nn.Module) -> None:
    """Refuse a model in which nothing would change.

    Raises:
        ModelError: No weight asks for a gradient.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(
            "nothing of the model can be trained: no weight asks for a gradient",
            where="model",
            value=type(model).__name__,
            do="load an adapter with is_trainable=True, give a peft_config, or call model.requires_grad_(True)",
        )


def check_experts(model: nn.Module, config: PreferenceConfig, *, given: object) -> None:
    """Refuse TRL's loss of a mixture's router, which TRL adds by default.

    Raises:
        RecipeError: The arguments or the model ask for it.
    """
    if not hasattr(given, "router_aux_loss_coef"):
        return
    wanted, settings = given.router_aux_loss_coef, unwrapped(model).config.get_text_config()
    routed = hasattr(settings, "output_router_logits")
    weight = getattr(settings, "router_aux_loss_coef", 0.0) if wanted is None else wanted
    if weight and (routed or wanted is not None):
        raise RecipeError(
            "the loss that balances experts is not computed here",
            where="args.router_aux_loss_coef",
            value=weight,
            allowed=0.0,
            do="set it to 0.0, or use TRL",
        )


class KeptPadding(TrainerCallback):
    """Keeps a model's own padding token where the tokenizer's has no embedding: such a model could not be loaded again.

    `transformers.Trainer` gives a model its tokenizer's special tokens when a training begins.

    Args:
        model: The policy.
        tokenizer: Its tokenizer.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model = unwrapped(model)
        settings = [self._model.config.get_text_config(), getattr(self._model, "generation_config", None)]
        kept = [] if embedded(cast(int, tokenizer.pad_token_id), self._model) else settings
        self._kept = [(config, config.pad_token_id) for config in kept if config is not None]

    def on_train_begin(self, args: object, state: object, control: object, **kwargs: object) -> None:
        """Give the token back."""
        for config, token in self._kept:
            config.pad_token_id = token


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout probability of a model to 0."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
