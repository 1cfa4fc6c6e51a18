from __future__ import annotations

from pathlib import Path

import pytest
from align_toys import write_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained tiny Llama."""
    return write_base(tmp_path_factory.mktemp("models") / "base")
