"""Templates render what the paper and the tokenizer say."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from sacpo.data.records import Message, Prompt
from sacpo.data.templates import make_template
from sacpo.errors import DataError, ModelError

CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.role == 'assistant' %}</s>\n{% endif %}{% endfor %}"
CHAT += "{% if add_generation_prompt %}<assistant>{% endif %}"
TURNS = (Message("user", "hi"), Message("assistant", "yes ?"), Message("user", "go {on}"))


def tokenizer(chat: str | None = None) -> PreTrainedTokenizerFast:
    inner = Tokenizer(WordLevel({"</s>": 0, "?": 1}, unk_token="?"))
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="?")
    made.chat_template = chat
    return made


def test_the_papers_template_has_no_space_after_its_colon() -> None:
    assert make_template("paper", tokenizer()).render(Prompt.from_text("hi")) == (
        "BEGINNING OF CONVERSATION: USER: hi ASSISTANT:"
    )


def test_earlier_answers_end_with_the_end_token_and_braces_survive() -> None:
    assert make_template("paper", tokenizer()).render(Prompt(TURNS)) == (
        "BEGINNING OF CONVERSATION: USER: hi ASSISTANT:yes ?</s>USER: go {on} ASSISTANT:"
    )


def test_a_users_template_and_a_system_message() -> None:
    prompt = Prompt((Message("system", "Be brief."), Message("user", "hi")))
    assert make_template("Q: {prompt}\nA:", tokenizer()).render(prompt) == "Q: Be brief.\n\nhi\nA:"


def test_the_chat_template_writes_generation_prompt_and_finished_answers() -> None:
    template = make_template("chat", tokenizer(CHAT))
    assert template.render(Prompt.from_text("hi")) == "<user>hi<assistant>"
    assert template.join(Prompt.from_text("hi"), "yes") == "<user>hi<assistant>yes</s>\n"


def test_a_missing_chat_template_is_refused_with_the_alternatives() -> None:
    with pytest.raises(ModelError, match=r"no chat template(?s:.)*base\.template(?s:.)*plain"):
        make_template("chat", tokenizer())


def test_a_prompt_ends_with_a_users_turn() -> None:
    with pytest.raises(DataError, match="user's turn"):
        make_template("plain", tokenizer()).render(Prompt(TURNS[:2]))


def test_keys_tell_templates_apart() -> None:
    keys = {make_template(name, tokenizer(CHAT)).key for name in ("chat", "paper", "plain", "Q: {prompt}")}
    assert len(keys) == 4
