"""Write the golden files anew: `python tests/golden/write_golden.py`, which also tells what changed.

Do this only for a change of results that is meant, and commit the files with the reason.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from golden_compare import differences
from golden_machine import do_work, machine, versions

HERE = Path(__file__).parent
PARTS = ("full", "lora", "verbs")


def main() -> None:
    """Do the work and put its results into the place of the golden files."""
    with tempfile.TemporaryDirectory() as folder:
        do_work(Path(folder))
        for part in PARTS:
            name = f"golden_{part}.json"
            new, old = Path(folder) / name, HERE / name
            if old.is_file():
                changed = [*differences(json.loads(old.read_text()), json.loads(new.read_text()))]
                print("\n".join([f"{name}: {len(changed)} changes", *changed[:40]]))
            shutil.copyfile(new, old)
    where = {"versions": versions(), "machine": machine()}
    (HERE / "golden_machine.json").write_text(json.dumps(where, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
