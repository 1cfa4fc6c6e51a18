"""What SFT, an alignment step and a reward model's training have in common: where to start and how to train."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sacpo.align.defaults import with_defaults
from sacpo.data.templates import Template, make_template
from sacpo.models.loading import load_model, load_tokenizer, resolve_device, weights_key
from sacpo.models.tokens import generation_ends
from sacpo.plain import JsonObject
from sacpo.recipe.schema import BaseSpec, LoraSpec


@dataclass(frozen=True)
class TrainingJob:
    """One training: the initial policy and the options.

    Attributes:
        name: For progress bars and messages.
        model: The initial policy, a hub id or a folder that holds its tokenizer too.
        base: Data type, device, template, attention and consent to remote code.
        training: Options under the names of `transformers.TrainingArguments`; see `sacpo.align.defaults`.
        seed: The root of the batch order, of dropout and of an adapter's first weights.
        max_length: Tokens of prompt and completion together.
        too_long: What is done with longer records: "drop" or "truncate".
        lora: Train an adapter with these options instead of all weights.
        home: Where the result's folder will be found in the end, from where adapters name their base; None: where it
            is made.
    """

    name: str
    model: str | Path
    base: BaseSpec
    training: JsonObject = field(default_factory=dict)
    seed: int = 0
    max_length: int = 512
    too_long: str = "truncate"
    lora: LoraSpec | None = None
    home: Path | None = None

    @property
    def options(self) -> JsonObject:
        """The training options with their defaults, and the seed."""
        return {"seed": self.seed, **with_defaults(self.training)}

    @property
    def revision(self) -> str | None:
        """The hub revision, which belongs to the base and to no folder made from it."""
        return self.base.revision if str(self.model) == self.base.model else None

    @property
    def dtype(self) -> str:
        """The type that weights are loaded in: where all are trained, "auto" is float32, as it is in TRL.

        In bfloat16 AdamW's small updates vanish, and in float16 it divides by squares of gradients that have vanished.
        """
        return "float32" if self.base.dtype == "auto" and self.lora is None else self.base.dtype

    def load_model(self, **options: Any) -> PreTrainedModel:
        """Load the initial policy on the base's device; `options` as in `sacpo.models.loading.load_model`."""
        return load_model(
            self.model,
            dtype=self.dtype,
            device=resolve_device(self.base.device),
            revision=self.revision,
            trust_remote_code=self.base.trust_remote_code,
            attn_implementation=self.base.attn_implementation,
            **{"quantization": self.base.quantization, **options},
        )

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the initial policy's tokenizer."""
        return load_tokenizer(self.model, revision=self.revision, trust_remote_code=self.base.trust_remote_code)

    def ends(self) -> frozenset[int]:
        """Return the end tokens that the initial policy's generation_config lists."""
        return generation_ends(self.model, self.revision)

    def template(self, tokenizer: PreTrainedTokenizerBase) -> Template:
        """Return the template that prompts and completions are written with."""
        allowed = self.base.special_tokens_in_text
        return make_template(self.base.template, tokenizer, ends=self.ends(), special_tokens_in_text=allowed)

    def weights_key(self) -> str:
        """Return the content key of the initial policy's weights."""
        return weights_key(self.model, self.revision)
