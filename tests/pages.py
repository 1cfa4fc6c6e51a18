"""What the pages of docs/ tell readers to type."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)


def tutorial(page: str) -> list[str]:
    """The commands under a page's heading "Tutorial", in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(r"^## Tutorial\n(.*?)(?=^## )", text, re.M | re.S)
    assert found, page
    return [line for block in FENCE.findall(found.group(1)) for line in block.splitlines()]
