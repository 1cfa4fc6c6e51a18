"""How many stages there will be, as a run says it while results decide what follows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sacpo.pipeline.run import run_program
from sacpo.pipeline.runner import Do
from sacpo.pipeline.stage import JsonStage
from sacpo.pipeline.tools import Tools
from sacpo.system.files import write_json
from sacpo.system.progress import Progress
from sacpo.system.runs import RunFolder


@dataclass(frozen=True)
class Number(JsonStage):
    """A stage that says a number."""

    result: ClassVar[str] = "number.json"
    title: str
    number: int = 0

    @property
    def name(self) -> str:
        return self.title

    def work(self, out: Path, tools: Tools) -> None:
        write_json(out / self.result, {"number": self.number})


class Told(Progress):
    """Remembers what it is told of stages."""

    def __init__(self) -> None:
        super().__init__("silent")
        self.said: list[tuple[str, int, bool]] = []

    def expect(self, stages: int, whole: bool) -> None:
        self.said.append(("expect", stages, whole))

    def stage(self, name: str, state: str) -> None:
        self.said += [(name, 0, True)] if state == "done" else []


def program(do: Do) -> None:
    """Two stages; the second says that three more follow, the last of which says that one more does."""
    do(Number("first"))
    with do.following("as many as it says"):
        more = do.read(Number("second", 3))["number"]
    for place in range(more - 1):
        do(Number(f"more-{place}"))
    with do.following("one more"):
        last = do.read(Number("last", 1))["number"]
    for place in range(last):
        do(Number(f"end-{place}"))


def test_the_number_of_stages_is_told_anew_when_a_result_is_there_and_is_never_too_small(tmp_path: Path) -> None:
    """2 at least; after the second stage 2 + 2 + 1 = 5 at least; after the last 5 + 1 = 6, and that is all."""
    told = Told()
    folder = RunFolder(tmp_path / "run")
    run_program(program, folder, Tools(folder, cache=tmp_path / "run" / "cache", progress=told))
    names = [name for name, _, _ in told.said]
    assert [one for one in told.said if one[0] == "expect"] == [
        ("expect", 2, False),
        ("expect", 5, False),
        ("expect", 6, True),
    ]
    assert names == ["expect", "first", "second", "expect", "more-0", "more-1", "last", "expect", "end-0"]
