"""`sacpo theory check`: the table, its files, its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sacpo.api import theory_check
from sacpo.cli import app
from sacpo.errors import RecipeError
from sacpo.theory.check import Check


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Check, Path]:
    folder = tmp_path_factory.mktemp("theory") / "out"
    return theory_check(seed=3, instances=12, out=folder), folder


def test_exact_claims_hold_and_theorem_3_does_not(found: tuple[Check, Path]) -> None:
    claims = found[0].claims
    verdicts = {claim.verdict for claim in claims if "," not in claim.name and claim.name not in ("KTO", "IPO")}
    assert verdicts == {"holds"}
    exact = [c for c in claims if c.verdict == "holds" and c.name != "DPO"]
    assert len(exact) == 7
    assert all(c.worst <= 1e-10 for c in exact)
    by_name = {claim.name: claim for claim in claims}
    assert by_name["DPO"].worst < 1e-3 < by_name["KTO"].worst
    assert by_name["KTO"].verdict == by_name["IPO"].verdict == "differs"
    assert by_name["Theorem 3, by hand"].verdict == by_name["Theorem 3, searched"].verdict == "refuted"
    assert by_name["Theorem 3, by hand"].broken == 2
    assert {c.verdict for c in claims if c.name.startswith(("Theorem 2", "repaired"))} == {"not broken"}


def test_files_say_what_the_table_says(found: tuple[Check, Path]) -> None:
    check, folder = found
    written = json.loads((folder / "check.json").read_text())
    assert written == check.to_json()
    assert written["counterexamples"]["by hand"]["printed"] == pytest.approx(0.1)
    assert (folder / "tightness.png").read_bytes().startswith(b"\x89PNG")


def test_the_verb_prints_and_ends_with_0_although_a_bound_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    small = theory_check(seed=3, instances=2)
    monkeypatch.setattr("sacpo.api.theory_check", lambda **_: small)
    done = CliRunner().invoke(app, ["theory", "check"])
    assert done.exit_code == 0
    assert "violation 0.150, bound 0.100" in done.output
    assert "refuted" in done.output
    assert json.loads(CliRunner().invoke(app, ["theory", "check", "--json"]).output) == small.to_json()


@pytest.mark.parametrize(
    ("options", "where"),
    [({"seed": -1}, "--seed"), ({"instances": 0}, "--instances"), ({"instances": 10**9}, "--i")],
)
def test_bad_numbers_are_refused(options: dict[str, int], where: str) -> None:
    with pytest.raises(RecipeError, match=where):
        theory_check(**options)


def test_a_file_is_no_folder_and_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(RecipeError, match="not a folder"):
        theory_check(seed=-1, out=tmp_path / "x")
