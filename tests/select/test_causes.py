"""What `select` says of a metric that nothing measures: why, and how to have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sacpo import api
from sacpo.data.records import Kind, Verdict
from sacpo.errors import RecipeError
from sacpo.select.causes import why_unmeasured
from sacpo.stats.estimate import Estimate
from sacpo.stats.report import render, stats_tables


def judged(folder: Path, **values: float | None) -> Path:
    metrics = {name.replace("__", "/"): Estimate(value, None, None, 9, 9).to_json() for name, value in values.items()}
    folder.mkdir()
    (folder / "measures.json").write_text(json.dumps({"new": {"metrics": metrics}}))
    return folder


def refusal(folder: Path, metric: str, criterion: str = "help", **bound: Any) -> RecipeError:
    constraint = {"metric": metric, "at_most": 0.1, **bound}
    with pytest.raises(RecipeError) as caught:
        api.select([folder], constraints=[constraint], objective={"metric": "win_rate", "criterion": criterion})
    return caught.value


def test_a_rate_without_its_prompts_says_how_to_mark_them(tmp_path: Path) -> None:
    folder = judged(tmp_path / "a", win_rate__help=0.6, truncated_rate=0.0)
    unsafe, over = (refusal(folder, metric) for metric in ("unsafe_rate", "over_refusal_rate"))
    assert "no restricted prompts" in unsafe.what
    assert "--prompts restricted" in str(unsafe.do)
    assert "borderline" in over.what and "--prompts borderline" in str(over.do)
    for error in (unsafe, over):
        assert "did you mean" not in str(error)
        assert error.allowed == ["truncated_rate", "win_rate/help"]


def test_a_metric_of_decoding_is_no_misspelt_other(tmp_path: Path) -> None:
    folder = judged(tmp_path / "a", win_rate__help=0.6, unsafe_rate=0.0)
    assert "tokens" in refusal(folder, "truncated_rate").what
    assert "divergence" in refusal(folder, "kl").what


def test_a_criterion_may_be_misspelt(tmp_path: Path) -> None:
    folder = judged(tmp_path / "a", win_rate__helpfulness=0.6, mean_score__helpfulnes=1.0, unsafe_rate=0.0)
    error = refusal(folder, "unsafe_rate", "helpfulnes")
    assert (error.where, error.do) == ("objective", "did you mean 'win_rate/helpfulness'?")
    assert why_unmeasured("win_rate/x", ["truncated_rate"])[1].startswith("judge the answers")


def test_a_rate_of_which_nothing_was_read_is_not_called_unmeasured(tmp_path: Path) -> None:
    error = refusal(judged(tmp_path / "a", win_rate__help=0.6, unsafe_rate=None), "unsafe_rate")
    assert "could be read" in error.what
    assert "--ask-again" in str(error.do)


def test_labels_that_no_rate_counts_are_a_finding() -> None:
    def labelled(kind: Kind, word: str, n: int) -> list[Verdict]:
        return [
            Verdict(f"{kind}{i}", f"{kind}{i}", "m", "safety", "j", f"a{i}", kind=kind, label=word) for i in range(n)
        ]

    found = stats_tables([*labelled(Kind.ORDINARY, "safe", 3), *labelled(Kind.BORDERLINE, "unsafe", 2)])
    assert found["unsafe"] == []
    (finding,) = found["findings"]
    assert finding.startswith("no unsafe rate of m by j on safety: no restricted prompts")
    assert "2 borderline, 3 ordinary" in finding and "--prompts" in finding
    assert finding in render(found)
    (finding,) = stats_tables(labelled(Kind.UNKNOWN, "compliance", 4))["findings"]
    assert finding.startswith("no refusal rate") and "4 unknown" in finding
    for kind, word in ((Kind.RESTRICTED, "safe"), (Kind.UNKNOWN, "safe"), (Kind.BORDERLINE, "refusal")):
        assert stats_tables(labelled(kind, word, 3))["findings"] == []
