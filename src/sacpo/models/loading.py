"""Models and tokenizers: loading with clear errors, building from a configuration, saving as a standard folder.

A leaf that align, merge and evaluate share. Weights are read from safetensors only and no remote code runs unless the
recipe asks for it.
"""

from __future__ import annotations

import contextlib
import copy
import json
import warnings
from pathlib import Path
from typing import Any, Literal, cast

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from sacpo.errors import MachineError, ModelError
from sacpo.models.adapters.folder import CONFIG as ADAPTER
from sacpo.models.adapters.folder import base_of, beyond, holds_model, is_adapter
from sacpo.models.adapters.hub import local_adapter
from sacpo.models.adapters.loading import biased, merged, on_base, on_stack, shared
from sacpo.models.adapters.quantization import quantized
from sacpo.models.adapters.stack import read_stack
from sacpo.models.checks import (
    LIBRARY_ERRORS,
    check_config,
    check_place,
    first_line,
    model_errors,
    no_load_report,
    refuse_gaps,
    refuse_nan,
    refuse_other_shapes,
    refuse_pickles,
    refuse_whole_numbers,
    warn_unread,
)
from sacpo.models.keys import PLACES
from sacpo.models.keys import weights_key as weights_key
from sacpo.models.precision import in_float32, without_bfloat16
from sacpo.recipe.schema import QuantizationSpec
from sacpo.system.files import write_json
from sacpo.system.machine import machine_errors

transformers_logging.disable_progress_bar()  # this package shows its own
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft asks by this name
Adapters = Literal["on", "off", "merged"]
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


def resolve_device(name: str) -> torch.device:
    """Return the device that a recipe names; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        MachineError: This machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    known = name in available or (name == "cuda" and len(available) > 1)
    if not known:
        raise MachineError(
            "no such device on this machine",
            where="base.device",
            value=name,
            allowed=["auto", *available],
            do="set base.device to one of these",
        )
    return torch.device(name)


def has_adapters(path: str | Path) -> bool:
    """Tell whether a folder holds adapters, by themselves or on weights that they name."""
    stack = read_stack(path)
    return is_adapter(Path(path)) or (stack is not None and bool(stack.members))


def load_model(
    path: str | Path, *, adapters: Adapters = "on", revision: str | None = None, **options: Any
) -> PreTrainedModel:
    """Load a model from a hub id, a folder of weights, or a folder of adapters, in evaluation mode.

    Args:
        path: Hub id or folder.
        adapters: Of a folder of adapters: "on" loads base and adapters, "off" the base alone, "merged" adds them to
            the base's weights in memory. Adapters that are more than plain LoRA are merged either way, but where
            they change one of two modules that share their weights, or add a bias where there is none.
        revision: Hub revision of `path`; a base that adapters name has its own.
        options: As in `load_weights`.

    Raises:
        ModelError: There is no such model, its weights are pickles, or it needs remote code without consent.
        MachineError: The options need what this machine lacks.
    """
    check_place(path)
    path, revision = local_adapter(path, revision) or (path, revision)
    given = options.get("weights") is not None
    stack = None if given else read_stack(path)
    if stack is not None:
        base = load_model(stack.base, revision=stack.revision, adapters="merged", **options)
        if adapters == "off" or not stack.members:
            return base
        wrapped = on_stack(base, stack)
        model = merged(wrapped) if adapters == "merged" else wrapped.get_base_model()
        return cast(PreTrainedModel, model)
    if not given and is_adapter(Path(path)):
        return _other_adapter(Path(path), adapters, options)
    return load_weights(path, revision=revision, **options)


def load_weights(
    path: str | Path,
    *,
    dtype: str = "auto",
    device: str | torch.device = "cpu",
    revision: str | None = None,
    trust_remote_code: bool = False,
    attn_implementation: str | None = None,
    model_class: Any = AutoModelForCausalLM,
    weights: dict[str, torch.Tensor] | None = None,
    quantization: QuantizationSpec | None = None,
) -> PreTrainedModel:
    """Load a causal language model (or another `model_class`) that has weights of its own; see `load_model`.

    `weights`, where given, are used in place of those that the folder holds. With `quantization` the linear layers
    are stored in few bits.
    """
    refuse_pickles(path)
    if (Path(path) / ADAPTER).is_file() and holds_model(Path(path)):
        raise ModelError(
            "the folder holds a whole model and an adapter, so it does not say which model it is",
            where=path,
            value=ADAPTER,
            do="move the adapter's files, or the model's, into a folder of their own",
        )
    if dtype not in DTYPES:
        raise ModelError(
            "no dtype that a model can be computed in", where="dtype", value=dtype, allowed=DTYPES, do="choose another"
        )
    options: dict[str, Any] = {"dtype": dtype if dtype == "auto" else getattr(torch, dtype)}
    if attn_implementation:
        options["attn_implementation"] = attn_implementation
    if quantization is not None:
        options |= quantized(quantization, torch.device(device))
    with model_errors(path), no_load_report():
        if weights is not None:
            model = _with_weights(model_class, path, weights, trust_remote_code, options)
        else:
            model, found = _pretrained(model_class, path, revision, trust_remote_code, options)
            if model_class is AutoModelForCausalLM:  # a classifier's head may be new: it is then trained
                refuse_gaps(found["missing_keys"], path)
                warn_unread(found["unexpected_keys"], path)
    if weights is None:
        refuse_whole_numbers(model, _files(path, revision), path)
    refuse_nan(model, path)
    if model.dtype == torch.bfloat16 and quantization is None and without_bfloat16(device):
        model = in_float32(model)
    return (model if quantization is not None else model.to(device)).eval()


def _files(path: str | Path, revision: str | None) -> list[Path]:
    """Return a model's files of weights, those in the cache where it is a hub id."""
    cached = None if Path(path).is_dir() else try_to_load_from_cache(str(path), "config.json", revision=revision)
    folder = Path(cached).parent if isinstance(cached, str) else Path(path)
    return sorted(folder.glob("*.safetensors"))


def _pretrained(
    model_class: Any, path: str | Path, revision: str | None, trust_remote_code: bool, options: dict[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Return a model with the names of tensors that its checkpoint lacks, and that it does not read."""
    given = {"revision": revision, "trust_remote_code": trust_remote_code, **options}
    given |= {"use_safetensors": True, "output_loading_info": True}
    try:
        found: tuple[PreTrainedModel, dict[str, Any]] = model_class.from_pretrained(path, **given)
    except RuntimeError as error:
        if "ignore_mismatched_sizes" in str(error):  # transformers' report names them, which is kept quiet here
            with contextlib.suppress(*LIBRARY_ERRORS):
                _, read = model_class.from_pretrained(path, ignore_mismatched_sizes=True, **given)
                refuse_other_shapes(read["mismatched_keys"], path)
        raise
    return found


def _other_adapter(folder: Path, adapters: Adapters, options: dict[str, object]) -> PreTrainedModel:
    """Return the model of an adapter that is more than plain LoRA, merged densely where that is possible."""
    if options.get("quantization") is not None:
        raise ModelError(
            "an adapter that is more than plain LoRA would be merged into a quantised base",
            where=folder,
            value=beyond(folder),
            do="leave base.quantization out, or write merged weights first: sacpo export",
        )
    base, revision = base_of(folder)
    wrapped = on_base(load_model(base, revision=revision, adapters="merged", **options), folder)
    used = adapters != "merged" and (shared(wrapped) or biased(wrapped))
    return cast(PreTrainedModel, wrapped.get_base_model() if used else merged(wrapped))


def load_tokenizer(
    path: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load a tokenizer that has an end token and a padding token different from it where possible.

    A missing padding token is replaced by the end token, which never counts because padding is masked.

    Raises:
        ModelError: There is no such tokenizer or it has no end token.
    """
    check_place(path)
    path, revision = local_adapter(path, revision) or (path, revision)
    if is_adapter(Path(path)) and not (Path(path) / "tokenizer_config.json").is_file():
        base, own = base_of(Path(path))  # peft writes adapters alone
        return load_tokenizer(base, revision=own, trust_remote_code=trust_remote_code)
    with model_errors(path, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust_remote_code)
    return checked_tokenizer(tokenizer, path)


def checked_tokenizer(tokenizer: PreTrainedTokenizerBase, where: object) -> PreTrainedTokenizerBase:
    """Return the tokenizer with a padding token; refuse one without an end token.

    Raises:
        ModelError: The tokenizer has no end token.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the tokenizer has no end-of-sequence token, so answers could never end",
            where=where,
            do="set eos_token in its tokenizer_config.json",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def build_model(config: dict[str, Any], tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """Return a causal language model with weights drawn from the seed, sized for the tokenizer, in float32.

    Raises:
        ModelError: The configuration names an unknown architecture or options that it refuses.
    """
    options = copy.deepcopy(config)
    check_config(options)
    options.setdefault("vocab_size", len(tokenizer))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        options.setdefault(name, getattr(tokenizer, name))
    try:
        built = AutoConfig.for_model(options.pop("model_type"), **options)
        with torch.random.fork_rng(devices=[]), machine_errors(Path("base.config")):
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(built)
    except LIBRARY_ERRORS as error:
        raise ModelError(
            f"the model cannot be built: {first_line(str(error.__cause__ or error))}",
            where="base.config",
            value=config,
            do="correct these keys; they are those of the architecture's configuration in transformers",
        ) from error
    return model.float().eval()


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a standard Hugging Face folder: config, safetensors, tokenizer, generation config.

    Raises:
        MachineError: The disk is full or the folder cannot be written.
    """
    with machine_errors(folder):
        model.save_pretrained(folder, safe_serialization=True)
        save_tokenizer(tokenizer, folder)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer without what its library notes of the machine: where it lay, and whether the hub was asked."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {key: value for key, value in data.items() if key not in PLACES[path.name]})


def context_length(model: Any) -> int | None:
    """Return how many tokens the model's positions reach, None where nothing limits them; XLNet's -1 says so, too."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    reach = getattr(config, "max_position_embeddings", None)
    return reach if reach is None or reach > 0 else None


def _with_weights(
    model_class: Any,
    path: str | Path,
    weights: dict[str, torch.Tensor],
    trust_remote_code: bool,
    options: dict[str, Any],
) -> Any:
    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    with torch.device("meta"):  # only to learn the class: from_pretrained of an Auto class needs files
        architecture = type(model_class.from_config(config, trust_remote_code=trust_remote_code))
    model = architecture.from_pretrained(None, config=config, state_dict=weights, **options)
    with contextlib.suppress(OSError):  # a folder without generation_config.json keeps what config.json gives
        model.generation_config = GenerationConfig.from_pretrained(path)
    return model
