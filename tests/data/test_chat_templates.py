"""Chat templates as models bring them: what follows the prompt is learnt, and what cannot be is refused."""

from __future__ import annotations

import re
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from toy_tokenizers import CHATML, byte_level

from sacpo.data import rendering
from sacpo.data.records import Labelled, Message, Pair, Prompt
from sacpo.data.templates import make_template
from sacpo.data.tokenize import tokenize_exchange, tokenize_labelled, tokenize_pairs, tokenize_prompt
from sacpo.errors import DataError, ModelError, UserError

TURNS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
THINKING = CHATML.replace(
    "{{ m.content }}", "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}"
).replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
QUESTION = Prompt.from_text("Where is the cat?")
DIALOGUE = Prompt(
    (
        Message("system", "You know cats."),
        Message("user", "Where was the cat?"),
        Message("assistant", "It sat here."),
        Message("user", "Where is the cat?"),
    )
)


def test_what_the_template_writes_between_prompt_and_answer_is_learnt() -> None:
    """The prompt's last line break merges with those of the block, so the rest is tokenised by itself."""
    tokenizer = byte_level(TURNS, eos="<|im_end|>", chat=THINKING)
    template = make_template("chat", tokenizer)
    pair = Pair(QUESTION, "On the mat.", "the cat")
    (found,), report = tokenize_pairs([pair], tokenizer, template, max_length=999, too_long="drop")
    assert tokenizer.decode(found.chosen) == "\n</think>\n\nOn the mat.<|im_end|>"
    assert tokenizer.decode(found.rejected) == "\n</think>\n\nthe cat<|im_end|>"
    assert found.prompt == tokenize_prompt(QUESTION, template, tokenizer)
    assert report.apart == 2


def test_an_answer_that_begins_with_blank_lines_keeps_its_end() -> None:
    """Only the first answer's lines merge with the prompt's last one; both end as the template ends them."""
    tokenizer = byte_level(TURNS, chat=CHATML)
    pair = Pair(QUESTION, "\n\nOn the mat.", "the cat")
    (found,), report = tokenize_pairs(
        [pair], tokenizer, make_template("chat", tokenizer), max_length=999, too_long="drop"
    )
    assert tokenizer.decode(found.chosen) == "\n\nOn the mat.<|im_end|>"
    assert tokenizer.decode(found.rejected) == "the cat<|im_end|>"
    assert report.apart == 1


@pytest.mark.parametrize(
    "closing", ["assistant\n<think>\n{% endif %}", "assistant\n<none></none>{% endif %}"], ids=["open", "closed"]
)
def test_a_generation_prompt_that_no_finished_answer_has_is_refused_with_the_row(closing: str) -> None:
    chat = CHATML.replace("assistant\n{% endif %}", closing)
    tokenizer = byte_level(TURNS, chat=chat)
    template = make_template("chat", tokenizer)
    record = Labelled(QUESTION, "On the mat.", True, source="mine, line 4")
    with pytest.raises(DataError, match=r"cannot be found(?s:.)*mine, line 4(?s:.)*chat_template\.jinja"):
        tokenize_labelled([record], tokenizer, template, max_length=999, too_long="drop")
    assert tokenize_prompt(QUESTION, template, tokenizer)  # it can still be answered


def test_thoughts_whose_marks_are_special_tokens_need_a_word() -> None:
    """The generation prompt ends with `<think>`, and so begins one answer: as text it is not the template's token."""
    chat = THINKING.replace("== 'assistant' %}", "== 'assistant' and '</' not in m.content %}")
    tokenizer = byte_level(TURNS, eos="<|im_end|>", chat=chat)
    pair = Pair(QUESTION, "<think>\nHm.\n</think>\n\nOn the mat.", "the cat")
    with pytest.raises(DataError) as caught:
        tokenize_pairs([pair], tokenizer, make_template("chat", tokenizer), max_length=999, too_long="drop")
    assert "'<think>'" in str(caught.value) and "special_tokens_in_text: true" in str(caught.value)
    template = make_template("chat", tokenizer, special_tokens_in_text=True)
    (found,), _ = tokenize_pairs([pair], tokenizer, template, max_length=999, too_long="drop")
    assert tokenizer.decode(found.chosen) == "Hm.\n</think>\n\nOn the mat.<|im_end|>"
    assert tokenizer.decode(found.rejected) == "\n</think>\n\nthe cat<|im_end|>"


def test_a_system_text_that_moves_when_the_answer_stands_there_is_refused() -> None:
    """Some templates write the system text in front of the dialogue's last turn, if that is the user's."""
    chat = (
        "{% for m in messages %}{% if m.role == 'user' %}[{% if loop.last %}{{ messages[0].content }}|{% endif %}"
        "{{ m.content }}]{% elif m.role == 'assistant' %}{{ m.content }}</end>{% endif %}{% endfor %}"
    )
    template = make_template("chat", byte_level(chat=chat))
    with pytest.raises(UserError, match="leaves out what a message of role 'system' says"):
        tokenize_exchange(DIALOGUE, "On the mat.", template, byte_level(chat=chat))


def test_thoughts_that_a_template_leaves_out_are_counted() -> None:
    chat = CHATML.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
    tokenizer = byte_level(["<|im_start|>", "<|im_end|>"], chat=chat)
    pair = Pair(QUESTION, "<think>Hm.</think>On the mat.", "the cat")
    (found,), report = tokenize_pairs(
        [pair], tokenizer, make_template("chat", tokenizer), max_length=999, too_long="drop"
    )
    assert tokenizer.decode(found.chosen) == "On the mat.<|im_end|>"
    assert report.rewritten == 1


def test_trimmed_answers_are_not_rewritten_ones() -> None:
    tokenizer = byte_level(TURNS, chat=CHATML.replace("m.content", "m.content | trim"))
    pair = Pair(QUESTION, "  On the mat.\n", "the cat")
    (found,), report = tokenize_pairs(
        [pair], tokenizer, make_template("chat", tokenizer), max_length=999, too_long="drop"
    )
    assert (tokenizer.decode(found.chosen), report.rewritten) == ("On the mat.<|im_end|>", 0)


@pytest.mark.parametrize(
    ("chat", "what"),
    [
        ("Hello.", "leaves out what a message of role 'user' says"),
        ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", "role 'assistant'"),
        ("{% for m in messages %}{{ m.content }", "no valid Jinja template"),
        ("{{ messages[0].content + 1 }}", "refuses the dialogue"),
        ("{{ messages[7].content.text }}", "refuses the dialogue"),
        ("{{ raise_exception('No dialogues today') }}", "No dialogues today"),
        ("{{ 1 // 0 }}", "refuses the dialogue"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "refuses the dialogue"),
        ("{{ range(10 ** 9) | list }}", "refuses the dialogue"),
    ],
)
def test_what_a_template_fails_on_is_an_error_of_the_user(chat: str, what: str) -> None:
    tokenizer = byte_level(chat=chat)
    pair = Pair(QUESTION, "On the mat.", "the cat", source="mine, line 4")
    with pytest.raises(UserError, match=what) as caught:
        tokenize_pairs([pair], tokenizer, make_template("chat", tokenizer), max_length=99, too_long="drop")
    assert "chat template of" in str(caught.value)


def test_the_row_that_a_template_refuses_is_named() -> None:
    chat = "{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}" + CHATML
    tokenizer = byte_level(TURNS, chat=chat)
    template = make_template("chat", tokenizer)
    pairs = [Pair(QUESTION, "On the mat.", "the cat", source="mine, line 1")]
    pairs.append(Pair(DIALOGUE, "On the mat.", "the cat", source="mine, line 2"))
    with pytest.raises(DataError, match=r"No system role(?s:.)*mine, line 2"):
        tokenize_pairs(pairs, tokenizer, template, max_length=999, too_long="drop")


def test_several_templates_need_a_default() -> None:
    tokenizer = byte_level(TURNS)
    tokenizer.chat_template = {"rag": CHATML, "tools": CHATML}
    with pytest.raises(ModelError, match=r"none is the default(?s:.)*rag"):
        make_template("chat", tokenizer)
    tokenizer.chat_template = {"default": CHATML, "tools": "{{ raise_exception('no') }}"}
    template = make_template("chat", tokenizer)
    assert template.render(QUESTION).endswith("<|im_start|>assistant\n")
    assert template.key == make_template("chat", byte_level(TURNS, chat=CHATML)).key


def test_a_template_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "SECONDS", 0.2)
    loop = "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}"
    started = time.monotonic()
    with pytest.raises(DataError, match=r"does not end(?s:.)*base\.template"):
        make_template("chat", byte_level(chat=loop)).render(QUESTION)
    assert time.monotonic() - started < 5


PUBLISHED = Path(find_spec("trl").submodule_search_locations[0]) / "chat_templates" if find_spec("trl") else Path()  # type: ignore[union-attr, index]
ENDS = {
    "qwen2_5": "On the mat.<|im_end|>",
    "qwen3": "<think>\n\n</think>\n\nOn the mat.<|im_end|>",
    "qwen3_5_think": "\n</think>\n\nOn the mat.<|im_end|>",
    "qwen3_5_nothink": "On the mat.<|im_end|>",
    "llama3": "On the mat.<|eot_id|>",
    "gemma": "On the mat.<end_of_turn>",
    "phi3": "On the mat.<|end|>",
    "cohere": "On the mat.<|END_OF_TURN_TOKEN|>",
    "gptoss": "<|channel|>final<|message|>On the mat.<|return|>",
    "glm4moe": "\n<think></think>\nOn the mat.</end>",
}
REFUSED = ("deepseekv3", "nemotron_3_nano")


@pytest.mark.parametrize("name", [*ENDS, *REFUSED])
def test_published_templates(name: str) -> None:
    """Prompt and completion are the rendered dialogue up to the token that ends the turn.

    The end token is </end>, which none of these templates writes by that name. Where a template writes no other, it is
    added; phi3's writes it behind another, which its generation_config lists.
    """
    file = PUBLISHED / f"{name}.jinja"
    if not file.is_file():
        pytest.skip("TRL, which ships these templates, is not installed")
    chat = file.read_text(encoding="utf-8")
    special = sorted({*re.findall(r"<[|｜]?[A-Za-z_▁]+[|｜]?>|\[gMASK\]", chat)} - {"<tool_call>", "<tools>"})
    tokenizer = byte_level(special, bos="<s>", chat=chat)
    prompt = QUESTION if name == "gemma" else DIALOGUE  # it has no system role
    listed = [tokenizer.convert_tokens_to_ids("<|end|>")] if name == "phi3" else []
    template = make_template("chat", tokenizer, ends=listed)
    if name in REFUSED:
        with pytest.raises(DataError, match="cannot be found"):
            tokenize_exchange(prompt, "On the mat.", template, tokenizer)
        return
    before, after = tokenize_exchange(prompt, "On the mat.", template, tokenizer)
    assert tokenizer.decode(after) == ENDS[name]
    turns = [{"role": m.role, "content": m.content} for m in (*prompt.messages, Message("assistant", "On the mat."))]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert whole.startswith(tokenizer.decode(before + after).removesuffix("</end>"))
    assert before.count(tokenizer.bos_token_id) == whole.count("<s>")
