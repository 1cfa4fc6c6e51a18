"""The model to start from, its tokenizer, and the bits it is loaded in."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from sacpo.plain import JsonObject
from sacpo.recipe.section import MANY, Section


class TokenizerSpec(Section):
    """A tokenizer built here: the world's words, or a byte-level BPE trained on data sources."""

    kind: Literal["world", "bpe"]
    vocab_size: int = Field(8000, ge=300, le=MANY, description="BPE only: number of tokens")
    datasets: tuple[str, ...] = Field((), description="BPE only: names of data sources whose texts train it")

    @model_validator(mode="after")
    def _used(self) -> TokenizerSpec:
        if self.kind == "world":
            self.unused(("vocab_size", "datasets"), "the world's tokenizer has the world's words")
        return self


class QuantizationSpec(Section):
    """The base in few bits, for LoRA on a small GPU (QLoRA); needs CUDA and the package bitsandbytes."""

    bits: Literal[4, 8] = 4
    type: Literal["nf4", "fp4"] = Field("nf4", description="4 bits only: the number type")
    double: bool = Field(True, description="4 bits only: quantise the scales too")
    compute_dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="4 bits only: number type of the products"
    )

    @model_validator(mode="after")
    def _used(self) -> QuantizationSpec:
        if self.bits == 8:
            self.unused(("type", "double", "compute_dtype"), "it belongs to 4 bits")
        return self


class BaseSpec(Section):
    """The model to start from: a hub id or folder, or a configuration whose weights are drawn from the seed."""

    model: str | None = Field(
        None, description="hub id or folder of a standard Hugging Face checkpoint, or a local file of the format GGUF"
    )
    revision: str | None = None
    config: JsonObject | None = Field(None, description="AutoConfig keys with model_type: train from scratch")
    tokenizer: TokenizerSpec | str | None = Field(
        None, description="with a config: hub id, folder or a tokenizer to build"
    )
    template: str = Field("chat", description="'chat', 'paper', 'plain' or a text that contains {prompt}")
    special_tokens_in_text: bool | None = Field(
        None, description="read special tokens that texts spell as tokens, not as text; null: with template 'plain'"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:0, mps")
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    quantization: QuantizationSpec | None = Field(
        None, description="load it in few bits; all trainings of language models are then LoRA"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> BaseSpec:
        if (self.model is None) == (self.config is None):
            raise ValueError("give exactly one of 'model' and 'config'")
        if self.model is not None and self.tokenizer is not None:
            raise ValueError("a 'model' brings its own tokenizer: leave 'tokenizer' out")
        if self.config is not None and ("model_type" not in self.config or self.tokenizer is None):
            raise ValueError("a 'config' needs 'model_type' in it and a 'tokenizer' beside it")
        if self.config is not None:
            remote = () if isinstance(self.tokenizer, str) else ("trust_remote_code",)
            self.unused(("revision", *remote), "a model that is built from 'config' comes from no hub")
        if self.gguf:
            self.unused(("revision", "trust_remote_code"), "a GGUF file comes from no hub and brings no code")
        return self

    @property
    def gguf(self) -> bool:
        """Whether the model is a GGUF file."""
        return self.model is not None and self.model.lower().endswith(".gguf")

    @field_validator("template")
    @classmethod
    def _known_template(cls, value: str) -> str:
        if value not in ("chat", "paper", "plain") and "{prompt}" not in value:
            raise ValueError("allowed: 'chat', 'paper', 'plain', or a text that contains {prompt}")
        return value
