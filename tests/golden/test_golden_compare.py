"""The comparison of golden results sees the smallest change, and says where it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from golden_compare import ROUNDING, SAMPLED, compared, differences, exact, far
from golden_digest import Masks, folder_digest
from golden_machine import environment, machine, versions
from golden_work import compact
from safetensors.torch import save_file

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("golden", "found", "told"),
    [
        ({"a": [1, {"b": 0.1}]}, {"a": [1, {"b": 0.1}]}, []),
        ({"a": [1, {"b": 0.1}]}, {"a": [1, {"b": 0.10000000000000002}]}, ["/a/1/b: 0.1 became 0.10000000000000002"]),
        ({"a": 1}, {"a": 1.0}, ["/a: 1 became 1.0"]),
        ({"a": 0.0}, {"a": -0.0}, ["/a: 0.0 became -0.0"]),
        ({"a": [1, 2]}, {"a": [1]}, ["/a: [1, 2] became [1]"]),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, [": gone ['b'], new ['c']"]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, [": another order of names"]),
    ],
)
def test_differences_name_the_place(golden: object, found: object, told: list[str]) -> None:
    assert [*differences(golden, found)] == told


def test_rounding_is_allowed_on_another_cpu_and_nothing_else() -> None:
    golden = {"value": 0.5, "n": 3, "sha256": "a" * 64, "chosen": "H"}
    assert [*far(golden, {**golden, "value": 0.50001, "sha256": "b" * 64})] == []
    assert [*far(golden, {**golden, "value": 0.51})] == ["/value: 0.5 became 0.51"]
    assert [*far(golden, {**golden, "n": 4})] == ["/n: 3 became 4"]
    assert [*far(golden, {**golden, "chosen": "K"})] == ["/chosen: 'H' became 'K'"]


def test_what_counts_on_which_machine() -> None:
    """Other bits count on the same CPU; elsewhere numbers beyond rounding and exact files, unless tokens differ."""
    files = {"data/a/train.jsonl": "1", "generate/answers.jsonl": "2", "sft/summary.json": "a" * 64}
    golden = {"files": files, "results": {"loss": 0.5}}
    rounded = {"files": {**files, "sft/summary.json": "b" * 64}, "results": {"loss": 0.5000001}}
    wrong = {"files": files, "results": {"loss": 0.6}}
    sampled = {"files": {**files, "generate/answers.jsonl": "3"}, "results": {"loss": 0.6}}
    prepared = {"files": {**files, "data/a/train.jsonl": "4", "generate/answers.jsonl": "3"}, "results": {"loss": 0.6}}
    assert compared(golden, golden, False) == ([], "")
    assert len(compared(golden, rounded, True)[0]) == 2
    assert compared(golden, rounded, False) == ([], ROUNDING)
    assert compared(golden, wrong, False) == (["/results/loss: 0.5 became 0.6"], ROUNDING)
    assert compared(golden, sampled, False) == ([], SAMPLED)
    assert compared(golden, prepared, False) == (["/files/data/a/train.jsonl: '1' became '4'"], SAMPLED)


def test_one_bit_of_one_weight_or_character_moves_a_digest(tmp_path: Path) -> None:
    weights = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([3.0])}
    texts = Masks({"/somewhere": "<folder>"})
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "said.json").write_text("/somewhere/else 1")
    first = folder_digest(tmp_path, texts)
    save_file({"a": weights["a"], "b": weights["b"]}, tmp_path / "model.safetensors")  # another order, no metadata
    (tmp_path / "said.json").write_text("<folder>/else 1")
    assert folder_digest(tmp_path, texts) == first
    save_file({**weights, "b": torch.tensor([1.0, 2.0000002])}, tmp_path / "model.safetensors")
    (tmp_path / "said.json").write_text("<folder>/else 2")
    second = folder_digest(tmp_path, texts)
    assert second["model.safetensors"]["sha256"] != first["model.safetensors"]["sha256"]
    assert second["said.json"] != first["said.json"]


def test_the_exact_files_are_those_without_floating_point() -> None:
    names = ["data/pairs/train.jsonl", "align/H/model/tokenizer.json", "align/H/model/model.safetensors", "pairs.jsonl"]
    assert [*exact(dict.fromkeys(names))] == [names[0], names[1], names[3]]


def test_the_golden_files_are_small_and_complete() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in HERE.glob("golden_*.json")}
    assert {*files} == {f"golden_{name}.json" for name in ("full", "lora", "machine", "verbs")}
    assert sum(map(len, files.values())) < 300_000
    for name in ("full", "lora", "verbs"):
        found = json.loads(files[f"golden_{name}.json"])
        assert compact(found) + "\n" == files[f"golden_{name}.json"]
        assert exact(found["files"])
    assert json.loads(files["golden_machine.json"]).keys() == {"versions", "machine"}
    assert versions().keys() == json.loads(files["golden_machine.json"])["versions"].keys()
    assert machine().keys() == json.loads(files["golden_machine.json"])["machine"].keys()


def test_the_work_is_given_this_package_and_no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("SACPO_ANYTHING", "1")
    found = environment()
    assert found["OMP_NUM_THREADS"] == "1"
    assert "SACPO_ANYTHING" not in found
    assert (Path(found["PYTHONPATH"]) / "sacpo" / "__init__.py").is_file()
