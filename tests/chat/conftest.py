"""Three models of one family that a few words can tell apart: before alignment, a helpful one and a safe one."""

from __future__ import annotations

from pathlib import Path

import pytest
from chat_toys import write_family


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the models sft, helpful and safe."""
    return write_family(tmp_path_factory.mktemp("family"))
