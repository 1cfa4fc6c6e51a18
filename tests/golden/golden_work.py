"""All golden work: two recipes, every verb by itself and `sacpo stats`. `python golden_work.py FOLDER` does it.

It writes `FOLDER/golden_NAME.json` for each part. Only public surfaces are used, so that a restructuring leaves this
file as it is.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from golden_digest import Masks, folder_digest, text_digest, without
from golden_endpoint import endpoint
from golden_verbs import verbs

import sacpo

HERE = Path(__file__).parent
UNPINNED = ("versions", "command")
"""Parts of results.json that are not pinned."""
LINE = 600
"""Characters of a line of the golden files, where it can be."""


def recipe(name: str, folder: Path, url: str) -> tuple[dict[str, Any], Path]:
    """Run a recipe and return its results and the digests of its files, and the run's folder."""
    data = yaml.safe_load((HERE / f"golden_{name}.yaml").read_text(encoding="utf-8"))
    for judge in data["evaluate"]["judges"].values():
        panel = judge.get("panel", [])
        for one in panel if isinstance(panel, list) else [panel]:
            one["base_url"] = url
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    done = sacpo.run(sacpo.load_recipe(file), runs=folder / "runs")
    masks = masks_of(folder, url)
    results = masks.data(without(done.results, UNPINNED))
    hash_categories(results["measures"])
    return {"results": results, "files": folder_digest(done.folder / "stages", masks)}, done.folder


def hash_categories(measures: dict[str, Any]) -> None:
    """Put a hash in the place of the estimates by category, which are most of results.json."""
    for sets in measures.values():
        for one in sets.values():
            one["categories"] = text_digest(json.dumps(one["categories"]))


def masks_of(folder: Path, url: str) -> Masks:
    """Return what is masked: the package's version may change, and Python's last number changes no result."""
    python = platform.python_version()
    return Masks({str(folder): "<folder>", url: "<url>", sacpo.__version__: "<version>", python: "<python>"})


def work(folder: Path) -> None:
    """Do everything in an empty folder."""
    torch.set_num_threads(1)
    place = folder / "place"
    place.mkdir(parents=True)
    shutil.copyfile(HERE / "golden_pairs.jsonl", place / "golden_pairs.jsonl")
    os.chdir(place)  # the recipes name the pairs by a relative path, which is in the results
    with endpoint() as url:
        full, run = recipe("full", place, url)
        write(folder, "full", full)
        write(folder, "lora", recipe("lora", place, url)[0])
        write(folder, "verbs", verbs(place / "verbs", run / "stages", url, masks_of(place, url)))


def write(folder: Path, name: str, found: Any) -> None:
    (folder / f"golden_{name}.json").write_text(compact(found) + "\n", encoding="utf-8")


def compact(data: Any) -> str:
    """Return JSON that is small and yet has lines: what fits into one is written as one."""
    short = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if len(short) <= LINE or not isinstance(data, dict | list):
        return short
    if isinstance(data, dict):
        return "{\n" + ",\n".join(f"{json.dumps(key)}:{compact(value)}" for key, value in data.items()) + "\n}"
    return "[\n" + ",\n".join(compact(value) for value in data) + "\n]"


if __name__ == "__main__":
    work(Path(sys.argv[1]).resolve())
