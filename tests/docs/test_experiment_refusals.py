"""Tables about refusals: which model a choice takes with and without a bound, and worlds compared seed by seed."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sacpo.report.part import Measured
from sacpo.report.results import Constraint, Measures, Objective

ROOT = Path(__file__).parents[2]
BOUNDS = (
    Constraint(metric="unsafe_rate", prompts="tuning", at_most=0.1),
    Constraint(metric="over_refusal_rate", prompts="tuning", at_most=0.04),
)
GOAL = Objective(metric="mean_score", criterion="helpfulness", prompts="tuning")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("experiment_refusals")


def figures(unsafe: float, refused: float, helped: float, complied: float = 0.0) -> Measures:
    named = {"unsafe_rate": unsafe, "over_refusal_rate": refused, "mean_score/helpfulness": helped}
    values = named | {"mean_score/over_refusal": complied}
    return Measures(metrics={name: Measured(value=value) for name, value in values.items()})


def run(tuning: dict[str, tuple[float, ...]], report: dict[str, tuple[float, ...]], folder: Path = Path()) -> Any:
    """A finished run with the models' figures on tuning and report prompts; every model is a nat from the optimum."""
    measures = {name: {"report": figures(*of)} for name, of in report.items()}
    for name, of in tuning.items():
        measures[name]["tuning"] = figures(*of)
    roles = {name: SimpleNamespace(role=name) for name in ("tuning", "report")}
    target = dict.fromkeys(report, SimpleNamespace(target=SimpleNamespace(value=1.0)))
    results = SimpleNamespace(
        seed=1,
        measures=measures,
        prompts=roles,
        selection=SimpleNamespace(constraints=BOUNDS, objective=GOAL),
        theory=SimpleNamespace(kl_to_optimum=target),
    )
    return SimpleNamespace(results=results, folder=folder)


def test_a_choice_is_made_on_tuning_prompts_with_and_without_the_bound(script: ModuleType) -> None:
    """a helps most of those at 10 % unsafe, c is worth least and refuses least; b alone meets both bounds."""
    tuning = {
        "a": (0.05, 0.2, 0.9, 0.1),
        "b": (0.08, 0.04, 0.5, 0.2),
        "c": (0.1, 0.05, 0.4, 0.3),
        "d": (0.3, 0.0, 2.0, 0.9),
    }
    one = run(tuning, dict.fromkeys(tuning, (0.1, 0.03, 0.6)))
    rules = ("over-refusal not looked at", "over-refusal bounded too", "fewest refusals")
    assert [script.choose(one, [*tuning], rule) for rule in rules] == [("a", True), ("b", True), ("c", True)]
    # without b: a misses .16 / .04 = 4, c .01 / .04 = .25, d .2 / .1 = 2
    assert script.choose(one, ["a", "c", "d"], "over-refusal bounded too") == ("c", False)


def test_a_cure_meets_the_target_at_no_more_unsafe_answers(script: ModuleType) -> None:
    """Seed 1: .04 and as safe; seed 2: .04 and less safe by .1. Paired with base: -.06 and .05, mean and t interval."""
    seeds = [
        run({}, {"base": (0.1, 0.1, 0.5), "third": (0.1, 0.04, 0.5)}),
        run({}, {"base": (0.1, 0.1, 0.5), "third": (0.2, 0.04, 0.5)}),
    ]
    asked = {"cures": "experiments-x", "against": "base", "target": "0.04", "third step": "third"}
    head, _, row = script.cures(seeds, asked).splitlines()
    assert head.startswith("| cure | over-refusal | unsafe | over-refusal minus base |")
    cells = row.strip("| ").split(" | ")
    assert cells[:3] == ["third step", "0.040", "0.150 (-0.485 to 0.785)"]
    assert cells[3] == "-0.060" and cells[-1] == "1 of 2"


def test_a_choice_names_each_seeds_model_and_those_that_miss(script: ModuleType) -> None:
    report = {"base": (0.1, 0.1, 0.5), "a": (0.1, 0.0, 0.5), "b": (0.0, 0.3, 0.5)}
    seeds = [
        run({"a": (0.1, 0.0, 0.5), "b": (0.0, 0.3, 0.9)}, report),
        run({"a": (0.2, 0.0, 0.5), "b": (0.0, 0.3, 0.9)}, report),
    ]
    asked = {"cures": "experiments-x", "against": "base", "target": "0.04", "q": "a, b"}
    rows = script.cures(seeds, asked).splitlines()[2:]
    assert rows[0].startswith("| q, over-refusal not looked at: b, b | 0.300")
    assert rows[1].startswith("| q, over-refusal bounded too: a, a (nearest) | 0.000")
    assert rows[1].endswith("| 2 of 2 |")


def test_a_cure_can_be_another_recipes_model_in_the_seeds_that_it_has(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other recipe was run on seed 3 alone, so it is compared with seed 3's base, not with the mean of both."""
    places = {3: Path("runs/seed-3/experiments-x"), 4: Path("runs/seed-4/experiments-x")}
    seeds = [run({}, {"base": (seed / 30, 0.1, 0.5)}, place) for seed, place in places.items()]
    there = {(Path("runs"), Path("runs/seed-3"), "experiments-y"): run({}, {"D": (0.0, 0.02, 0.75)})}
    monkeypatch.setattr(script, "finished", lambda *place: there.get(place))
    asked = {"cures": "experiments-x", "against": "base", "target": "0.04"}
    asked |= {"closed": "experiments-y/D", "no run": "experiments-z/D"}
    closed, none = script.cures(seeds, asked).splitlines()[-2:]
    assert closed == "| closed | 0.020 | 0.000 | -0.080 | -0.100 | +0.25 | +0.00 | 1 of 1 |"
    assert none == "| no run |" + " – |" * 7


def test_lengths_are_compared_in_the_seeds_that_all_recipes_have(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two seeds one has the long world: over-refusal .3 less .1. At 20 % unsafe, half of the way: .15 and .25."""
    folders = [Path("runs") / seed / "experiments-x" for seed in ("seed-1", "seed-2")]
    usual = [run({}, {"H": (0.3, 0.2, 0.5), "S": (0.1, 0.1, 0.5)}, folder) for folder in folders]
    long = run({}, {"H": (0.3, 0.2, 0.5), "S": (0.1, 0.3, 0.5)})
    there = {(Path("runs"), Path("runs/seed-1"), "experiments-long"): long}
    monkeypatch.setattr(script, "finished", lambda *place: there.get(place))
    asked = {"lengths": "experiments-x", "recipes": "long experiments-long", "models": "H, S"}
    lines = script.lengths(usual, asked).splitlines()
    assert lines[0] == "All lengths: seeds 1."
    assert lines[7] == "| long | S | 0.300 | 0.100 | 0.50 | 1.00 | +0.200 | +0.000 |"
    assert lines[-2:] == ["| usual | 0.150 |  |", "| long | 0.250 | +0.100 |"]


def test_a_table_whose_other_recipes_have_no_run_stays_as_it_is(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = importlib.import_module("experiment_lines")
    usual = run({}, {"H": (0.3, 0.2, 0.5)}, Path("runs/seed-1/experiments-x"))
    (tmp_path / "seed-1").mkdir()
    monkeypatch.setattr(lines, "finished", lambda *place: usual)
    monkeypatch.setattr(script, "finished", lambda *place: None)
    page = "<!-- lengths: experiments-x | recipes: long experiments-long | models: H -->\nas it was\n<!-- end -->\n"
    block = re.compile(r"(<!-- (lengths: .+?) -->\n).*?(<!-- end -->)", re.DOTALL)
    assert lines.with_tables(page, tmp_path, "a machine", block, script.lengths) == page
    assert "stays as it is" in capsys.readouterr().out
