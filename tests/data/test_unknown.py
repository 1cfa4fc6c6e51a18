"""Words that a tokenizer does not know are counted and said, where a model reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from align_toys import WORDS, word_tokenizer

from sacpo.api import align, generate
from sacpo.chat.history import fitted
from sacpo.data.records import Message
from sacpo.data.templates import make_template
from sacpo.data.unknown import unknown_notice, unknown_token, unknown_words
from sacpo.models.byte_level_bpe import byte_level_bpe
from sacpo.system.progress import Progress


class Said(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__("silent")
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_unknown_words_are_named_once_and_only_where_there_are_any() -> None:
    tokenizer = word_tokenizer()
    assert unknown_words([f"{WORDS[0]} owl {WORDS[1]}", "owl hat"], tokenizer) == ["owl", "hat"]
    assert unknown_notice("the question holds", [f"x{i}" for i in range(7)], "<unk>").endswith("'x4' and 2 more")
    bytes_of = byte_level_bpe(["a b c"], 300)  # has a token for every byte
    assert unknown_token(bytes_of) is None and unknown_words(["owl \u2603"], bytes_of) == []
    tokenizer.unk_token = tokenizer.eos_token  # as GPT-2's: an end, not an unknown word
    assert unknown_token(tokenizer) is None


def test_a_chat_says_which_words_of_a_question_are_lost() -> None:
    tokenizer = word_tokenizer()
    template = make_template("plain", tokenizer)
    asked = fitted((Message("user", f"{WORDS[0]} owl"),), template, tokenizer, 64, 8)
    assert asked.notice == ("the question holds words that the tokenizer does not know and reads as <unk>: 'owl'")
    assert fitted((Message("user", WORDS[0]),), template, tokenizer, 64, 8).notice == ""


@pytest.mark.parametrize("odd", [0, 2])
def test_trainings_and_answers_say_how_many_records_hold_unknown_words(odd: int, base: Path, tmp_path: Path) -> None:
    """Of 6 pairs and 3 prompts; a summary without such records is as it was."""
    rows = [
        {"prompt": f"{WORDS[1]} {WORDS[i]}", "chosen": "owl" if i < odd else WORDS[2], "rejected": WORDS[3]}
        for i in range(6)
    ]
    said = Said()
    options = {"training": {"max_steps": 1, "logging_steps": 1}, "base": {"template": "plain", "device": "cpu"}}
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    align(str(base), data, tmp_path / "H", progress=said, **options)
    summary = json.loads((tmp_path / "H" / "summary.json").read_text())["records"]
    assert summary.get("unknown", 0) == odd and ("unknown" in summary) == bool(odd)
    prompts = [{"prompt": f"{WORDS[4 + i]} owl hat" if i < odd else WORDS[5 + i]} for i in range(3)]
    asked = write_rows(tmp_path / "prompts.jsonl", prompts)
    generate(
        str(base),
        asked,
        tmp_path / "A",
        name="toy",
        generation={"max_new_tokens": 2},
        base=options["base"],
        progress=said,
    )
    assert said.notices == (
        [
            "align: 2 of 6 records hold words that the tokenizer does not know: the model cannot learn them",
            "toy: 2 of 3 prompts hold words that the tokenizer does not know and reads as <unk>: 'owl', 'hat'",
        ]
        if odd
        else []
    )
