"""Cards of what has no run: a folder of a model, a folder of data."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sacpo.errors import DataError
from sacpo.report.front_matter import Publication, relation

FENCE = "---\n"
LINES = (".jsonl", ".jsonl.gz")


def folder_card(old: str | None, to: Publication, where: Path) -> str:
    """Return the card of a model's folder: its own with what is known beside it, or a short one.

    Raises:
        DataError: The folder's card has front matter that cannot be read.
    """
    matter, body = _split(old or "", where)
    library = "peft" if to.adapter else "transformers"
    matter = {**to.license, "library_name": library, "pipeline_tag": "text-generation", **matter, **to.license}
    if to.base is not None:
        known = matter.get("base_model") in (to.base, None) and matter.get("base_model_relation")
        merged = "merge" in (matter.get("tags") or ())
        matter |= {"base_model": to.base, "base_model_relation": known or relation(merged, to.adapter)}
        matter["base_model_relation"] = "adapter" if to.adapter else matter["base_model_relation"]
    matter["library_name"] = library
    matter["tags"] = list(dict.fromkeys([*(matter.get("tags") or ()), "sacpo"]))
    name = to.repository.rpartition("/")[2]
    short = f"# {name}\n\nNothing is written down about how this model was made or measured. Do not take it for safe.\n"
    return _card(matter, body or short)


def data_card(
    old: str | None, repository: str, license: Mapping[str, str], files: Mapping[str, Path], where: Path
) -> str:
    """Return the card of a folder of data: its own with the licence, or one that names its files.

    Raises:
        DataError: The folder's card has front matter that cannot be read.
    """
    matter, body = _split(old or "", where)
    matter = {**matter, **license}
    matter["tags"] = list(dict.fromkeys([*(matter.get("tags") or ()), "sacpo"]))
    rows = "\n".join(_row(name, path) for name, path in files.items() if name != "README.md")
    name = repository.rpartition("/")[2]
    short = (
        f"# {name}\n\n| file | records |\n|---|---|\n{rows}\n\nNothing is written down about how it was collected.\n"
    )
    return _card(matter, body or short)


def _row(name: str, path: Path) -> str:
    if not path.name.endswith(LINES):
        return f"| `{name}` | |"
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        return f"| `{name}` | {_count(file)} |"


def _count(lines: Iterable[bytes]) -> int:
    return sum(1 for line in lines if line.strip())


def _split(text: str, where: Path) -> tuple[dict[str, Any], str]:
    if not text.startswith(FENCE):
        return {}, text
    head, found, body = text.removeprefix(FENCE).partition("\n" + FENCE)
    try:
        matter = yaml.safe_load(head) if found else None
    except yaml.YAMLError:
        matter = None
    if not isinstance(matter, dict):
        raise DataError(
            "the card's front matter cannot be read", where=where, do="correct the YAML between the two ---"
        )
    return matter, body.lstrip("\n")


def _card(matter: Mapping[str, Any], body: str) -> str:
    return f"{FENCE}{yaml.safe_dump(dict(matter), sort_keys=False, allow_unicode=True)}{FENCE}\n{body}"
