"""Runs sections one after the other, each part in a process of its own, and keeps every line as it comes."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.forks import Forks
from benchmarks.gpu.lines import compared, ratio, read, said
from benchmarks.gpu.plan import SPARE, Part, Section, toy

ROOT = Path(__file__).parents[2]
GRACE = 8.0
"""Seconds that a part has beyond its budget to tell what it has, before it is ended."""
LOOK = 0.5
LAST = ("done", "failed")
LEAST = 20.0
"""Seconds under which no part is begun."""


class Runner:
    """The run of all sections up to a deadline.

    Args:
        out: File of JSON lines.
        deadline: Seconds for everything.
        device: "cuda" or "cpu".
        work: A folder that ends with the run: packages in `site`, what is compiled, and what parts write.
        small: Toy sizes.
    """

    def __init__(self, out: Path, deadline: float, device: str, work: Path, *, small: bool = False) -> None:
        self.out, self.device, self.work, self.small = out, device, work, small
        self.until = time.time() + deadline
        self.least = 1.0 if small else LEAST
        self.bf16_tflops: float | None = None
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("")
        folders = [str(work / "site"), str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        compiled = {"TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"), "TRITON_CACHE_DIR": str(work / "triton")}
        environment = {**os.environ, **compiled, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
        self.forks = Forks({**environment, "HF_HOME": str(work / "hub")}, work / "forks")

    def tell(self, section: str, label: str, record: dict[str, Any]) -> None:
        """Keep a line in the file and show it, at once."""
        line = {"section": section, "label": label, **record}
        with self.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        text = said(line)
        if text:
            print(text, flush=True)

    def run(self, sections: list[Section]) -> None:
        """Run sections; those that do not fit in any more are told."""
        try:
            self._run(sections)
        finally:
            self.forks.close()

    def _run(self, sections: list[Section]) -> None:
        pending, done = list(sections), set()
        while pending:
            section = pending.pop(0)
            if section.name in done:
                continue
            done.add(section.name)
            if self.section(section) and section.smaller:
                known = {s.name: s for s in (*sections, *(toy(s) if self.small else s for s in SPARE))}
                if section.smaller in known and section.smaller not in done:
                    self.tell(
                        section.name, "", {"part": "notice", "text": f"memory ran out: {section.smaller} instead"}
                    )
                    pending.insert(0, known[section.smaller])

    def section(self, section: Section) -> bool:
        """Run a section's parts; return whether memory ran out in one of this package's."""
        self.tell(section.name, "", {"part": "begun", "title": section.title, "left": self.until - time.time()})
        full, hopeless = False, False
        for part in section.parts:
            left = self.until - time.time()
            if hopeless or left < self.least:
                reason = "the first part ran out of memory" if hopeless else "out of time"
                self.tell(section.name, part.label, {"part": "not run", "reason": reason})
                continue
            records = self.part(section.name, part, min(part.budget, left - GRACE / 2))
            short = any(record["part"] == "failed" and record.get("memory") for record in records)
            hopeless = short and part is section.parts[0]  # which needs least
            full = full or (short and part.options.get("peer", "sacpo") == "sacpo")
        for pair in compared(read(self.out)) if section.pairs else ():
            if pair["section"] == section.name:
                print(ratio(pair), flush=True)
        return full

    def part(self, section: str, part: Part, budget: float) -> list[dict[str, Any]]:
        """Run one part in a process and return what it told."""
        self.forks.start()
        started = time.time()
        options = {**part.options, "device": self.device, "until": started + budget}
        if part.call == "training.run":
            options["bf16_tflops"] = self.bf16_tflops
        records: list[dict[str, Any]] = []
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            errors = Path(folder) / "stderr"
            errors.touch()
            self.forks.begin(part.call, options, folder)
            try:
                ended = self._listen(section, part, started + budget + GRACE, records)
            finally:
                self.forks.end()
            if not any(record["part"] in LAST for record in records):
                why = f"exit status {self.forks.status}" if ended else f"ended after {time.time() - started:.0f} s"
                files = (errors, self.forks.errors)
                last = next(filter(None, (_last(file.read_text(errors="replace")) for file in files)), "")
                self._keep(section, part, {"part": "failed", "error": why, "message": last}, records)
        return records

    def _listen(self, section: str, part: Part, until: float, records: list[dict[str, Any]]) -> bool:
        """Keep what a part tells until it ends or its time is up; return whether it ended by itself."""
        until = min(until, self.until)
        while time.time() < until:
            record = self.forks.told(LOOK)
            if record is not None:
                self._keep(section, part, record, records)
                if record["part"] in LAST:
                    return True
            elif self.forks.status is not None:
                return True
        return False

    def _keep(self, section: str, part: Part, record: dict[str, Any], records: list[dict[str, Any]]) -> None:
        records.append(record)
        if record["part"] == "matmul" and record["kind"] == "bf16" and self.device == "cuda":
            self.bf16_tflops = record["tflops"]
        self.tell(section, part.label, record)


def _last(text: str) -> str:
    """Return the last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")[-300:]
