"""Audits of prompt sets: what a set cannot detect, near-duplicates, diversity."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sacpo.audit import audit_prompts
from sacpo.audit.prompts import needed
from sacpo.audit.tables import prompt_tables, render
from sacpo.cli.command_line import app
from sacpo.errors import DataError

DATA = os.environ.get("SACPO_DATA")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_what_a_set_cannot_detect_is_the_bound_without_a_failure(tmp_path: Path) -> None:
    """1 - .05^(1/2) = .776 of 2 prompts, 1 - .05^(1/3) = .632 of 3; near-duplicates and a cluster count once."""
    rows = [
        {"prompt": "How do I bake a loaf of rye bread at home?", "category": "food"},
        {"prompt": "How do I bake a loaf of rye bread at home", "category": "food"},
        {"prompt": "Where do swallows sleep?", "category": "birds", "cluster": "s"},
        {"prompt": "Tell me about the sleep of birds.", "category": "birds", "cluster": "s"},
        {"prompt": "What do ravens eat in winter?", "category": "birds"},
    ]
    (found,) = audit_prompts([write(tmp_path / "x.jsonl", rows)])["files"]
    (kind,) = found["kinds"]
    assert (found["prompts"], found["near"], kind["independent"]) == (5, 1, 3)
    assert kind["undetected"] == pytest.approx(1 - 0.05 ** (1 / 3))
    birds, food = found["categories"]
    assert (birds["category"], birds["prompts"], birds["independent"]) == ("birds", 3, 2)
    assert birds["undetected"] == pytest.approx(1 - 0.05 ** (1 / 2))
    assert food["undetected"] == pytest.approx(0.95)


def test_prompts_needed_for_a_bound() -> None:
    """.95^59 = .0485 is below .05 and .95^58 = .0510 is not."""
    assert needed(0.05) == 59
    assert needed(0.01) == 299


def test_diversity_of_one_text_is_none(tmp_path: Path) -> None:
    same = write(tmp_path / "same.jsonl", [{"prompt": "the same few words again"}] * 9)
    apart = write(tmp_path / "apart.jsonl", [{"prompt": f"w{i}a w{i}b w{i}c w{i}d"} for i in range(9)])
    first, second = audit_prompts([same, apart])["files"]
    assert first["diversity"]["distinct_2"] == pytest.approx(1 / 9)
    assert first["diversity"]["similarity"] == 1
    assert first["kinds"][0]["independent"] == 1
    assert second["diversity"]["distinct_1"] == second["diversity"]["openings"] == 1
    assert second["diversity"]["similarity"] < 0.3


def test_the_command_shows_tables_and_no_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"prompt": "an xyzzy prompt", "kind": "restricted"}])
    done = CliRunner().invoke(app, ["redteam", "audit", path])
    assert done.exit_code == 0, done.output
    assert "restricted" in done.output and "0.950" in done.output and "xyzzy" not in done.output


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((40, 80), "of all prompts;"),
        ((81,), "of 80 prompts drawn, mean over draws;"),
        ((40, 81), "of 80 prompts drawn, mean over draws, or all of a set that has no more;"),
    ],
)
def test_the_table_says_of_how_many_prompts_it_is(sizes: tuple[int, ...], said: str, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{n}.jsonl", [{"prompt": f"w{i}a w{i}b"} for i in range(n)]) for n in sizes]
    assert f"Diversity ({said}" in render(prompt_tables(audit_prompts(files)))


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no format fits"):
        audit_prompts([write(tmp_path / "x.jsonl", [{"a": 1}])])


@pytest.mark.skipif(not DATA, reason="SACPO_DATA names no folder with real data")
def test_real_prompt_sets() -> None:
    """Counts of the files' README; 83 prompts without a failure leave .035 open."""
    names = ("prompts/saferlhf_redteam_83.json", "xstest/prompts.csv", "do_not_answer/prompts.csv")
    red, xstest, dna = audit_prompts([f"{DATA}/{name}" for name in names])["files"]
    assert (red["prompts"], red["near"]) == (83, 0)
    assert red["kinds"][0]["undetected"] == pytest.approx(0.0355, abs=5e-4)
    assert {row["kind"]: row["prompts"] for row in xstest["kinds"]} == {"borderline": 250, "restricted": 200}
    assert (xstest["name"], dna["name"], dna["prompts"]) == ("xstest/prompts.csv", "do_not_answer/prompts.csv", 939)
