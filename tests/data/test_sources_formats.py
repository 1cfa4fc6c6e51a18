"""Every format's records, from small files written here and from the published files."""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sacpo.data.records import Demonstration, Kind, Labelled, Message, Pair, Prompt
from sacpo.data.sources import ReadResult, read_source
from sacpo.recipe.schema import SourceSpec

PKU = {
    "prompt": "Q",
    "response_0": "zero",
    "response_1": "one",
    "better_response_id": 0,
    "safer_response_id": 1,
    "is_response_0_safe": False,
    "is_response_1_safe": True,
}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def read(folder: Path, rows: list[dict[str, Any]], format: str, as_: str | None = None, **fields: Any) -> ReadResult:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_source(SourceSpec(format=format, path=str(path), **fields), name="src", seed=0, as_=as_)


def one(folder: Path, row: dict[str, Any], format: str, as_: str | None = None, **fields: Any) -> Any:
    result = read(folder, [row], format, as_, **fields)
    assert len(result.records) == 1 and result.dropped == {}
    return result.records[0]


def test_pku_labels_choose_the_pair_direction(tmp_path: Path) -> None:
    better = one(tmp_path, PKU, "pku-safe-rlhf", label="better")
    safer = one(tmp_path, PKU, "pku-safe-rlhf", label="safer")
    assert (better.chosen, better.rejected, better.criterion) == ("zero", "one", "helpfulness")
    assert (safer.chosen, safer.rejected, safer.criterion) == ("one", "zero", "harmlessness")
    assert better.prompt == safer.prompt == Prompt.from_text("Q")
    assert better.source == "src:rows.jsonl:1"


def test_pku_unpaired_labels_are_the_safety_flags_and_not_the_pair(tmp_path: Path) -> None:
    """Both answers unsafe: unpaired data say so, while the pair still prefers one of them."""
    row = {**PKU, "is_response_1_safe": False}
    for label in (None, "safer"):
        records = read(tmp_path, [row], "pku-safe-rlhf", "unpaired", label=label).records
        assert [(r.completion, r.label) for r in records] == [("zero", False), ("one", False)]
    better = read(tmp_path, [row], "pku-safe-rlhf", "unpaired", label="better").records
    assert [(r.completion, r.label, r.criterion) for r in better] == [
        ("zero", True, "helpfulness"),
        ("one", False, "helpfulness"),
    ]


def test_pku_reshaped(tmp_path: Path) -> None:
    row = {"prompt": "Q", "chosen": "safe", "rejected": "unsafe"}
    pair = one(tmp_path, row, "pku-safe-rlhf")
    assert (pair.chosen, pair.rejected, pair.criterion) == ("safe", "unsafe", "harmlessness")
    unpaired = read(tmp_path, [row], "pku-safe-rlhf", "unpaired").records
    assert [(r.completion, r.label) for r in unpaired] == [("safe", True), ("unsafe", False)]


def test_hh_splits_turns_and_shares_the_prompt(tmp_path: Path) -> None:
    before = "\n\nHuman: one\n\nAssistant: two\nlines\n\nHuman: three"
    row = {"chosen": before + "\n\nAssistant: good ", "rejected": before + "\n\nAssistant: bad"}
    pair = one(tmp_path, row, "hh-rlhf")
    assert pair.prompt.messages == (
        Message("user", "one"),
        Message("assistant", "two\nlines"),
        Message("user", "three"),
    )
    assert (pair.chosen, pair.rejected) == ("good", "bad")


@pytest.mark.parametrize(
    ("chosen", "rejected", "usable"),
    [
        ("HaAbHcAd", "HaAbHcAe", True),
        ("HaAbHcAd", "HaAbHxAd", False),  # the last questions differ
        ("HaAb", "HxAb", False),  # nothing is shared
        ("HaAbHcAd", "HaAb", False),  # one dialogue goes on after the other's end
        ("HaAbAc", "HaAb", False),  # two answers after the shared prompt
        ("HaAb", "HaAb", True),  # equal answers: `prepare` counts these
        ("HaAbAcHdAe", "HaAbAcHdAf", True),  # two turns of one speaker inside the prompt
        ("HaA", "HaAb", True),  # an empty answer is one that people compared
    ],
)
def test_hh_uses_pairs_that_share_everything_but_the_last_answer(
    tmp_path: Path, chosen: str, rejected: str, usable: bool
) -> None:
    def dialogue(turns: str) -> str:
        return turns.replace("H", "\n\nHuman: ").replace("A", "\n\nAssistant: ")

    good = {"chosen": dialogue("HkAl"), "rejected": dialogue("HkAm")}
    result = read(tmp_path, [good, {"chosen": dialogue(chosen), "rejected": dialogue(rejected)}], "hh-rlhf")
    assert len(result.records) == 1 + usable
    assert result.dropped == ({} if usable else {"the two dialogues do not share their prompt": 1})
    if usable:
        roles = [m.role for m in result.records[1].prompt.messages]
        assert all(one != other for one, other in itertools.pairwise(roles))


@pytest.mark.parametrize(("scores", "p"), [((8, 3), 1.0), ((5, 5), 0.5), ((3, 8), None), ((None, None), 1.0)])
def test_ultrafeedback_scores_make_ties_and_drop_contradictions(
    tmp_path: Path, scores: tuple[int | None, int | None], p: float | None
) -> None:
    row = {
        "prompt": "Q",
        "chosen": [user("Q"), assistant("A")],
        "rejected": [user("Q"), assistant("B")],
        "score_chosen": scores[0],
        "score_rejected": scores[1],
    }
    sure = {**row, "score_chosen": 9, "score_rejected": 1}
    result = read(tmp_path, [sure, row], "ultrafeedback")
    assert [pair.p for pair in result.records[1:]] == ([] if p is None else [p])
    assert result.dropped == ({"score_chosen is below score_rejected": 1} if p is None else {})
    assert result.records[0].prompt == Prompt.from_text("Q") and result.records[0].chosen == "A"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"prompt": [user("Q")], "chosen": [assistant("A")], "rejected": [assistant("B")]},
        {"prompt": "Q", "chosen": assistant("A"), "rejected": assistant("B")},
        {"chosen": [user("Q"), assistant("A")], "rejected": [user("Q"), assistant("B")]},
        {"prompt": "Q", "chosen": [user("Q"), assistant("A")], "rejected": [user("Q"), assistant("B")]},
        {"prompt": "Q", "chosen": "A", "rejected": "B", "p": None, "criterion": None},
        {"prompt": "Q", "chosen": "A", "rejected": "B", "p": ""},
    ],
)
def test_preference_in_every_spelling_is_the_same_pair(tmp_path: Path, row: dict[str, Any]) -> None:
    assert one(tmp_path, row, "preference") == Pair(Prompt.from_text("Q"), "A", "B", 1.0, "src:rows.jsonl:1")


def test_preference_with_probability_and_system_message(tmp_path: Path) -> None:
    system = {"role": "system", "content": "S"}
    row = {"prompt": [system, user("Q")], "chosen": "A", "rejected": "B", "p": 0.25, "criterion": "helpfulness"}
    moved = one(tmp_path, {**row, "offset": "-1.5"}, "preference")
    assert moved == replace(one(tmp_path, row, "preference"), offset=-1.5)
    pair = one(tmp_path, row, "preference", kind="restricted")
    assert (pair.p, pair.criterion, pair.prompt.kind) == (0.25, "helpfulness", Kind.RESTRICTED)
    assert [m.role for m in pair.prompt.messages] == ["system", "user"]


def test_implicit_prompts_that_differ_are_dropped(tmp_path: Path) -> None:
    good = {"chosen": [user("Q"), assistant("A")], "rejected": [user("Q"), assistant("B")]}
    bad = {"chosen": [user("Q"), assistant("A")], "rejected": [user("R"), assistant("B")]}
    result = read(tmp_path, [good, bad], "preference")
    assert len(result.records) == 1 and result.dropped == {"the two dialogues do not share their prompt": 1}


@pytest.mark.parametrize(("label", "expected"), [(True, True), (False, False), (1, True), (0, False)])
def test_unpaired(tmp_path: Path, label: Any, expected: bool) -> None:
    for row in (
        {"prompt": "Q", "completion": "A", "label": label},
        {"prompt": [user("Q")], "completion": [assistant("A")], "label": label},
    ):
        record = one(tmp_path, row, "unpaired")
        assert record == Labelled(Prompt.from_text("Q"), "A", expected, "src:rows.jsonl:1")


@pytest.mark.parametrize(
    ("format", "row", "turns"),
    [
        ("demonstrations", {"prompt": "Q", "completion": "A"}, "Q"),
        ("demonstrations", {"messages": [user("Q"), assistant("A")]}, "Q"),
        ("demonstrations", {"messages": [user("P"), assistant("O"), user("Q"), assistant("A")]}, "POQ"),
        ("alpaca", {"instruction": "Q", "input": "", "output": "A"}, "Q"),
        ("alpaca", {"instruction": "Q", "output": "A", "history": [["P", "O"]]}, "POQ"),
        ("alpaca", {"instruction": "Q", "output": "A", "system": "S"}, "SQ"),
        ("sharegpt", {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, "Q"),
        ("sharegpt", {"messages": [user("Q"), assistant("A")], "system": "S"}, "SQ"),
    ],
)
def test_demonstrations(tmp_path: Path, format: str, row: dict[str, Any], turns: str) -> None:
    record = one(tmp_path, row, format)
    assert isinstance(record, Demonstration) and record.completion == "A"
    assert "".join(m.content for m in record.prompt.messages) == turns
    assert record.prompt.messages[-1] == Message("user", "Q")


def test_alpaca_input_stands_below_the_instruction(tmp_path: Path) -> None:
    assert one(tmp_path, {"instruction": "Q", "input": "I", "output": "A"}, "alpaca").prompt.text == "Q\nI"
    assert one(tmp_path, {"instruction": " ", "input": "I", "output": "A"}, "alpaca").prompt.text == "I"


def test_sharegpt_pairs_and_unpaired(tmp_path: Path) -> None:
    chat = [{"from": "system", "value": ""}, {"from": "human", "value": "Q"}]
    row = {"conversations": chat, "chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}}
    assert one(tmp_path, row, "sharegpt") == Pair(Prompt.from_text("Q"), "A", "B", 1.0, "src:rows.jsonl:1")
    kto = {"messages": [user("Q"), assistant("A")], "label": False}
    assert one(tmp_path, kto, "sharegpt") == Labelled(Prompt.from_text("Q"), "A", False, "src:rows.jsonl:1")


@pytest.mark.parametrize(
    ("votes", "p"),
    [((1, 1, 1), 1.0), ((2, 2, 2), 0.0), ((0, 0, 0), 0.5), ((1, 1, 2), 2 / 3), ((0, 1, 2), 0.5), ((0, 1, 1), 2.5 / 3)],
)
def test_pandalm_votes(tmp_path: Path, votes: tuple[int, int, int], p: float) -> None:
    """Two votes for the first and a tie are (2 + 1/2) / 3."""
    row = {"instruction": "Q", "input": "I", "response1": True, "response2": "", "cmp_key": "opt-7b_llama-7b"}
    row |= {f"annotator{i}": vote for i, vote in enumerate(votes, 1)}
    pair = one(tmp_path, row, "pandalm")
    assert pair.p == pytest.approx(p, abs=1e-15)
    assert (pair.prompt.text, pair.chosen, pair.rejected) == ("Q\nI", "True", "")
    assert pair.prompt.meta["models"] == ["opt-7b", "llama-7b"]


def test_prompts_by_their_own_columns(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "category": "c", "kind": "borderline", "id": 7, "cluster": "t"},
        {"prompt": [user("b"), assistant("x"), user("y")]},
        {"Behavior": "c", "SemanticCategory": "s", "BehaviorID": "b1", "ContextString": "text"},
        {"question": "d", "types_of_harm": "h"},
    ]
    prompts = read(tmp_path, rows, "prompts", kind="restricted").records
    assert [p.text for p in prompts] == ["a", "y", "text\n\n---\n\nc", "d"]
    assert [p.kind.value for p in prompts] == ["borderline", "restricted", "restricted", "restricted"]
    assert [p.category for p in prompts] == ["c", "", "s", "h"]
    assert prompts[0].id == Prompt.from_text("a").id and prompts[0].cluster == "t"
    assert [p.meta.get("id") for p in prompts] == ["7", None, "b1", None]


def test_xstest_kinds_with_and_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    rows = [("safe one", "homonyms", "safe"), ("unsafe, one", "contrast_homonyms", "unsafe")]
    for columns in (3, 2):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("prompt", "type", "label")[:columns], *(row[:columns] for row in rows)])
        records = read_source(SourceSpec(format="xstest", path=str(path)), name="x", seed=0).records
        assert [(r.text, r.kind, r.category) for r in records] == [
            ("safe one", Kind.BORDERLINE, "homonyms"),
            ("unsafe, one", Kind.RESTRICTED, "contrast_homonyms"),
        ]


def test_columns_map_canonical_names_to_the_files_own(tmp_path: Path) -> None:
    row = {"question": "Q", "chosen": "worse", "rejected": "better", "conf": 0.75}
    columns = {"prompt": "question", "chosen": "rejected", "rejected": "chosen", "p": "conf"}
    pair = one(tmp_path, row, "preference", columns=columns)
    assert (pair.prompt.text, pair.chosen, pair.rejected, pair.p) == ("Q", "better", "worse", 0.75)


@pytest.mark.parametrize(
    ("format", "path", "fields", "n", "dropped"),
    [
        ("pku-safe-rlhf", "pku_saferlhf/safety_pairs_train.jsonl", {}, 3549, 0),
        ("pku-safe-rlhf", "pku_saferlhf/safety_pairs_test.jsonl", {"label": "safer"}, 559, 0),
        ("hh-rlhf", "hh_rlhf/harmless-base-test.jsonl.gz", {}, 2307, 5),
        ("pandalm", "pandalm/testset-v1.json", {}, 999, 0),
        ("sharegpt", "llama_factory/dpo_en_demo.json", {}, 300, 0),
        ("sharegpt", "llama_factory/kto_en_demo.json", {}, 300, 0),
        ("alpaca", "llama_factory/alpaca_en_demo.json", {}, 999, 0),
        ("prompts", "prompts/alpacaeval_helpful_base_129.json", {}, 129, 0),
        ("prompts", "prompts/saferlhf_redteam_83.json", {}, 83, 0),
        ("prompts", "prompts/harmbench_behaviors_text_all.csv", {}, 400, 0),
        ("prompts", "prompts/beavertails_evaluation_700.json", {}, 700, 0),
        ("prompts", "do_not_answer/prompts.csv", {}, 938, 1),
        ("xstest", "xstest/prompts.csv", {}, 450, 0),
    ],
)
def test_published_files_are_read_whole(
    real_data: Path, format: str, path: str, fields: dict[str, Any], n: int, dropped: int
) -> None:
    result = read_source(SourceSpec(format=format, path=str(real_data / path), **fields), name="real", seed=0)
    assert len(result.records) == n
    assert sum(result.dropped.values()) == dropped


def test_published_files_hold_what_is_known_of_them(real_data: Path) -> None:
    def records(format: str, path: str, **fields: Any) -> list[Any]:
        spec = SourceSpec(format=format, path=str(real_data / path), **fields)
        return read_source(spec, name="real", seed=0).records

    train = records("pku-safe-rlhf", "pku_saferlhf/safety_pairs_train.jsonl")
    assert len({pair.prompt.id for pair in train}) == 633
    dual = "pku_saferlhf/dual_labels_32.jsonl"
    better, safer = (records("pku-safe-rlhf", dual, label=label) for label in ("better", "safer"))
    assert sum(one.chosen != other.chosen for one, other in zip(better, safer, strict=True)) == 19
    kinds = [prompt.kind for prompt in records("xstest", "xstest/prompts.csv")]
    assert (kinds.count(Kind.BORDERLINE), kinds.count(Kind.RESTRICTED)) == (250, 200)
    votes = [pair.p for pair in records("pandalm", "pandalm/testset-v1.json")]
    assert (votes.count(1.0), votes.count(0.5), votes.count(0.0)) == (368, 85, 426)
    assert sum(record.label for record in records("sharegpt", "llama_factory/kto_en_demo.json")) == 150
