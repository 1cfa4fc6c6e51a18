"""What stages work with and no result depends on: where stages are, loaded models, judges at work, progress."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sacpo.judging.kinds import Bench
from sacpo.judging.llm.budget import Budget, Usage
from sacpo.judging.llm.store import STORE
from sacpo.judging.question import Judge
from sacpo.merge.source import Checkpoint, ModelSource
from sacpo.pipeline.stage import Stage
from sacpo.recipe.schema import BaseSpec
from sacpo.system.progress import QUIET, Progress
from sacpo.system.runs import RunFolder

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from sacpo.data.templates import Template

KEPT_PARAMETERS = 100_000_000
"""Models stay loaded for the next stage while all of them together have at most this many parameters.

A base that may carry adapters stays whatever its size, until another model is loaded or trained: models on one base
differ by their adapters alone.
"""
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Readable(Protocol[T_co]):
    """Something from outside that is read without a stage of its own, such as files in a single verb."""

    def load(self) -> T_co:
        """Return it."""


class Tools:
    """One command's tools.

    Args:
        folder: Where stages are.
        cache: Folder of reference log-probs and paid verdicts; None: each stage's own.
        progress: Where to show what is going on.
        budget: What language models may use as judges in this command.
        keep_bases: Keep a base of any size for the adapters that may come.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        cache: Path | None = None,
        progress: Progress = QUIET,
        budget: Budget | None = None,
        keep_bases: bool = False,
    ) -> None:
        self.folder, self.cache, self.progress = folder, cache, progress
        self.keep_bases = keep_bases
        spent: list[Usage] = []
        self.bench = Bench(cache and cache / STORE, budget or Budget(), spent, progress)
        self._judges: dict[str, Judge] = {}
        self._said: set[str] = set()
        self._loaded: OrderedDict[str, object] = OrderedDict()
        self._adapters: dict[str, PeftModel] = {}

    # Where stages are, and what they hold

    def at(self, stage: Stage[object]) -> Path:
        """Return the folder of a finished stage.

        Raises:
            LookupError: It is not finished.
        """
        if not self.folder.is_done(stage.name, stage.key):
            raise LookupError(f"stage {stage.name} is not finished")
        return self.folder.final(stage.name)

    def home(self, stage: Stage[object]) -> Path:
        """Return where a stage's folder will be when it is finished."""
        return self.folder.final(stage.name)

    def read(self, source: Stage[T] | Readable[T]) -> T:
        """Return what a finished stage holds, or what comes from outside; what is left out of that is said once."""
        if isinstance(source, Stage):
            return source.read(self.at(source))
        found = source.load()
        for reason, n in sorted(getattr(source, "left_out", {}).items()):
            if (said := f"{n:,} left out: {reason}") not in self._said:
                self._said.add(said)
                self.progress.notice(said)
        return found

    def cache_for(self, out: Path) -> Path:
        """Return the folder of reference log-probs and paid verdicts, of a stage that works in `out`."""
        return self.cache or out / "cache"

    # Models

    def place(self, model: ModelSource) -> ModelSource:
        """Return a model with the places where its weights are; a stage's model lies in its folder `model`."""
        return model.at(self._where)

    def _where(self, place: Any) -> str | Path:
        found: str | Path = self.at(place) / "model" if isinstance(place, Stage) else place
        return found

    def path(self, model: Checkpoint) -> str | Path:
        """Return where a model's weights are, as a folder or a hub id."""
        found: str | Path = model.at(self._where).place
        return found

    def load(self, model: ModelSource, base: BaseSpec) -> Any:
        """Return a model in evaluation mode, until the next call; models on one base share it.

        Args:
            model: The model.
            base: Its dtype, device, attention, quantization and consent to remote code.
        """
        from sacpo.models.adapters.loading import on_stack
        from sacpo.models.loading import resolve_device

        placed = self.place(model)
        stack = placed.stack()
        key = repr(placed) if stack is None else json.dumps(stack.place)
        if key not in self._loaded:
            size = self._make_room(KEPT_PARAMETERS // 2)
            self._judges.clear()
            self._adapters.pop(key, None)  # of a model that was not kept
            loaded = placed.load(
                dtype=base.dtype,
                device=resolve_device(base.device),
                trust_remote_code=base.trust_remote_code,
                attn_implementation=base.attn_implementation,
                quantization=base.quantization,
            )
            shared = stack is not None and self.keep_bases
            if shared or _parameters(loaded) + size <= KEPT_PARAMETERS:
                self._loaded[key] = loaded
        else:
            self._loaded.move_to_end(key)
            loaded = self._loaded[key]
        if stack is None or not (stack.members or key in self._adapters):
            return loaded
        self._adapters[key] = on_stack(loaded, stack, self._adapters.get(key))
        return loaded

    def tokenizer(self, model: Checkpoint, base: BaseSpec) -> tuple[PreTrainedTokenizerBase, Template]:
        """Return a model's tokenizer and the prompt template in it."""
        from sacpo.models.template import tokenizer_and_template

        return tokenizer_and_template(self.path(model), model.revision, base)

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

    # Judges

    def judge(self, key: str, make: Callable[[Bench], Judge]) -> Judge:
        """Return the judge of this key: made once for all answers, given up when a model is loaded."""
        if key not in self._judges:
            self._judges[key] = make(self.bench)
        return self._judges[key]


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
