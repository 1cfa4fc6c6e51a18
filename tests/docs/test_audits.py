"""docs/data-audits.md is what its script writes."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = os.environ.get("SACPO_DATA")


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="SACPO_DATA names no folder with real data")
def test_the_page_of_audits_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("write_audits", ROOT / "scripts" / "write_audits.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text(encoding="utf-8") == script.page(Path(DATA or "")), (
        "run: python scripts/write_audits.py"
    )
