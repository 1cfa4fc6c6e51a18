"""Tiny models, and what is done to them before a command has to refuse them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from bad_input_cases import ABSENT, FILES, RECIPE, Case, lay_out
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from sacpo.models.byte_level_bpe import byte_level_bpe
from sacpo.models.loading import build_model, save_model

Edit = Callable[[Path], None]
LONG = "one two three four five six seven eight nine ten " * 10
BASE = {**RECIPE["base"]["config"], "max_position_embeddings": 128}
OTHER_TEXTS = ["zzz zz zzzz zzzz zz zzzzz"] * 20
RESUMED: dict[str, Any] = {
    **{key: RECIPE[key] for key in ("name", "training", "prompts")},
    "base": {"model": "./base", "device": "cpu"},
    "data": {"pairs": RECIPE["data"]["pairs"]},
    "steps": RECIPE["steps"][:1],
    "evaluate": RECIPE["evaluate"],
}
"""An experiment that begins with a model's folder."""
OTHERWISE = "{{ 'a' if add_generation_prompt else 'b' }}{% for m in messages %}{{ m.content }}{% endfor %}"
DATA = ("data/pairs", "prompts/tuning", "prompts/report", "overlap")


@dataclass(frozen=True)
class ModelCase(Case):
    """A mistake beside or in a model's folder.

    Attributes:
        edits: Folder in the working folder: what is done to it.
    """

    edits: dict[str, Edit] = field(default_factory=dict)
    __hash__ = object.__hash__


def fill_shelf(folder: Path) -> Path:
    """Write folders of tiny models; return the folder around them.

    `base`, `twin` (other weights), `wide` (another shape), `foreign` (another tokenizer), `two-logits`.
    """
    texts = [line for text in FILES.values() for line in text.splitlines()]
    own, other = byte_level_bpe(texts, 300), byte_level_bpe(OTHER_TEXTS, 300)
    save_model(build_model(BASE, own, 0), own, folder / "base")
    save_model(build_model(BASE, own, 1), own, folder / "twin")
    save_model(build_model({**BASE, "hidden_size": 32}, own, 0), own, folder / "wide")
    size = {"vocab_size": len(own)}
    save_model(build_model({**BASE, **size}, other, 0), other, folder / "foreign")
    config = AutoConfig.for_model(**BASE, **size, num_labels=2, pad_token_id=own.pad_token_id)
    torch.manual_seed(0)
    save_model(AutoModelForSequenceClassification.from_config(config), own, folder / "two-logits")
    return folder


def settings(name: str, **changes: Any) -> Edit:
    """Change keys of a JSON file; ABSENT removes one."""

    def edit(folder: Path) -> None:
        path = folder / name
        data = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in data.items() if value is not ABSENT}))

    return edit


def no_end(folder: Path) -> None:
    settings("tokenizer_config.json", eos_token=None)(folder)


def no_chat_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def chat_template(text: str) -> Edit:
    """Replace the chat template."""

    def edit(folder: Path) -> None:
        (folder / "chat_template.jinja").write_text(text)

    return edit


def several_templates(folder: Path) -> None:
    """Two named templates and no default."""
    text = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "additional_chat_templates").mkdir()
    for name in ("rag", "tool_use"):
        (folder / "additional_chat_templates" / f"{name}.jinja").write_text(text)


def pickled(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not weights at all")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def poisoned(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def own_code(folder: Path) -> None:
    settings("config.json", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}, model_type="own")(
        folder
    )
    (folder / "own.py").write_text("raise SystemExit('code of the model ran')\n")


def whole_numbers(folder: Path) -> None:
    """Store the output head in whole numbers, as a quantised model's would be."""
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"].mul(100).int()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def holding(name: str, value: Any) -> Edit:
    """Let a JSON file hold something else."""
    return lambda folder: (folder / name).write_text(json.dumps(value)) and None


def prepare(case: ModelCase, recipe: dict[str, Any], shelf: Path) -> None:
    """Write a case's files, and the models that it names."""
    lay_out(case, recipe)
    for path in shelf.iterdir():
        shutil.copytree(path, path.name)
    for name, edit in case.edits.items():
        edit(Path(name))
