"""What stands beside a prompt reaches it or is refused; null is as good as absent, in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_sources_formats import PKU, assistant, one, read, user

from sacpo.data.answers import read_answers
from sacpo.data.records import Labelled, Message, Pair
from sacpo.errors import DataError
from sacpo.trl.columns import read_columns

RULE = "Answer in verse."
ASKED = (Message("system", RULE), Message("user", "Q"))
DIALOGUES = {"chosen": [user("Q"), assistant("a")], "rejected": [user("Q"), assistant("b")]}
ANSWERS = {"chosen": "a", "rejected": "b"}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


@pytest.mark.parametrize(
    ("format", "row"),
    [
        ("preference", {"prompt": "Q", **ANSWERS}),
        ("preference", {"prompt": [user("Q")], "chosen": [assistant("a")], "rejected": [assistant("b")]}),
        ("preference", DIALOGUES),
        ("preference", {"prompt": "Q", **DIALOGUES}),
        ("ultrafeedback", {"prompt": "Q", **DIALOGUES}),
        ("unpaired", {"prompt": "Q", "completion": "a", "label": True}),
        ("demonstrations", {"prompt": "Q", "completion": "a"}),
        ("demonstrations", {"messages": [user("Q"), assistant("a")]}),
        ("prompts", {"prompt": "Q"}),
        ("prompts", {"prompt": [user("Q")]}),
        ("sharegpt", {"conversations": [user("Q"), assistant("a")]}),
        ("alpaca", {"instruction": "Q", "output": "a"}),
    ],
)
def test_a_system_column_stands_before_the_prompt(tmp_path: Path, format: str, row: dict[str, Any]) -> None:
    record = one(tmp_path, {**row, "system": RULE}, format, as_="prompts")
    assert record.messages == ASKED
    assert one(tmp_path, {**row, "system": None}, format, as_="prompts").messages == ASKED[1:]


@pytest.mark.parametrize(
    ("format", "row"),
    [
        ("pku-safe-rlhf", PKU),
        ("hh-rlhf", {"chosen": "\n\nHuman: Q\n\nAssistant: a", "rejected": "\n\nHuman: Q\n\nAssistant: b"}),
        ("xstest", {"prompt": "Q", "type": "figurative"}),
    ],
)
def test_a_system_column_is_refused_where_the_format_has_none(tmp_path: Path, format: str, row: dict[str, Any]) -> None:
    label = {"label": "better"} if format.startswith("pku") else {}
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1, field 'system'(?s:.)*verse"):
        one(tmp_path, {**row, "system": RULE}, format, **label)
    assert one(tmp_path, {**row, "system": None}, format, **label)


@pytest.mark.parametrize("column", ["tools", "images", "history", "chat_template_kwargs"])
def test_columns_that_change_what_a_model_sees_are_refused(tmp_path: Path, column: str) -> None:
    row = {"prompt": "Q", **ANSWERS}
    assert one(tmp_path, {**row, column: []}, "preference")
    for call in (
        lambda: one(tmp_path, {**row, column: ["something"]}, "preference"),
        lambda: read_columns([{**row, column: ["something"]}], "rows"),
    ):
        with pytest.raises(DataError, match=f"column '{column}'"):
            call()
    mapped = {"prompt": column}  # a column that is read is not lost
    found = one(tmp_path, {column: "Q", **ANSWERS}, "preference", columns=mapped)
    assert found.prompt.text == "Q"


def test_an_input_below_an_instruction_is_used_or_refused(tmp_path: Path) -> None:
    row = {"instruction": "Translate.", "input": "le chat"}
    assert one(tmp_path, row, "prompts").text == "Translate.\n\nle chat"
    with pytest.raises(DataError, match=r"'input'(?s:.)*alpaca"):
        one(tmp_path, {**row, **ANSWERS}, "preference", columns={"prompt": "instruction"})


@pytest.mark.parametrize(
    ("prompt", "messages"),
    [
        ("Q", (Message("user", "first"), Message("assistant", "x"), Message("user", "Q"))),
        ("first", (Message("user", "first"), Message("assistant", "x"), Message("user", "Q"))),
        (None, (Message("user", "first"), Message("assistant", "x"), Message("user", "Q"))),
    ],
)
def test_a_prompt_that_the_dialogue_holds_changes_nothing(
    tmp_path: Path, prompt: str | None, messages: tuple[Message, ...]
) -> None:
    turns = [user("first"), assistant("x"), user("Q")]
    row = {"prompt": prompt, "chosen": [*turns, assistant("a")], "rejected": [*turns, assistant("b")]}
    assert one(tmp_path, row, "preference").prompt.messages == messages
    demonstration = one(tmp_path, {"prompt": prompt, "messages": row["chosen"]}, "demonstrations")
    assert (demonstration.prompt.messages, demonstration.completion) == (messages, "a")


def test_what_a_prompt_adds_to_a_dialogue_is_used(tmp_path: Path) -> None:
    earlier = [user("first"), assistant("x")]
    record = one(tmp_path, {"prompt": [system(RULE), user("Q")], **DIALOGUES}, "preference")
    assert record.prompt.messages == ASKED
    record = one(tmp_path, {"prompt": [*earlier, user("Q")], **DIALOGUES}, "preference")
    assert [m.content for m in record.prompt.messages] == ["first", "x", "Q"]


@pytest.mark.parametrize(
    "prompt", ["Another question", [user("first"), assistant("x"), user("Another")], [system("s")]]
)
def test_a_prompt_that_contradicts_the_dialogue_is_refused(tmp_path: Path, prompt: Any) -> None:
    with pytest.raises(DataError, match=r"say different things"):
        one(tmp_path, {"prompt": prompt, **DIALOGUES}, "preference")
    with pytest.raises(DataError, match="say different things"):
        one(tmp_path, {"prompt": prompt, "messages": DIALOGUES["chosen"]}, "demonstrations")


def test_two_system_texts_a_context_beside_messages_and_two_dialogues_are_refused(tmp_path: Path) -> None:
    both = {"system": RULE, "prompt": [system("Answer in prose."), user("Q")], **ANSWERS}
    with pytest.raises(DataError, match="another system text"):
        one(tmp_path, both, "preference")
    with pytest.raises(DataError, match="context beside messages"):
        one(tmp_path, {"prompt": [user("Q")], "context": "A page."}, "prompts")
    with pytest.raises(DataError, match="not the dialogue's last answer"):
        one(tmp_path, {"messages": [user("Q"), assistant("a")], "completion": "b"}, "demonstrations")
    with pytest.raises(DataError, match="two dialogues"):
        one(
            tmp_path,
            {"messages": [user("Q"), assistant("a")], "conversations": [user("Q"), assistant("b")]},
            "sharegpt",
        )


@pytest.mark.parametrize("key", ["tool_calls", "reasoning_content", "thinking"])
def test_what_a_message_holds_beside_its_text_is_refused(tmp_path: Path, key: str) -> None:
    said = {**assistant("a"), key: "something"}
    with pytest.raises(DataError, match=f"holds more than a text(?s:.)*{key}"):
        one(tmp_path, {"messages": [user("Q"), said]}, "demonstrations")
    assert one(tmp_path, {"messages": [user("Q"), {**said, key: None}]}, "demonstrations").completion == "a"


def test_a_message_in_parts_is_their_texts(tmp_path: Path) -> None:
    """As newer chats have them; a table writer's null beside a text is nothing, and an image is no text."""
    parts = [{"type": "text", "text": "Q", "image": None}, {"type": "text", "text": " now"}]
    dialogue = [{"role": "user", "content": parts}, assistant("a")]
    assert one(tmp_path, {"messages": dialogue}, "demonstrations").prompt.text == "Q now"
    for odd in ({"type": "image", "url": "u"}, {"type": "text"}, {"type": "text", "text": "Q", "image": "u"}, "Q"):
        with pytest.raises(DataError, match=r"more than a text(?s:.)*messages\[0\].content\[1\]"):
            one(
                tmp_path, {"messages": [{"role": "user", "content": [parts[0], odd]}, assistant("a")]}, "demonstrations"
            )


def test_null_keys_of_messages_are_absent_keys(tmp_path: Path) -> None:
    nulls = {"from": None, "value": None, "tool_calls": None, "name": None}
    others = {"role": None, "content": None}
    dialogue = [{**user("Q"), **nulls}, {"from": "gpt", "value": "a", **others}]
    assert one(tmp_path, {"messages": dialogue}, "demonstrations").completion == "a"
    assert one(tmp_path, {"conversations": dialogue}, "sharegpt").prompt.text == "Q"
    with pytest.raises(DataError, match="not a text"):
        one(tmp_path, {"messages": [user("Q"), assistant("a") | {"content": None}]}, "demonstrations")


def test_null_columns_are_absent_columns(tmp_path: Path) -> None:
    dialogue = [user("Q"), assistant("a")]
    found = one(tmp_path, {"conversations": None, "messages": dialogue, "chosen": None, "label": None}, "sharegpt")
    assert found.completion == "a"
    labelled = one(tmp_path, {"messages": dialogue, "label": False, "chosen": None, "rejected": None}, "sharegpt")
    assert labelled == Labelled(labelled.prompt, "a", False, labelled.source)
    assert one(tmp_path, {"prompt": None, "question": "Q"}, "prompts").text == "Q"
    reshaped = {"prompt": "Q", **ANSWERS, "response_0": None}
    assert one(tmp_path, reshaped, "pku-safe-rlhf", label="safer").chosen == "a"
    assert one(tmp_path, {"prompt": "Q", "type": "safe_x", "label": None}, "xstest").kind == "borderline"
    assert read(tmp_path, [{"prompt": "Q", "completion": "a", "messages": None}], "demonstrations").records


def test_answers_under_the_column_that_is_not_null(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    rows = [{"prompt": None, "instruction": "Q", "input": "in", "output": None, "response": "a"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (answer,) = read_answers(file)
    assert (answer.prompt.text, answer.text) == ("Q\n\nin", "a")


def test_trl_rows_of_two_kinds_filled_up_with_null() -> None:
    row = {"prompt": "Q", "completion": "a", "label": True, "chosen": None, "rejected": None, "tools": None}
    records, chat, _ = read_columns([row], "rows")
    assert isinstance(records[0], Labelled) and not chat
    with pytest.raises(DataError, match="no column 'rejected'"):
        read_columns([{"prompt": "Q", "chosen": "a", "rejected": None}], "rows")


def test_trl_rows_with_messages_for_a_prompt_are_chats_whatever_their_answers() -> None:
    records, chat, _ = read_columns([{"prompt": [system(RULE), user("Q")], **ANSWERS}], "rows")
    assert chat and isinstance(records[0], Pair) and records[0].prompt.messages == ASKED
    assert read_columns([{"prompt": [user("Q")], "completion": "a", "label": True}], "rows")[1]
    with pytest.raises(DataError, match="mixed"):
        read_columns([{"prompt": [user("Q")], **ANSWERS}, {"prompt": "Q", **ANSWERS}], "rows")
