"""Which path a run's chosen model lies on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report.report_world import made_up

from sacpo.chat import of_run
from sacpo.errors import RecipeError
from sacpo.report.results import parse_results


def test_a_chosen_merge_of_three_lies_on_no_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: dict[str, Any] = made_up()
    found["models"]["P@q0.5"] |= {"parents": ["sft", "H", "S"], "weights": [0.2, 0.3, 0.5], "q": None}
    found["selection"]["chosen"] = "P@q0.5"
    monkeypatch.setattr(of_run._Run, "__post_init__", lambda self: None)
    run = of_run._Run(tmp_path)
    run.results = parse_results(found)
    with pytest.raises(RecipeError, match=r"merges 3 models[\s\S]*--between H S"):
        run.path(None, None)
