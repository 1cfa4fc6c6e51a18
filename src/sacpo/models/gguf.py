"""Models of llama.cpp's format GGUF: one file with weights, often in few bits, and the tokenizer.

transformers reads them (`gguf_file`) with the package `gguf`, and computes in ordinary floating-point numbers.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import quantization_config

from sacpo.errors import MachineError, ModelError
from sacpo.models.checks import model_errors, no_load_report, refuse_nan
from sacpo.models.loading import checked_tokenizer

MAGIC = b"GGUF"
INSTALL = "install it: pip install 'sacpo[gguf]'"


def check_gguf(path: str | Path) -> None:
    """Look whether a file can be read, without reading its weights.

    Raises:
        ModelError: There is no such file, or it is of another format.
        MachineError: The package that reads it is missing.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(
            "no such GGUF file",
            where=path,
            do="check the path; of the hub: hf download REPO FILE",
        )
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise ModelError("the file is not of the format GGUF", where=path, do="download or make it again")
    try:
        metadata.version("gguf")
    except metadata.PackageNotFoundError as error:
        raise MachineError("the package that reads GGUF files is missing", where="gguf", do=INSTALL) from error


def load_gguf(path: str | Path, dtype: str = "auto") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer; weights of few bits become floating-point numbers, float32 by default.

    Raises:
        ModelError: transformers does not read this architecture, or the file is damaged.
        MachineError: As of `check_gguf`.
    """
    check_gguf(path)
    file = Path(path).resolve()
    options: dict[str, Any] = {"gguf_file": file.name}
    with _damage(path), model_errors(path), no_load_report():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent,
            dtype="float32" if dtype == "auto" else dtype,
            output_loading_info=True,
            **options,
            **_unpacked(),
        )
    model, report = loaded
    if missing := set(report["missing_keys"]) - {*(getattr(model, "_tied_weights_keys", None) or ())}:
        raise ModelError(
            "the file lacks tensors, which would be random numbers",
            where=path,
            value=sorted(missing),
            do="make it again",
        )
    refuse_nan(model, path)
    with model_errors(path, "tokenizer"):
        tokenizer = checked_tokenizer(AutoTokenizer.from_pretrained(file.parent, **options), path)
    if len(tokenizer) > model.config.get_text_config().vocab_size:
        raise ModelError(
            "the tokenizer has more tokens than the model", where=path, value=len(tokenizer), do="take another file"
        )
    _ordinary(model)
    return model.eval(), tokenizer


def _unpacked() -> dict[str, object]:
    """Return the option that has every weight unpacked; releases of transformers without it always do that."""
    kind = getattr(quantization_config, "GgufConfig", None)
    return {} if kind is None else {"quantization_config": kind(dequantize=True)}


@contextlib.contextmanager
def _damage(path: str | Path) -> Iterator[None]:
    try:
        yield
    except struct.error as error:
        raise ModelError("the GGUF file is damaged", where=path, do="download or make it again") from error


def _ordinary(model: PreTrainedModel) -> None:
    """Take off what says that the model came from few bits: its weights are floating-point numbers now."""
    for name in ("hf_quantizer", "quantization_method"):
        model.__dict__.pop(name, None)
    model.config.__dict__.pop("quantization_config", None)
