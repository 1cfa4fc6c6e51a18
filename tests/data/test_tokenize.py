"""Tokenising: the prompt is what generation sees, the completion ends once, lengths are kept."""

from __future__ import annotations

import pytest
from test_templates import CHAT
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sacpo.data.records import Demonstration, Labelled, Pair, Prompt
from sacpo.data.templates import make_template
from sacpo.data.tokenize import (
    text_trees,
    tokenize_demonstrations,
    tokenize_exchange,
    tokenize_labelled,
    tokenize_pairs,
    tokenize_prompt,
)
from sacpo.errors import DataError

SPECIAL = ["<pad>", "<s>", "</s>", "<user>", "<assistant>"]


def byte_tokenizer(*, merge: bool = False, bos: bool = True) -> PreTrainedTokenizerFast:
    """Characters as tokens; `merge` makes "ab" one token, so that a border inside it vanishes."""
    vocab = {piece: i for i, piece in enumerate([*SPECIAL, *map(chr, range(32, 127)), "\n", "ab"])}
    inner = Tokenizer(models.BPE(vocab, [("a", "b")] if merge else []))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s"), "isolated")
    inner.decoder = decoders.Fuse()
    if bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL[3:]})
    tokenizer.chat_template = CHAT
    return tokenizer


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_a_plain_prompt_begins_as_the_tokenizer_begins_texts_and_has_no_end() -> None:
    tokenizer = byte_tokenizer()
    template = make_template("plain", tokenizer)
    assert tokenize_prompt(Prompt.from_text("xy"), template, tokenizer) == (1, *ids(tokenizer, "xy"))
    tokenizer = byte_tokenizer(bos=False)
    assert tokenize_prompt(Prompt.from_text("xy"), template, tokenizer) == ids(tokenizer, "xy")


def test_the_completion_ends_with_one_end_token() -> None:
    tokenizer = byte_tokenizer()
    for name, rest in (("plain", "yes"), ("chat", "yes")):
        _, completion = tokenize_exchange(Prompt.from_text("hi"), "yes", make_template(name, tokenizer), tokenizer)
        assert completion == (*ids(tokenizer, rest), 2)  # the chat template's line break behind the end is no target


def test_tokens_that_merge_across_the_border_leave_the_prompt_as_generation_sees_it() -> None:
    """Prompt "xa" and completion "b": together "x", "ab"; apart "x", "a" and "b"."""
    tokenizer = byte_tokenizer(merge=True, bos=False)
    template = make_template("plain", tokenizer)
    pair = Pair(Prompt.from_text("xa"), "b", "c")
    (found,), report = tokenize_pairs([pair], tokenizer, template, max_length=9, too_long="drop")
    assert found.prompt == ids(tokenizer, "x") + ids(tokenizer, "a")
    assert found.chosen == (*ids(tokenizer, "b"), 2)
    assert (report.apart, report.kept) == (1, 1)


@pytest.mark.parametrize("name", ["chat", "paper", "plain", "Q: {prompt} A:"])
def test_generation_sees_the_prompt_that_training_saw(name: str) -> None:
    tokenizer = byte_tokenizer()
    template = make_template(name, tokenizer)
    prompt = Prompt.from_text("tell me")
    (pair,), _ = tokenize_pairs([Pair(prompt, "a", "b")], tokenizer, template, max_length=99, too_long="drop")
    assert pair.prompt == tokenize_prompt(prompt, template, tokenizer)


def test_records_keep_ids_labels_and_probabilities() -> None:
    tokenizer = byte_tokenizer()
    template = make_template("plain", tokenizer)
    prompt = Prompt.from_text("q")
    pair, labelled, demo = Pair(prompt, "a", "b", p=0.3), Labelled(prompt, "a", False), Demonstration(prompt, "a")
    options = {"max_length": 9, "too_long": "drop"}
    (tokens,), _ = tokenize_pairs([pair], tokenizer, template, **options)
    assert (tokens.id, tokens.p) == (pair.id, 0.3)
    (tokens_,), _ = tokenize_labelled([labelled], tokenizer, template, **options)
    assert (tokens_.id, tokens_.prompt_id, tokens_.label) == (labelled.id, prompt.id, False)
    (demo_,), _ = tokenize_demonstrations([demo], tokenizer, template, **options)
    assert demo_.id == demo.id


def test_long_records_are_cut_dropped_or_refused() -> None:
    """Prompt 3 tokens with <s>, completions 4 and 6 with </s>; max_length 7 cuts the second to 4."""
    tokenizer = byte_tokenizer()
    template = make_template("plain", tokenizer)
    pair = Pair(Prompt.from_text("qq"), "abc", "abcde", source="mine, line 3")
    (cut,), report = tokenize_pairs([pair], tokenizer, template, max_length=7, too_long="truncate")
    assert (len(cut.chosen), len(cut.rejected)) == (4, 4)
    assert cut.rejected[-1] != 2
    assert (report.truncated, report.longest, report.prompt_tokens, report.completion_tokens) == (1, 9, 3, 8)
    none, report = tokenize_pairs([pair], tokenizer, template, max_length=8, too_long="drop")
    assert (none, report.dropped) == ([], {"longer than max_length": 1})
    with pytest.raises(DataError, match=r"mine, line 3(?s:.)*3 tokens(?s:.)*too_long: drop"):
        tokenize_pairs([pair], tokenizer, template, max_length=3, too_long="truncate")


def test_texts_stand_behind_their_prompts_cut_where_there_is_no_more_room() -> None:
    """Whatever the order; a prompt that leaves no room has no tree."""
    tokenizer = byte_tokenizer()
    template = make_template("plain", tokenizer)
    short, long = Prompt.from_text("hi"), Prompt.from_text("a prompt without room")
    texts = [(short, "yes"), (long, "yes"), (short, "a longer answer"), (Prompt.from_text("hi"), "yes")]
    room = len(ids(tokenizer, "hi")) + 6
    found = text_trees(texts, tokenizer, template, room)
    assert {*found} == {0, 2, 3}
    for place, tree in found.items():
        before, after = tokenize_exchange(*texts[place], template, tokenizer)
        assert (tree.prompt, tree.completions) == (before, (after[: room - len(before)],))
    assert len(found[2]) == room


@pytest.mark.parametrize("name", ["chat", "plain"])
def test_of_a_very_long_text_only_what_can_be_used_is_tokenised(name: str) -> None:
    """A character is a token: the text has 1,000,000, of which about a tenth is looked at."""
    tokenizer = byte_tokenizer()
    template = make_template(name, tokenizer)
    long = "".join(chr(97 + i % 23) for i in range(1000)) * 1000
    pair = Pair(Prompt.from_text("qq"), long, "ab", source="mine, line 3")
    (cut,), report = tokenize_pairs([pair], tokenizer, template, max_length=50, too_long="truncate")
    assert cut.prompt + cut.chosen == (cut.prompt + ids(tokenizer, long[:50]))[:50]
    assert (report.truncated, report.longest < 110_000) == (1, True)
    none, report = tokenize_pairs([pair], tokenizer, template, max_length=50, too_long="drop")
    assert (none, report.dropped) == ([], {"longer than max_length": 1})
    asked = Pair(Prompt.from_text(long), "a", "b", source="mine, line 4")
    with pytest.raises(DataError, match=r"no room(?s:.)*mine, line 4(?s:.)*at least \d+ tokens"):
        tokenize_pairs([asked], tokenizer, template, max_length=50, too_long="truncate")
    (whole,), _ = tokenize_pairs([pair], tokenizer, template, max_length=2_000_000, too_long="drop")
    assert len(whole.chosen) == len(long) + 1


def test_a_long_text_of_long_tokens_is_read_until_there_are_enough() -> None:
    """100,000 characters are 10 tokens here, so more of the text is looked at until 114 are passed."""
    vocab = {"<unk>": 0, "</s>": 1, **{letter * 10_000: i for i, letter in enumerate("abcdefghij", 2)}}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(" "), "removed")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="<unk>")
    text = " ".join(letter * 10_000 for letter in "abcdefghij" * 20)
    pair = Pair(Prompt.from_text("a" * 10_000), " " + text, " a")
    (cut,), report = tokenize_pairs(
        [pair], tokenizer, make_template("plain", tokenizer), max_length=50, too_long="truncate"
    )
    assert cut.chosen == tuple(2 + i % 10 for i in range(49))
    assert 114 < report.longest < 202
