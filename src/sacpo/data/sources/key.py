"""The key of a source's content: it changes when the data change."""

from __future__ import annotations

from sacpo.data.sources.files import check_file, files_of, local, looks_local
from sacpo.data.sources.hub import hub_commit, hub_path
from sacpo.recipe.schema import SourceSpec
from sacpo.system.files import content_key, file_hash


def source_key(spec: SourceSpec) -> str:
    """Return 64 hexadecimal digits that identify a source: its options and its files' bytes or its hub commit.

    A local file's name is part of the key, as records and messages carry it; its folder is not.

    Raises:
        DataError: A local file is missing, or is no file of a known type.
    """
    options = spec.model_dump(mode="json", by_alias=True, exclude={"path"})
    return content_key({"options": options, "data": [_content(path, spec) for path in spec.paths]})


def _content(text: str, spec: SourceSpec) -> list[str]:
    if looks_local(text):
        path = local(text)
        check_file(path)
        return ["file", path.name, *map(file_hash, files_of(path))]
    return ["hub", text, hub_commit(hub_path(text).id, spec.revision)]
