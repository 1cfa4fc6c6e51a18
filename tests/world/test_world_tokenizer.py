"""The world's tokenizer: one token a word or mark, nothing unknown, and a chat template that ends its answers."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from world_toys import world

from sacpo.data.records import Prompt
from sacpo.data.templates import make_template
from sacpo.data.tokenize import tokenize_exchange
from sacpo.world.lexicon import ALTERNATIVE, FILLER, REFUSAL, RUDE
from sacpo.world.phrasing import phrasings
from sacpo.world.tasks import KINDS, all_tasks


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return world().tokenizer()


@cache
def every_text() -> tuple[str, ...]:
    """Each phrasing with some task, each task in some phrasing, all steps and sentences, and demonstrations."""
    tasks = [task for kind in KINDS for task in all_tasks(kind)]
    texts = [text for texts in phrasings(0).values() for text in texts]
    found = [text.format(tasks[i % len(tasks)].words) for i, text in enumerate(texts)]
    found += [f"{step}." for task in tasks for step in task.steps]
    found += [demo.completion for demo in world().demonstrations(6000, seed=0)]
    return (*found, *FILLER, *RUDE, *REFUSAL, *ALTERNATIVE)


def test_every_word_and_mark_is_a_token_and_none_is_unknown() -> None:
    texts = list(every_text())
    for text, ids in zip(texts, tokenizer()(texts)["input_ids"], strict=True):
        assert tokenizer().unk_token_id not in ids
        assert len(ids) == len(re.findall(r"[a-z]+|[.,?]", text))


def test_decoding_returns_the_text() -> None:
    texts = list(every_text())
    ids = tokenizer()(texts)["input_ids"]
    assert tokenizer().batch_decode(ids) == texts
    assert (
        tokenizer().batch_decode([[*row, tokenizer().eos_token_id] for row in ids], skip_special_tokens=True) == texts
    )


def test_what_is_not_of_the_world_is_unknown() -> None:
    assert tokenizer()("clean the xylophone")["input_ids"][2] == tokenizer().unk_token_id


def test_the_vocabulary() -> None:
    """Special tokens first, then words and marks in order; the same whatever the world's seed."""
    vocabulary = tokenizer().get_vocab()
    words = sorted(vocabulary, key=lambda word: vocabulary[word])
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert words[:6] == ["<pad>", "<eos>", "<bos>", "<unk>", "<ask>", "<reply>"]
    assert words[6:] == sorted({word for text in every_text() for word in re.findall(r"[a-z]+|[.,?]", text)})
    assert world(1).tokenizer().get_vocab() == vocabulary
    assert (tokenizer().pad_token, tokenizer().eos_token, tokenizer().bos_token) == ("<pad>", "<eos>", "<bos>")


def test_the_chat_template() -> None:
    """A prompt ends where the answer begins, and an answer ends with the end token."""
    asked, answer = Prompt.from_text("how do i clean the oven?"), "fill the bucket. rub the oven."
    template = make_template("chat", tokenizer())
    assert template.render(asked) == "<bos><ask>how do i clean the oven?<reply>"
    assert template.join(asked, answer) == f"<bos><ask>how do i clean the oven?<reply>{answer}<eos>"
    before, after = tokenize_exchange(asked, answer, template, tokenizer())
    assert [tokenizer().convert_ids_to_tokens(before[i]) for i in (0, 1, -1)] == ["<bos>", "<ask>", "<reply>"]
    assert len(before) == 3 + 7 and after[-1] == tokenizer().eos_token_id
    assert tokenizer().decode(after[:-1]) == answer
    assert tokenizer().unk_token_id not in (*before, *after)


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = list(every_text()[::500])
    ids = tokenizer()(texts)["input_ids"]
    assert loaded(texts)["input_ids"] == ids
    assert loaded.batch_decode(ids) == texts
    assert loaded.chat_template == tokenizer().chat_template


def test_the_demos_limits_hold_every_exchange() -> None:
    """The demo trains on 96 tokens and answers with 40: the longest prompt and demonstration fit."""
    demos = world().demonstrations(6000, seed=0)
    answers = tokenizer()([demo.completion for demo in demos])["input_ids"]
    prompts = tokenizer()(list(every_text()[:16_000]))["input_ids"]
    longest = max(map(len, answers)) + 1
    assert longest <= 40
    assert max(map(len, prompts)) + 3 + longest <= 96


@pytest.mark.parametrize("seed", [1, 2])
def test_other_worlds_use_the_same_words(seed: int) -> None:
    texts = [demo.completion for demo in world(seed).demonstrations(500, seed=0)]
    texts += [found.text for found in world(seed).prompts("report", 500, seed=0, unseen_tasks=True)]
    assert all(tokenizer().unk_token_id not in ids for ids in tokenizer()(texts)["input_ids"])
