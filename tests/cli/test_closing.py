"""The last line of `sacpo align`: every figure is one of the training's files."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from sacpo.cli.closing import closing_line, outcome, training_outcome
from sacpo.cli.of_recipe import diagnosed

LOG = [
    {"loss": 0.6931, "rewards/accuracies": 0.0, "step": 1},
    {"loss": 0.5, "rewards/accuracies": 0.75, "step": 20},
]


def test_the_line_says_what_the_files_say(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"steps": 1200, "first_loss": 0.6931, "last_loss": 0.5}))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in LOG))
    line = "1,200 steps, loss 0.6931 to 0.5000, last logged accuracy on training pairs 75.0%"
    assert closing_line(training_outcome(tmp_path)) == line


def test_held_out_pairs_take_the_place_of_those_trained_on(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"steps": 2, "first_loss": 0.7, "last_loss": 0.5}))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in LOG))
    held = tmp_path / "heldout.json"
    held.write_text(json.dumps({"pairs": 40, "accuracy": {"value": 0.625, "ci95": [0.45, 0.78]}}))
    said = closing_line(training_outcome(tmp_path))
    assert said == "2 steps, loss 0.7000 to 0.5000, accuracy on 40 held-out pairs 62.5% (45.0% to 78.0%)"
    held.write_text(json.dumps({"pairs": 40, "accuracy": {"value": 0.6, "ci95": [0.4, 0.8]}, "independent": False}))
    said = closing_line(training_outcome(tmp_path))
    assert said.endswith("60.0% (40.0% to 80.0%), which chose its weights: no independent estimate")
    held.write_text(json.dumps({"pairs": 0, "accuracy": None}))
    assert "no held-out pair is left that is no tie" in closing_line(training_outcome(tmp_path))


def test_nothing_learnt_is_a_loss_that_fell_by_less_than_a_thousandth() -> None:
    """0.001 of a first loss of 0.5 is 0.0005: 0.4996 is not enough below it, 0.4994 is."""
    still = outcome({"steps": 2, "first_loss": 0.5, "last_loss": 0.4996}, LOG)
    assert closing_line(still).endswith(
        "warning: nothing was learnt: the last loss is not 0.1% below the first; "
        "give more steps, a larger learning_rate or a smaller beta"
    )
    assert outcome({"steps": 2, "first_loss": 0.5, "last_loss": 0.4994}, LOG)["warning"] is None
    assert outcome({"steps": 2, "first_loss": 0.5, "last_loss": 0.9}, LOG)["warning"] is not None


def test_a_training_without_accuracies_or_a_second_log_says_so() -> None:
    found = outcome({"steps": 1, "first_loss": 0.5, "last_loss": 0.5}, [{"loss": 0.5, "step": 1}])
    assert "no accuracy was logged" in closing_line(found) and "one step was logged" in closing_line(found)


def test_a_run_ends_with_what_was_diagnosed() -> None:
    def finding(name: str, verdict: str, *models: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, verdict=verdict, models=models)

    found = [finding("nothing learnt", "found", "H", "H-S"), finding("collapse", "not found"), finding("x", "found")]
    assert diagnosed(SimpleNamespace(diagnosis=found)) == "nothing learnt: H, H-S; x"
    assert diagnosed(SimpleNamespace(diagnosis=[finding("collapse", "cannot tell", "H")])) == ""


def test_records_that_were_cut_or_left_out_are_said() -> None:
    records = {"records": 20, "kept": 18, "truncated": 3, "dropped": {"no room for a completion": 2}}
    said = closing_line(outcome({"steps": 2, "first_loss": 0.5, "last_loss": 0.1, "records": records}, LOG))
    assert "; 3 of 20 records cut at max_length; 2 of 20 records left out (no room for a completion)" in said


def test_a_fine_tuning_on_demonstrations_has_no_accuracy() -> None:
    summary = {
        "steps": 2,
        "first_loss": 0.5,
        "last_loss": 0.1,
        "records": {"records": 9, "truncated": 1, "dropped": {}},
    }
    found = outcome(summary, [{"loss": 0.5}, {"loss": 0.1}], preferences=False)
    assert closing_line(found) == "2 steps, loss 0.5000 to 0.1000; 1 of 9 records cut at max_length"
    still = outcome({**summary, "last_loss": 0.5}, [{"loss": 0.5}, {"loss": 0.5}], preferences=False)
    assert closing_line(still).endswith("give more steps or a larger learning_rate")
