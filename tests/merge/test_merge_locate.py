from __future__ import annotations

from pathlib import Path

import pytest

from sacpo.errors import ModelError
from sacpo.merge import local_checkpoint
from sacpo.merge import locate as locate_module


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert local_checkpoint(tmp_path) == tmp_path


def test_a_hub_model_is_downloaded_without_its_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def download(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(locate_module, "snapshot_download", download)
    assert local_checkpoint("someone/model", "v1") == tmp_path
    assert (asked["name"], asked["revision"]) == ("someone/model", "v1")
    assert not {"*.bin", "*.pt", "*"} & set(asked["allow_patterns"])  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["no-such/model", "not a hub id"])
def test_a_name_that_is_nothing_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=name):
        local_checkpoint(name)
