"""A miniature of every experiment runs to its end, shows what it is about, and fills the tables of the pages."""

from __future__ import annotations

import importlib
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from miniatures import RECIPES, ROOT, lacking, run_miniature

from sacpo.recipe import Recipe, model_graph
from sacpo.recipe.models import StepModel
from sacpo.recipe.schema import SampledSpec, StepSpec
from sacpo.report.results import ModelInfo, Results, parse_results

BLOCK = r"<!-- (\w+: .+?) -->\n(.*?)<!-- end -->"
SCRIPTS = ("write_experiments", "write_experiment_answers", "write_experiment_text")
SCORE = "mean_score/helpfulness"
Of = Callable[[Path], tuple[Recipe, Results]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs, as `make experiments` leaves it for one seed."""
    return tmp_path_factory.mktemp("miniatures")


@pytest.fixture(scope="module")
def of(runs: Path, undrawn: None) -> Of:
    """Give a recipe's miniature and its results; it is run once."""
    done: dict[Path, tuple[Recipe, Results]] = {}

    def found(path: Path) -> tuple[Recipe, Results]:
        if missing := lacking(path):
            pytest.skip(missing)
        if path not in done:
            recipe, run = run_miniature(path, runs / "seed-1")
            done[path] = recipe, parse_results(run.results)
        return done[path]

    return found


each = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


@each
def test_every_model_is_measured(path: Path, of: Of) -> None:
    """And is a model of its own: its distance from the optimum is not another's."""
    recipe, results = of(path)
    duals = {step.name: f"{step.name}-{step.dual.trainings}" for step in recipe.steps if step.dual}
    asked = {duals.get(name, name) for name in recipe.evaluate.models or model_graph(recipe)}
    assert {*results.measures} == asked
    sizes = {name: spec.limit for name, spec in recipe.prompts.items()}
    oracles = [f"mean_score/{name}" for name in ("helpfulness", "harmlessness") if name in recipe.evaluate.judges]
    for model, sets in results.measures.items():
        for name, size in sizes.items():
            assert results.prompts[name].n == size
            assert all(sets[name].metrics[key].n == size for key in oracles)
            assert model == "sft" or recipe.prompts[name].role != "report" or sets[name].metrics["kl"].value != 0
    if recipe.theory is not None:
        assert results.theory is not None
        distances = {model: one.target.value for model, one in results.theory.kl_to_optimum.items() if one.target}
        assert {*distances} == asked
        assert all(value is not None and math.isfinite(value) for value in distances.values())
        assert len({*distances.values()}) == len(asked)


@each
def test_what_a_recipe_is_about_shows(path: Path, of: Of) -> None:
    recipe, results = of(path)
    for step in recipe.steps:
        models = members(recipe, results, step)
        assert all(info.algorithm == step.algorithm for info in models.values())
        for name, info in models.items():
            trained_as_asked(step, name, info, results)
        if step.rounds > 1:
            assert [info.round for info in models.values()] == [*range(1, step.rounds + 1)]
            assert len({info.sampled for info in models.values()}) == step.rounds  # each has pairs of its own
            assert len({info.parents for info in models.values()}) == 1
        if step.dual is not None:
            weights = [dict(info.strengths)[step.dual.judge] for info in models.values()]
            assert len(weights) == step.dual.trainings
            assert weights[1] < weights[0]  # a larger lambda: beta / lambda falls, as the gain is not reached
    for merge in recipe.merge:
        pairs = results.fidelity.get(merge.name, {})
        assert bool(pairs) == merge.fidelity
        assert all(one.kl.value is not None and math.isfinite(one.kl.value) for one in pairs.values())


def members(recipe: Recipe, results: Results, step: StepSpec) -> dict[str, ModelInfo]:
    """Return the models that a step gave: one for each strength, round, or training of a search."""
    if step.dual is not None:
        names = [f"{step.name}-{i + 1}" for i in range(step.dual.trainings)]
    else:
        nodes = model_graph(recipe).items()
        names = [name for name, node in nodes if isinstance(node, StepModel) and node.step == step]
    assert names
    return {name: results.models[name] for name in names}


def trained_as_asked(step: StepSpec, name: str, info: ModelInfo, results: Results) -> None:
    """Check what the results say of one model's training against its step."""
    training = info.training or {}
    if "max_steps" in step.training.model_fields_set:
        assert training["steps"] == step.training.max_steps
    if step.algorithm == "kto":
        assert info.curve and all(math.isfinite(row["kl"]) for row in info.curve)
    if step.resample is not None and results.theory is not None:
        weighed = step.resample.draw != "best" and {*step.resample.sample_from} <= {"sft"}
        assert (name in results.theory.support) == weighed
        assert not weighed or results.theory.support[name].samples == step.resample.samples
    if isinstance(step.dataset, SampledSpec):
        assert {*(step.dataset.offset or {})} <= dict(info.strengths).keys()


@pytest.fixture(scope="module")
def pages(of: Of, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The pages as the scripts write them from the miniatures."""
    for path in RECIPES:
        if lacking(path) is None:
            of(path)
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        first, *others = (importlib.import_module(name) for name in SCRIPTS)
        copies = tuple(Path(shutil.copy(page, folder)) for page in first.PAGES)
        patch.setattr(first, "PAGES", copies)
        patch.setattr(importlib.import_module("experiment_lines"), "FIGURES", folder)
        patch.setattr(sys, "argv", [SCRIPTS[0], str(runs), "a machine"])
        first.main()
        for script in others:
            patch.setattr(script, "PAGE", copies[0])
            patch.setattr(sys, "argv", [script.__name__, str(runs), "a machine"])
            script.main()
        assert {"distance.png", "front.png"} <= {file.name for file in folder.iterdir()}
        yield {copy.name: copy.read_text(encoding="utf-8") for copy in copies}


def blocks(pages: dict[str, str]) -> list[tuple[dict[str, str], str]]:
    """Return what every generated block asks for, and what it shows."""
    found = [block for text in pages.values() for block in re.findall(BLOCK, text, re.DOTALL)]
    return [(dict(part.split(": ", 1) for part in asked.split(" | ")), shown) for asked, shown in found]


def tables(text: str) -> list[list[dict[str, str]]]:
    """Return the rows of each table, by the titles of its columns; the first column's is empty."""
    found = []
    for part in text.split("\n\n"):
        titles, *rows = [
            [cell.strip() for cell in line[1:-1].split("|")] for line in part.splitlines() if line[:1] == "|"
        ] or [[]]
        found.append([dict(zip(["", *titles[1:]], row, strict=True)) for row in rows[1:]])
    return [rows for rows in found if rows]


def absent(asked: dict[str, str]) -> bool:
    """Tell whether a block is of a recipe whose data are not here."""
    name = next(iter(asked.values()))
    return any(lacking(path) for path in RECIPES if name == f"experiments-{path.stem}")


def test_every_table_is_of_the_miniatures_and_no_row_is_empty(pages: dict[str, str]) -> None:
    shown = [(asked, text) for asked, text in blocks(pages) if not absent(asked)]
    assert len(shown) > 15
    for asked, text in shown:
        assert "on a machine" in text and text.startswith("Seeds 1; "), asked
        rows = [row for table in tables(text) for row in table]
        assert len(rows) > 1, asked
        assert all(figures_in(row) or found_at_a_bound(row) for row in rows), asked


def figures_in(row: dict[str, str]) -> list[str]:
    return [cell for title, cell in row.items() if title and cell not in ("", "–")]


def found_at_a_bound(row: dict[str, str]) -> bool:
    """Tell whether a row has nothing but figures at a bound that models must come down to, such as 20% unsafe."""
    return all(" at " in title or title.startswith("minus") for title in row if title)


def test_tables_show_what_the_results_say(pages: dict[str, str], of: Of) -> None:
    """r* and D of every model, its number of updates, a merge's win rate, and what lies between two orders in r*."""
    checked = dict.fromkeys(("table", "reach", "merges", "orders"), 0)
    for asked, text in blocks(pages):
        kind, name = next(iter(asked.items()))
        if kind not in checked or absent(asked):
            continue
        (results,) = (of(path)[1] for path in RECIPES if name == f"experiments-{path.stem}")
        for row in tables(text)[0]:
            if kind == "orders":
                second, first = row[""].split(" minus ")
                lead = figure(results, second, SCORE) - figure(results, first, SCORE)
                assert row["r*"].startswith(f"{lead:+.2f}, p ")
            elif (model := row[""]) not in results.measures:
                continue
            elif kind == "merges":
                assert row["helpful win"] == f"{figure(results, model, 'win_rate/helpfulness'):.2f}"
            elif kind == "reach":
                assert row["updates"] == str((results.models[model].training or {})["steps"])
            else:
                distance = results.theory and results.theory.kl_to_optimum[model].target
                assert distance is not None and row["D"] == f"{distance.value:.2f}"
                assert row["r*"] == f"{figure(results, model, SCORE):.2f}"
            checked[kind] += 1
    assert min(checked.values()) > 3 and checked["table"] > 100


def figure(results: Results, model: str, name: str) -> float:
    """Return a metric on report prompts."""
    value = results.measures[model]["report"].metrics[name].value
    assert value is not None
    return value
