"""Using sources: conversions, limits, content keys, hub data sets, and modules that load no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import constants

from sacpo.data.records import Demonstration, Labelled, Prompt
from sacpo.data.sources import read_source, source_key
from sacpo.data.sources.hub import hub_commit, hub_path
from sacpo.errors import DataError
from sacpo.recipe.schema import DataSpec, SourceSpec

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAIRS = [
    {"prompt": "Q1", "chosen": "A", "rejected": "B", "p": 0.75},
    {"prompt": "Q2", "chosen": "C", "rejected": "D", "p": 0.25},
    {"prompt": "Q1", "chosen": "E", "rejected": "F", "p": 0.5},
]


def write(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def numbered(n: int) -> list[dict[str, Any]]:
    return [{"prompt": f"Q{i}", "chosen": "A", "rejected": "B"} for i in range(n)]


def test_pairs_as_unpaired_take_the_probable_answer_as_desirable(tmp_path: Path) -> None:
    """p = .25 means that the second answer is preferred; p = .5 prefers none."""
    spec = SourceSpec(format="preference", path=write(tmp_path, PAIRS))
    result = read_source(spec, name="x", seed=0, as_="unpaired")
    found = [(r.prompt.text, r.completion, r.label) for r in result.records if isinstance(r, Labelled)]
    assert found == [("Q1", "A", True), ("Q1", "B", False), ("Q2", "D", True), ("Q2", "C", False)]
    assert result.dropped == {"tie: neither answer is preferred": 1}


def test_pairs_as_demonstrations_and_as_prompts(tmp_path: Path) -> None:
    path = write(tmp_path, PAIRS)
    demonstrations = read_source(DataSpec(format="preference", path=path, **{"as": "demonstrations"}), name="x", seed=0)
    assert [(r.prompt.text, r.completion) for r in demonstrations.records if isinstance(r, Demonstration)] == [
        ("Q1", "A"),
        ("Q2", "D"),
    ]
    prompts = read_source(SourceSpec(format="preference", path=path), name="x", seed=0, as_="prompts")
    assert prompts.records == [Prompt.from_text("Q1"), Prompt.from_text("Q2")]
    assert prompts.dropped == {"duplicate prompt": 1}


def test_only_desirable_answers_become_demonstrations(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "completion": text, "label": label} for text, label in (("A", True), ("B", False))]
    spec = SourceSpec(format="unpaired", path=write(tmp_path, rows))
    result = read_source(spec, name="x", seed=0, as_="demonstrations")
    assert [r.completion for r in result.records if isinstance(r, Demonstration)] == ["A"]
    assert result.dropped == {"undesirable answer": 1}


@pytest.mark.parametrize(
    ("format", "row", "as_", "allowed"),
    [
        ("prompts", {"prompt": "Q"}, "pairs", "allowed: prompts\n"),
        ("demonstrations", {"prompt": "Q", "completion": "A"}, "unpaired", "allowed: demonstrations, prompts\n"),
        ("unpaired", {"prompt": "Q", "completion": "A", "label": 1}, "pairs", "unpaired, demonstrations, prompts\n"),
    ],
)
def test_a_wrong_kind_says_what_the_source_can_be_used_as(
    tmp_path: Path, format: str, row: dict[str, Any], as_: str, allowed: str
) -> None:
    spec = SourceSpec(format=format, path=write(tmp_path, [row]))
    with pytest.raises(DataError) as caught:
        read_source(spec, name="x", seed=0, as_=as_)
    assert allowed in str(caught.value) and f"as: {as_}" in str(caught.value)


def test_mixed_kinds_are_refused(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    path = write(tmp_path, [{"messages": chat}, {"messages": chat, "label": True}])
    with pytest.raises(DataError, match="mixes demonstrations with unpaired"):
        read_source(SourceSpec(format="sharegpt", path=path), name="x", seed=0)


def test_a_limit_draws_by_seed_and_name_and_smaller_limits_are_nested(tmp_path: Path) -> None:
    path = write(tmp_path, numbered(200))

    def drawn(limit: int, seed: int = 0, name: str = "x") -> list[int]:
        spec = SourceSpec(format="preference", path=path, limit=limit)
        records = read_source(spec, name=name, seed=seed, as_="prompts").records
        return [int(r.text[1:]) for r in records if isinstance(r, Prompt)]

    assert drawn(50) == drawn(50) and len(drawn(50)) == 50
    assert drawn(50) == sorted(drawn(50)) != list(range(50))
    assert set(drawn(20)) < set(drawn(50))
    assert drawn(50, seed=1) != drawn(50) != drawn(50, name="y")
    assert drawn(1000) == list(range(200))


def test_the_key_follows_content_and_options_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first, copy = write(tmp_path, PAIRS), write(tmp_path / "a", PAIRS)
    key = source_key(SourceSpec(format="preference", path=first))
    assert len(key) == 64
    assert source_key(SourceSpec(format="preference", path=copy)) == key
    others = [
        SourceSpec(format="preference", path=write(tmp_path / "a", PAIRS[:2])),
        SourceSpec(format="preference", path=write(tmp_path, PAIRS, "other.jsonl")),
        SourceSpec(format="preference", path=first, limit=2),
        SourceSpec(format="ultrafeedback", path=first),
        SourceSpec(format="preference", path=(first, first)),
    ]
    assert len({key, *map(source_key, others)}) == 6
    with pytest.raises(DataError, match="no such file"):
        source_key(SourceSpec(format="preference", path=str(tmp_path / "none.jsonl")))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("name", ("name", None, None)),
        ("owner/name", ("owner/name", None, None)),
        ("owner/name/harmless-base", ("owner/name", "harmless-base", None)),
        ("owner/name/a/b:config", ("owner/name", "a/b", "config")),
        ("owner/name:config", ("owner/name", None, "config")),
    ],
)
def test_hub_paths(text: str, parts: tuple[str, str | None, str | None]) -> None:
    assert hub_path(text) == parts


def test_what_is_neither_file_nor_hub_id_is_refused() -> None:
    with pytest.raises(DataError, match="neither a local file nor a hub id"):
        read_source(SourceSpec(format="preference", path="owner/name?x"), name="x", seed=0)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub whose data sets hold these rows; the calls are recorded. Its cache knows the commit of owner/name."""
    refs = tmp_path / "datasets--owner--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    state: dict[str, Any] = {"rows": numbered(3), "calls": []}

    def load(path: str, **options: Any) -> list[dict[str, Any]]:
        state["calls"].append((path, options))
        if options["split"] != "train":
            raise ValueError("Unknown split \"none\". Should be one of ['train'].")
        return list(state["rows"])

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets, "load_dataset", load)
    return state


def test_hub_data_are_read_at_the_cached_commit(hub: dict[str, Any]) -> None:
    spec = SourceSpec(format="preference", path="owner/name/folder:config")
    result = read_source(spec, name="x", seed=0)
    assert [r.source for r in result.records] == ["x:1", "x:2", "x:3"]
    options = {"name": "config", "data_dir": "folder", "revision": COMMIT, "split": "train"}
    assert hub["calls"] == [("owner/name", options)]


def test_empty_texts_of_hub_data_are_left_out_and_counted(hub: dict[str, Any]) -> None:
    hub["rows"] += [
        {"prompt": "Q", "chosen": " ", "rejected": "B"},
        {"prompt": "Q", "chosen": "\ud800", "rejected": "B"},
    ]
    result = read_source(SourceSpec(format="preference", path="owner/name"), name="x", seed=0)
    assert len(result.records) == 3
    assert result.dropped == {"empty text": 1, "text that is not valid Unicode": 1}


def test_hub_errors_pass_the_librarys_message_on(hub: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"Should be one of \['train'\]"):
        read_source(SourceSpec(format="preference", path="owner/name", split="none"), name="x", seed=0)
    hub["rows"] = [{"prompt": "Q", "chosen": "A"}]
    with pytest.raises(DataError, match=r"no column 'rejected'[\s\S]*owner/name, row 1"):
        read_source(SourceSpec(format="preference", path="owner/name"), name="x", seed=0)
    hub["rows"] = []
    with pytest.raises(DataError, match="the split holds no row"):
        read_source(SourceSpec(format="preference", path="owner/name"), name="x", seed=0)


def test_commits_and_hub_keys(hub: dict[str, Any], tmp_path: Path) -> None:
    assert hub_commit("owner/name", None) == COMMIT
    assert hub_commit("owner/name", "f" * 40) == "f" * 40
    assert hub_commit("owner/other", None) == ""
    spec = SourceSpec(format="preference", path="owner/name")
    before = source_key(spec)
    (tmp_path / "datasets--owner--name" / "refs" / "main").write_text("f" * 40)
    assert source_key(spec) != before
    assert hub["calls"] == []


def test_the_data_modules_load_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path, PAIRS)
    code = (
        "import sys, sacpo.data.prepare, sacpo.data.report, sacpo.data.splits\n"
        "from sacpo.data.sources import read_source, source_key\n"
        "from sacpo.recipe.schema import SourceSpec\n"
        f"spec = SourceSpec(format='preference', path={path!r})\n"
        "source_key(spec); read_source(spec, name='x', seed=0)\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
