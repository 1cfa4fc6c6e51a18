"""What no machine can do or write is refused before anything is done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sacpo.data.sources import read_source, source_key
from sacpo.errors import DataError, RecipeError
from sacpo.recipe import model_graph, parse_recipe
from sacpo.recipe.explain import checked
from sacpo.recipe.schema import BaseSpec, ConstraintSpec, DataSpec, TrainingSpec

STEP = {"criterion": "h", "from": "sft", "beta": 1, "dataset": "p"}


def recipe(**changes: Any) -> dict[str, Any]:
    data = {"p": {"format": "preference", "path": "p.jsonl"}}
    return {"name": "r", "base": {"model": "x"}, "data": data, "steps": [{**STEP, "name": "H"}], **changes}


@pytest.mark.parametrize(
    ("changes", "where", "allowed"),
    [
        ({"training": {"max_steps": 10**15}}, "training.max_steps", "at most 1e\\+08"),
        ({"training": {"num_train_epochs": 1e300}}, "training.num_train_epochs", "at most 1e\\+06"),
        ({"training": {"per_device_train_batch_size": 2**40}}, "per_device_train_batch_size", "at most 1e\\+06"),
        ({"world": {"ordinary": 10**12}}, "world.ordinary", "at most 1e\\+06"),
        ({"evaluate": {"generation": {"max_new_tokens": 10**12}}}, "max_new_tokens", "at most 1e\\+06"),
        ({"name": "r" * 101}, "name", "at most 100 letters"),
        ({"steps": [{**STEP, "name": "H" * 250}]}, "steps.0.name", "at most 100 letters"),
    ],
)
def test_a_number_or_a_name_beyond_any_machine(changes: dict[str, Any], where: str, allowed: str) -> None:
    with pytest.raises(RecipeError, match=allowed) as caught:
        parse_recipe(recipe(**changes))
    assert where in str(caught.value.where)


def test_a_models_name_of_many_sweeps_fits_a_folders_name() -> None:
    first, then = "A" * 60, "B" * 60
    steps = [{**STEP, "name": first, "beta": [0.1, 0.2]}, {**STEP, "name": then, "from": first}]
    with pytest.raises(RecipeError, match="name is too long") as caught:
        model_graph(parse_recipe(recipe(steps=steps)))
    assert caught.value.value == f"{first}@0.1+{then}"
    steps[1]["name"] = "B" * 55
    assert max(map(len, model_graph(parse_recipe(recipe(steps=steps))))) == 120
    assert len(f".old-generate~{'m' * 120}~{'p' * 100}-0123456789ab") <= 255


@pytest.mark.parametrize("text", ["half \ud83d", "a\0b", "\udcff"])
def test_a_text_that_can_be_written_nowhere(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for changes in ({"report": {"title": text}}, {"base": {"config": {"x": [text]}, "tokenizer": "t"}}):
        with pytest.raises(RecipeError, match="written nowhere"):
            parse_recipe(recipe(**changes))


def test_a_variable_of_bytes_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, b"ODD", b"\xff")
    with pytest.raises(RecipeError, match="written nowhere"):
        parse_recipe(recipe(report={"title": "${ODD}"}))


def test_an_option_that_is_said_in_another_way() -> None:
    with pytest.raises(RecipeError, match="'model' is said in another way"):
        checked(BaseSpec, {"model": "x"}, model="y")
    with pytest.raises(RecipeError, match="unknown key 'section'"):
        checked(TrainingSpec, {"section": 1})
    with pytest.raises(RecipeError, match="unknown key 'section'"):
        checked(TrainingSpec, **{"section": 1})  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="'prompts' is said"):
        checked(ConstraintSpec, {"prompts": "x", "metric": "kl", "at_most": 1}, prompts="answers")


def test_a_pipe_a_link_to_itself_and_nobodys_home_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "link.jsonl")
    wanted = {
        str(tmp_path / "pipe.jsonl"): "read to its end",
        str(tmp_path / "link.jsonl"): "no such file",
        "~nobody17/x.jsonl": "no such file",
        "/dev/zero": "read to its end",
    }
    for path, words in wanted.items():
        spec = DataSpec(format="preference", path=path)
        for read in (source_key, lambda spec: read_source(spec, name="p", seed=0)):
            with pytest.raises(DataError, match=words):
                read(spec)


def test_records_that_the_world_does_not_have_are_refused() -> None:
    source = {"format": "world", "split": "pairs", "limit": 4, "as": "pairs"}
    with pytest.raises(RecipeError, match=r"data\.w\.as(?s:.*)prompts, demonstrations"):
        parse_recipe({**recipe(world={}), "data": {**recipe()["data"], "w": source}})
