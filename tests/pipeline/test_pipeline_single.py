"""Output folders of single stages: links, the home folder, and what stands there already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from sacpo.errors import RunError
from sacpo.pipeline.single import do_single
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.system.progress import QUIET


@dataclass(frozen=True)
class Write(Stage[Path]):
    name = "s"

    def work(self, out: Path, tools: Tools) -> None:
        (out / "x.txt").write_text("x")


def test_a_link_leads_to_the_output(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for link, target in (("to-empty", "empty"), ("to-nothing", "nothing")):
        (tmp_path / link).symlink_to(target)
        for _ in range(2):  # done, then kept
            do_single("s", Write(), tmp_path / link, QUIET)
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / target / "x.txt").read_text() == "x"


def test_the_home_folder_has_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert do_single("s", Write(), Path("~/out"), QUIET) == tmp_path / "out"
    assert not Path("~").exists()


def test_the_root_of_all_folders_is_no_output() -> None:
    with pytest.raises(RunError, match="holds files already"):
        do_single("s", Write(), Path("/"), QUIET)
