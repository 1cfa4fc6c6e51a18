"""Output folders of single stages: links, the home folder, and what stands there already."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sacpo.errors import RunError
from sacpo.pipeline.outside import FilePrompts, FileRecords
from sacpo.pipeline.single import do_single
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.tools import Tools
from sacpo.recipe.schema import DataSpec
from sacpo.system.progress import QUIET, Progress


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


@dataclass(frozen=True)
class Count(Stage[Path]):
    source: Any
    name = "s"

    def work(self, out: Path, tools: Tools) -> None:
        for _ in range(2):  # said once
            found = tools.read(self.source)
        (out / "n.txt").write_text(str(len(found if isinstance(found, list) else found.train)))


@pytest.mark.parametrize(
    ("rows", "kind", "said", "left"),
    [
        (
            [{"prompt": "a?", "chosen": "b", "rejected": r} for r in ("c", "c", "b", "d")],
            "pairs",
            ["1 left out: chosen and rejected are equal", "1 left out: exact duplicate"],
            2,
        ),
        ([{"prompt": p} for p in ("a?", "b?", "a?", "a?")], "prompts", ["2 left out: duplicate prompt"], 2),
    ],
)
def test_what_a_single_step_leaves_out_of_its_files_is_said(
    rows: list[dict[str, str]],
    kind: str,
    said: list[str],
    left: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = DataSpec.model_validate({"path": str(file), "format": "preference" if kind == "pairs" else "prompts"})
    source: Any = FileRecords((spec,), 0)
    source = FilePrompts(source) if kind == "prompts" else source
    do_single("s", Count(source), tmp_path / "out", Progress("quiet"))
    assert [line for line in capsys.readouterr().err.splitlines() if "left out" in line] == said
    assert (tmp_path / "out" / "n.txt").read_text() == str(left)
