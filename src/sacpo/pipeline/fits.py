"""What of a recipe fits into a device's memory: each training, answering, and what else could be asked for."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoConfig

from sacpo.align.defaults import with_defaults
from sacpo.align.footprint import FLOAT32, Method, Shape, answering_bytes, shape_of, training_bytes
from sacpo.align.job import TrainingJob
from sacpo.errors import MachineError
from sacpo.models.adapters.stack import stack_of
from sacpo.models.checks import LIBRARY_ERRORS
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.schema import BaseSpec, LoraSpec, Recipe
from sacpo.system.machine import out_of_memory

DEVICES = (8, 24, 40, 80)
"""Sizes of devices in GB."""
FREE = 0.92
"""Share of a device that tensors can fill: the rest is the driver's, and lost between blocks."""
LARGEST_BATCH = 1024
MIXED = ("bf16", "fp16")
RANK = 16
HALVE = "halve training.per_device_train_batch_size and double gradient_accumulation_steps"
WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Room:
    """What a way to train would take, and how many records a device batch could have.

    Attributes:
        way: full, LoRA or QLoRA.
        checkpointing: Whether layers are computed again in the backward pass.
        needs: Bytes with the batch of the recipe.
        batches: Largest power of two a device batch could have, by the device's GB; 0: not even one record fits.
    """

    way: str
    checkpointing: bool
    needs: int
    batches: dict[int, int]


@dataclass(frozen=True)
class Load:
    """What a training puts on a device at a time.

    Attributes:
        batch: Records a device batch.
        rows: Rows a record makes: two completions of a pair.
        length: Tokens of the longest row.
    """

    batch: int
    rows: int
    length: int

    @property
    def tokens(self) -> int:
        """Tokens of a device batch, where every row is as long as the longest."""
        return self.batch * self.rows * self.length


def shape_of_recipe(recipe: Recipe, vocabulary: int | None) -> Shape | None:
    """Return the shape of the base, None where its configuration is not here, or it cannot be run without numbers.

    Args:
        recipe: The recipe.
        vocabulary: Tokens of a tokenizer that is built here.
    """
    config = _config(recipe, vocabulary)
    if config is None:
        return None
    try:
        return shape_of(json.dumps(config, sort_keys=True, default=str))
    except LIBRARY_ERRORS:  # code of its own, or an architecture that looks at its numbers
        return None


def width_of(base: BaseSpec, *, full: bool) -> int:
    """Return the bytes of a weight as it is loaded; `full`: all are trained, see `TrainingJob.dtype`.

    Of "auto" it is float32 where all are trained or the base is new, else most likely 16 bits.
    """
    return WIDTHS.get(base.dtype, FLOAT32 if full or base.config else 2)


def method_of(base: BaseSpec, lora: LoraSpec | None, options: JsonMapping, width: int) -> Method:
    """Return how a training trains; `width` is that of a weight as it is loaded."""
    given = with_defaults(options)
    return Method(
        rank=lora.r if lora is not None else 0,
        quantized=base.quantization is not None,
        checkpointing=bool(given.get("gradient_checkpointing")),
        width=width,
        mixed=any(given.get(name) for name in MIXED),
    )


def rooms(shape: Shape, method: Method, load: Load, full: int | None = None) -> list[Room]:
    """Return what each way of training would take on each size of device, for a recipe's heaviest training.

    Args:
        shape: The base.
        method: How it trains.
        load: What it puts on a device.
        full: Bytes of a weight where all are trained; None: as of `method`.
    """
    rank = method.rank or RANK
    ways = {
        "full": replace(method, rank=0, quantized=False, width=full or method.width),
        "LoRA": replace(method, rank=rank, quantized=False),
        "QLoRA": replace(method, rank=rank, quantized=True),
    }
    found = []
    for way, how in ways.items():
        for again in (False, True):
            chosen = replace(how, checkpointing=again)
            batches = {size: largest_batch(shape, chosen, load, size) for size in DEVICES}
            found.append(Room(way, again, round(training_bytes(shape, chosen, load.tokens)), batches))
    return found


def largest_batch(shape: Shape, method: Method, load: Load, gigabytes: int) -> int:
    """Return the largest power of two of records that a device holds at a time, 0 where none does."""
    batch = 0
    while batch < LARGEST_BATCH:
        trial = replace(load, batch=2 * batch or 1)
        if training_bytes(shape, method, trial.tokens) > FREE * gigabytes * 1e9:
            break
        batch = trial.batch
    return batch


def advice(found: list[Room], method: Method, load: Load, device: float) -> str:
    """Return which option would have fitted into so many bytes, the nearest to what was asked for first."""
    now = [room for room in found if (room.way == "full") == (method.rank == 0)]
    ordered = sorted(found, key=lambda room: (room not in now, room.way == "QLoRA", room.checkpointing))
    fitting = [room for room in ordered if room.needs <= FREE * device and room.checkpointing >= method.checkpointing]
    if fitting:
        room = fitting[0]
        changes = [] if (room.way == "full") == (method.rank == 0) else [f"{room.way} (lora: {{r: {RANK}}})"]
        changes += ["training.gradient_checkpointing: true"] if room.checkpointing > method.checkpointing else []
        if changes:
            return f"{' with '.join(changes)} would take about {room.needs / 1e9:.1f} GB"
    if load.batch > 1:
        return HALVE
    return "take a smaller model, or shorter records (max_length)"


@contextlib.contextmanager
def memory_told(job: TrainingJob, rows: int) -> Iterator[None]:
    """Say of a training that has no room which option would have had.

    Args:
        job: The training.
        rows: Rows that a record makes: two completions of a pair.

    Raises:
        MachineError: The training has no room.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        device = device_bytes(job.base.device)
        options = with_defaults(job.training)
        load = Load(options["per_device_train_batch_size"], rows, job.max_length)
        shape = shape_at(Path(str(job.model)))
        what = f"not enough memory for this training: {device / 1e9:.1f} GB in all"
        if shape is None:
            raise MachineError(what, where=job.name, do=HALVE) from error
        method = method_of(job.base, job.lora, options, WIDTHS.get(job.base.dtype, FLOAT32))
        needs = training_bytes(shape, method, load.tokens)
        said = advice(rooms(shape, method, load), method, load, device)
        raise MachineError(what, where=job.name, value=f"about {needs / 1e9:.1f} GB asked for", do=said) from error


def device_bytes(name: str) -> float:
    """Return the memory of the device that a recipe names: a GPU's, or this machine's."""
    if name.startswith("cuda") or (name == "auto" and torch.cuda.is_available()):
        return float(torch.cuda.mem_get_info()[1])
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def shape_at(folder: Path) -> Shape | None:
    """Return the shape of a model in a folder, or of the base of the adapters in it; None where it cannot be told."""
    place = Path(stack_of(folder).base)
    if not (place / "config.json").is_file():
        return None
    try:
        return shape_of(json.dumps(AutoConfig.from_pretrained(place).to_dict(), sort_keys=True, default=str))
    except LIBRARY_ERRORS:  # code of its own
        return None


def answering(recipe: Recipe, shape: Shape, width: int, prompt: int) -> int:
    """Return the peak of answering evaluation prompts of so many tokens, with keys and values."""
    generation = recipe.evaluate.generation
    length = prompt + generation.max_new_tokens
    return round(answering_bytes(shape, width, generation.batch_size, length))


def rooms_json(found: list[Room]) -> list[JsonObject]:
    """Return the rooms as JSON-ready values."""
    return [{**asdict(room), "batches": {str(size): n for size, n in room.batches.items()}} for room in found]


def _config(recipe: Recipe, vocabulary: int | None) -> JsonObject | None:
    base = recipe.base
    if base.config is not None:
        return {**({} if vocabulary is None else {"vocab_size": vocabulary}), **base.config}
    if base.gguf:
        return None
    folder = Path(str(base.model))
    cached = None if folder.is_dir() else try_to_load_from_cache(str(base.model), "config.json", revision=base.revision)
    file = Path(cached) if isinstance(cached, str) else folder / "config.json"
    if not file.is_file():
        return None
    try:
        return AutoConfig.from_pretrained(file.parent).to_dict()
    except LIBRARY_ERRORS:  # code of its own
        return None
