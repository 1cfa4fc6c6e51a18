"""Pushing what a `PreferenceTrainer` trained: the files that `sacpo push` sends, with a card of the training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from sacpo.errors import UserError
from sacpo.hub.gather import CARD, Wish, gather
from sacpo.hub.upload import upload
from sacpo.models.adapters.folder import CONFIG
from sacpo.report.front_matter import HUB_ID, relation
from sacpo.system.progress import Progress
from sacpo.trl.config import PreferenceConfig

UNMEASURED = "Its answers were not measured. Do not take it for safe."


def push_folder(
    folder: Path,
    config: PreferenceConfig,
    repository: str,
    message: str,
    *,
    base: str | None,
    adapter: bool,
    log: list[dict[str, float]],
    license: dict[str, str],
    datasets: list[str],
) -> str:
    """Push a folder that the trainer wrote and return the repository's address; errors as of `gather` and `upload`."""
    known = base if base is not None and HUB_ID.fullmatch(base) and not Path(base).exists() else None
    found = gather(folder, Wish(repository, config.hub_private_repo is False, license, known))
    config_file = found.files.get(CONFIG)
    if isinstance(config_file, bytes):  # of an adapter: it names the base that was found
        known = json.loads(config_file)["base_model_name_or_path"]
    card = _card(repository, config, known, adapter, log, license, datasets)
    return upload(replace(found, files={**found.files, CARD: card.encode()}, card=card), message)


def push_while_training(progress: Progress, step: int, push: Any) -> None:
    """Push, and say so where that fails: the training goes on."""
    try:
        push()
    except UserError as error:
        progress.notice(f"the push at step {step} failed, and the training goes on: {error}")


def _card(
    repository: str,
    config: PreferenceConfig,
    base: str | None,
    adapter: bool,
    log: list[dict[str, float]],
    license: dict[str, str],
    datasets: list[str],
) -> str:
    matter: dict[str, object] = {**license, "library_name": "peft" if adapter else "transformers"}
    matter["pipeline_tag"] = "text-generation"
    if base is not None:
        matter |= {"base_model": base, "base_model_relation": relation(False, adapter)}
    if datasets:
        matter["datasets"] = datasets
    matter["tags"] = ["sacpo", "alignment", config.algorithm]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    loss = f" Loss: {losses[0]:.4f} at first, {losses[-1]:.4f} at last." if losses else ""
    body = [
        f"# {repository.rpartition('/')[2]}",
        f"Trained on preferences with sacpo's `PreferenceTrainer`: {config.algorithm.upper()}, beta {config.beta:g}, "
        f"learning rate {config.learning_rate:g}, seed {config.seed}.{loss}",
        UNMEASURED,
    ]
    return f"---\n{yaml.safe_dump(matter, sort_keys=False)}---\n\n" + "\n\n".join(body) + "\n"
