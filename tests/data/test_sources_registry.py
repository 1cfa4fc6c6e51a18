"""The registry of formats: what a recipe knows of one, its module and its records fit together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

import sacpo.data.sources as package
from sacpo.data.sources import read_source
from sacpo.data.sources.convert import KIND_NAMES
from sacpo.data.sources.registry import FORMATS, formats_found
from sacpo.recipe.formats import KIND_OF_FORMAT, FormatName
from sacpo.recipe.schema import DataSpec

PAIR = {"prompt": "Q", "chosen": "yes", "rejected": "no"}
CHAT = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "yes"}]
ROWS: dict[str, dict[str, Any]] = {
    "pku-safe-rlhf": PAIR,
    "hh-rlhf": {"chosen": "\n\nHuman: Q\n\nAssistant: yes", "rejected": "\n\nHuman: Q\n\nAssistant: no"},
    "ultrafeedback": {**PAIR, "score_chosen": 8, "score_rejected": 2},
    "preference": PAIR,
    "unpaired": {"prompt": "Q", "completion": "yes", "label": True},
    "demonstrations": {"prompt": "Q", "completion": "yes"},
    "prompts": {"prompt": "Q"},
    "sharegpt": {"conversations": CHAT},
    "alpaca": {"instruction": "Q", "output": "yes"},
    "pandalm": {"instruction": "Q", "response1": "a", "response2": "b", **{f"annotator{i}": 1 for i in (1, 2, 3)}},
    "xstest": {"prompt": "Q", "type": "homonyms", "label": "safe"},
}


def source(folder: Path, name: str, row: dict[str, Any]) -> DataSpec:
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return DataSpec(format=name, path=str(path))


def test_every_format_is_in_a_module_and_in_the_recipes_table() -> None:
    """A module without its line, and a line without its module, are forgotten registrations."""
    found = formats_found()
    assert {*found, "world"} == set(KIND_OF_FORMAT) == set(get_args(FormatName))
    assert {name: form.kind for name, form in found.items()} == {name: KIND_OF_FORMAT[name] for name in FORMATS}
    assert found == FORMATS


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_formats_records_are_of_the_kind_that_the_recipe_expects(name: str, tmp_path: Path) -> None:
    spec = source(tmp_path, name, ROWS[name])
    (record,) = read_source(spec, name="src", seed=0).records
    assert spec.holds in (KIND_NAMES[type(record)], None)


def test_only_sharegpt_leaves_its_kind_to_its_rows(tmp_path: Path) -> None:
    assert [name for name, kind in KIND_OF_FORMAT.items() if kind is None] == ["sharegpt"]
    kinds = set()
    for more in ({}, {"label": True}):
        spec = source(tmp_path, "sharegpt", {"conversations": CHAT, **more})
        kinds |= {type(record).__name__ for record in read_source(spec, name="src", seed=0).records}
    assert kinds == {"Demonstration", "Labelled"}


def test_a_format_without_a_kind_does_not_count_as_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(KIND_OF_FORMAT, "xstest")
    with pytest.raises(KeyError, match="xstest"):
        _ = DataSpec(format="xstest", path="rows.jsonl").holds
    assert DataSpec(format="xstest", path="rows.jsonl", as_="prompts").holds == "prompts"


def test_a_forgotten_line_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from sacpo.data.sources.format import Format\nFORMATS = {'mine': Format('pairs', print, ('a',))}\n"
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert set(formats_found()) - set(KIND_OF_FORMAT) == {"mine"}
