"""What all stages of one recipe share: its models, its world, its seeds, and where each model's weights are."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sacpo.align.job import TrainingJob
from sacpo.data.templates import Template, make_template
from sacpo.judging.llm.budget import Usage
from sacpo.judging.llm.specs import check_judges
from sacpo.judging.question import Judge
from sacpo.judging.rubric import Rubric
from sacpo.merge import linear, local_checkpoint, merged_model, mixed_model, tabulate, task_vectors
from sacpo.merge.weights import Combination
from sacpo.models.adapters.loading import on_stack
from sacpo.models.adapters.stack import Stack, blend, stack_of
from sacpo.models.loading import load_model, load_tokenizer, resolve_device, weights_key
from sacpo.pipeline.stages import At
from sacpo.recipe.models import BaseModelNode, MergedModel, Node, StepModel, model_graph
from sacpo.recipe.schema import SFT, LoraSpec, Recipe, TrainingSpec
from sacpo.system.progress import QUIET, Progress
from sacpo.world import World

KEPT_PARAMETERS = 100_000_000
"""Models stay loaded for the next stage while all of them together have at most this many parameters.

A base that may carry adapters stays whatever its size, until another model is loaded or trained: models on one base
differ by their adapters alone.
"""


def derived_seed(seed: int, *parts: str) -> int:
    """Return a seed for one part of a run, in [0, 2^31)."""
    text = "\0".join([str(seed), *parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@dataclass
class Study:
    """One recipe at work.

    Attributes:
        recipe: The recipe.
        cache: Folder of reference log-probs, shared by all steps.
        progress: Where to show what is going on.
        judges: The judges at work, by criterion: loaded once for all answers, given up when a model is loaded.
        spent: What language models have used as judges in this command.
    """

    recipe: Recipe
    cache: Path
    progress: Progress = QUIET
    judges: dict[str, Judge] = field(default_factory=dict)
    spent: list[Usage] = field(default_factory=list)
    _loaded: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    _adapters: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Every model by name, parents first."""
        return model_graph(self.recipe)

    @property
    def evaluated(self) -> list[str]:
        """The models that are evaluated, the SFT model and the baseline first."""
        wanted = self.recipe.evaluate.models or tuple(self.nodes)
        return [*dict.fromkeys([SFT, self.recipe.evaluate.baseline, *wanted])]

    @cached_property
    def world(self) -> World:
        """The world; only for recipes that have one."""
        assert self.recipe.world is not None
        return World(self.recipe.world)

    def seed(self, *parts: str) -> int:
        """Return the seed of one part of the run."""
        return derived_seed(self.recipe.seed, *parts)

    # Where models are

    def made_by(self, name: str) -> tuple[str, ...]:
        """Return the stages that a model's weights come from."""
        node = self.nodes[name]
        if isinstance(node, StepModel):
            return (f"align/{name}",)
        if isinstance(node, MergedModel):
            ends = [*node.models, *([SFT] if node.spec.method == "task-vectors" else [])]
            return tuple(dict.fromkeys(stage for end in ends for stage in self.made_by(end)))
        if self.recipe.sft is not None:
            return (SFT,)
        return self.base_stages

    @property
    def base_stages(self) -> tuple[str, ...]:
        """Return the stage that builds the base; none where the base is a hub model or a folder."""
        return ("base",) if self.recipe.base.config is not None else ()

    @cached_property
    def external(self) -> dict[str, str]:
        """Content keys of the weights that come from outside the run."""
        base = self.recipe.base
        return {} if base.model is None else {"base.model": weights_key(base.model, base.revision)}

    def identity(self, name: str) -> dict[str, Any]:
        """Return what tells a merged model from others with the same parents; empty for other models."""
        node = self.nodes[name]
        if not isinstance(node, MergedModel):
            return {}
        return {
            "method": node.spec.method,
            "q": node.q,
            "scale": node.spec.scale,
            "models": [str(self._identity_of(end)) for end in node.models],
        }

    def _identity_of(self, name: str) -> Any:
        return self.identity(name) or self.made_by(name)

    def base_path(self, at: At) -> str | Path:
        """Return where the base's weights are."""
        if self.recipe.base.model is not None:
            return self.recipe.base.model
        return at("base") / "model"

    def path(self, name: str, at: At) -> str | Path:
        """Return where a model's weights are; merged models have none."""
        node = self.nodes[name]
        if isinstance(node, MergedModel):
            raise ValueError(f"{name} has no folder of its own")
        if isinstance(node, BaseModelNode) and self.recipe.sft is None:
            return self.base_path(at)
        return at(self.made_by(name)[0]) / "model"

    def stack(self, name: str, at: At) -> Stack | None:
        """Return a model as a base and adapters; None for a merge of models on different bases, and of logits."""
        node = self.nodes[name]
        if not isinstance(node, MergedModel):
            path = self.path(name, at)
            return stack_of(path, self.recipe.base.revision if path == self.recipe.base.model else None)
        if node.spec.method == "token-level":
            return None
        first, later = (self.stack(end, at) for end in node.models)
        origin = self.stack(SFT, at) if node.spec.method == "task-vectors" else None
        assert first is not None and later is not None  # the ends of a merge are no merges
        return blend(first, later, node.q, origin, node.spec.scale if origin is not None else 1.0)

    def combination(self, node: MergedModel, at: At) -> Combination:
        """Return a merged model as a linear combination of folders."""
        first, later = (self._combination_of(end, at) for end in node.models)
        if node.spec.method == "task-vectors":
            return task_vectors(first, later, self._combination_of(SFT, at), node.q, node.spec.scale)
        return linear(first, later, node.q)

    def _combination_of(self, name: str, at: At) -> Path:
        return local_checkpoint(self.path(name, at), self.recipe.base.revision)

    @cached_property
    def judge_models(self) -> dict[str, str]:
        """Content keys of the reward models that come from outside the run, by criterion."""
        judges = self.recipe.evaluate.judges.items()
        return {name: weights_key(spec.model, spec.revision) for name, spec in judges if spec.model is not None}

    @cached_property
    def rubrics(self) -> dict[str, Rubric]:
        """The rubrics of the language models that judge, by criterion."""
        return check_judges(self.recipe)

    # Loading

    def load(self, name: str, at: At) -> Any:
        """Return a model in evaluation mode, until the next call; models on one base share it."""
        stack = self.stack(name, at)
        key = name if stack is None else json.dumps(stack.place)
        if key not in self._loaded:
            size = self._make_room(KEPT_PARAMETERS // 2)
            model = self._load(name, stack, at)
            shared = stack is not None and any(step.lora and step.lora.plain for step in self.recipe.steps)
            if shared or _parameters(model) + size <= KEPT_PARAMETERS:
                self._loaded[key] = model
        else:
            self._loaded.move_to_end(key)
            model = self._loaded[key]
        if stack is None or not (stack.members or key in self._adapters):
            return model
        self._adapters[key] = on_stack(model, stack, self._adapters.get(key))
        return model

    def make_room(self) -> None:
        """Give up models that are kept whatever their size, before something else needs the memory."""
        self._make_room(KEPT_PARAMETERS)

    def _make_room(self, most: int) -> int:
        """Give up the models that were used longest ago until the rest is small; return the rest's parameters."""
        size = sum(_parameters(model) for model in self._loaded.values())
        while self._loaded and size > most:
            key, model = self._loaded.popitem(last=False)
            self._adapters.pop(key, None)
            size -= _parameters(model)
        return size

    def _load(self, name: str, stack: Stack | None, at: At) -> Any:
        self.judges.clear()
        node, base = self.nodes[name], self.recipe.base
        options: dict[str, Any] = {
            "dtype": base.dtype,
            "device": resolve_device(base.device),
            "trust_remote_code": base.trust_remote_code,
            "attn_implementation": base.attn_implementation,
        }
        if stack is not None:
            return load_model(stack.base, revision=stack.revision, quantization=base.quantization, **options)
        assert isinstance(node, MergedModel)
        if node.spec.method == "token-level":
            first, later = (self._combination_of(end, at) for end in node.models)
            return mixed_model(first, later, node.q, quantization=base.quantization, **options)
        terms, (row,) = tabulate([self.combination(node, at)])
        return merged_model(terms, row, **options)

    def tokenizer(self, at: At) -> Any:
        """Return the tokenizer that all models of the run share."""
        path, base = self.path(SFT, at), self.recipe.base
        revision = base.revision if path == base.model else None
        return load_tokenizer(path, revision=revision, trust_remote_code=base.trust_remote_code)

    def template(self, tokenizer: Any) -> Template:
        """Return the prompt template."""
        allowed = self.recipe.base.special_tokens_in_text
        return make_template(self.recipe.base.template, tokenizer, special_tokens_in_text=allowed)

    # Training

    def training(self, own: TrainingSpec) -> dict[str, Any]:
        """Return a training's options: its own over the recipe's defaults."""
        return {**self.recipe.training.options(), **own.options()}

    def job(
        self,
        name: str,
        model: str | Path,
        spec: Any,
        seed: int,
        *,
        lora: LoraSpec | None = None,
        home: Path | None = None,
    ) -> TrainingJob:
        """Return a training job; `spec` has max_length and training, and too_long where there is a choice."""
        return TrainingJob(
            name,
            model,
            self.recipe.base,
            self.training(spec.training),
            seed,
            spec.max_length,
            getattr(spec, "too_long", "truncate"),
            lora,
            home,
        )


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
