"""Data sets of the Hugging Face hub as rows, read at a known commit."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sacpo.data.sources.rows import Row
from sacpo.errors import DataError
from sacpo.recipe.schema import SourceSpec

HUB_ID = re.compile(r"(?P<id>[\w.-]+(?:/[\w.-]+)?)(?P<folder>(?:/[\w.-]+)+)?(?::(?P<config>[\w.-]+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")


class HubPath(NamedTuple):
    """A hub data set: `OWNER/NAME`, with a folder in it (`OWNER/NAME/FOLDER`) or a configuration (`:CONFIG`)."""

    id: str
    folder: str | None
    config: str | None


def hub_path(text: str) -> HubPath:
    """Return the parts of a hub path.

    Raises:
        DataError: The text is neither a local file nor a hub path.
    """
    match = HUB_ID.fullmatch(text)
    if match is None:
        raise DataError(
            "neither a local file nor a hub id",
            where="'path' of a data source",
            value=text,
            allowed="FILE.jsonl, OWNER/NAME, OWNER/NAME/FOLDER, OWNER/NAME:CONFIG",
            do="correct the path; one that begins with ./ is always a file",
        )
    return HubPath(match["id"], match["folder"].strip("/") if match["folder"] else None, match["config"])


def read_hub(text: str, spec: SourceSpec, name: str) -> Iterator[Row]:
    """Yield the rows of a hub data set's split (`train` by default) in order, through the `datasets` library.

    Raises:
        DataError: The data set cannot be had: the library's own message is passed on.
    """
    import datasets

    path = hub_path(text)
    revision = hub_commit(path.id, spec.revision) or spec.revision
    try:
        table = datasets.load_dataset(
            path.id, name=path.config, data_dir=path.folder, revision=revision, split=spec.split or "train"
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"the hub data set cannot be had: {error}",
            where=text,
            value=f"split {spec.split or 'train'}, revision {spec.revision or 'main'}",
            do="check the id, 'split' and 'revision', or give local files under 'path'",
        ) from error
    number = 0
    for number, data in enumerate(table, 1):
        yield Row(dict(data), f"{text}, row {number}", f"{name}:{number}", published=True)
    if number == 0:
        raise DataError("the split holds no row", where=text, value=spec.split or "train")


def hub_commit(repo: str, revision: str | None) -> str:
    """Return the commit of a hub data set that a revision means here, "" where nobody can be asked.

    A data set that the hub lacks raises a `DataError`.

    The commit found first stays in the hub's cache and is used from then on: a run goes on with the data that it
    began with, whatever is published meanwhile.
    """
    from huggingface_hub import errors, hf_hub_download

    from sacpo.system.on_hub import ask_once

    revision = revision or "main"
    if COMMIT.fullmatch(revision):
        return revision
    commit = _cached_commit(repo, revision)
    ask_once(repo, "dataset", revision)
    if not commit:
        # What `datasets` fetches first; it leaves the commit in the cache, even where there is no such file.
        with contextlib.suppress(OSError, errors.HFValidationError):
            hf_hub_download(repo, "README.md", repo_type="dataset", revision=revision)
        commit = _cached_commit(repo, revision)
    return commit


def _cached_commit(repo: str, revision: str) -> str:
    from huggingface_hub import constants

    ref = Path(constants.HF_HUB_CACHE) / f"datasets--{repo.replace('/', '--')}" / "refs" / revision
    return ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
