"""What a record's text spells is text, what a template writes is a token, and each beginning and end stands once."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from toy_tokenizers import CHATML, byte_level
from transformers import PreTrainedTokenizerFast

from sacpo.data.ends import end_tokens
from sacpo.data.records import Message, Pair, Prompt
from sacpo.data.specials import Specials
from sacpo.data.templates import make_template
from sacpo.data.tokenize import tokenize_exchange, tokenize_pairs, tokenize_prompt
from sacpo.errors import DataError

TURNS = ["<|im_start|>", "<|im_end|>"]
SAID = "Close it with </end>, not with <|im_end|>."


def chatml(**more: str) -> PreTrainedTokenizerFast:
    return byte_level(TURNS, eos="<|im_end|>", chat=CHATML, **more)


def metaspace() -> PreTrainedTokenizerFast:
    """A tokenizer in the manner of Llama 2: one word a text, with a blank in front."""
    inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=90, special_tokens=["<unk>", "<s>", "</end>", "<|im_end|>"], show_progress=False
    )
    inner.train_from_iterator(["▁the▁cat▁sat, Close it </end> with <|im_end|> not.▁"] * 9, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", eos_token="</end>", additional_special_tokens=["<|im_end|>"]
    )


@pytest.mark.parametrize("tokenizer", [chatml(), byte_level(TURNS), metaspace()], ids=["chatml", "plain", "metaspace"])
def test_quoted_names_are_read_as_the_tokenizer_reads_text_without_special_tokens(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    specials = Specials(tokenizer)
    as_text = tokenizer(SAID, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert specials.encode(specials.quote(SAID), "here") == as_text
    assert not {*specials.ids.values()} & {*as_text}
    whole = "<|im_end|>the cat</end> sat"
    assert specials.encode(whole, "here") == tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_an_answer_that_spells_the_end_token_in_a_chat_is_learnt_whole() -> None:
    """The one end token is the template's, behind the last letter of the answer."""
    tokenizer = chatml()
    template = make_template("chat", tokenizer)
    pair = Pair(Prompt.from_text("What does <|im_start|> do?"), SAID, "the cat")
    (found,), report = tokenize_pairs([pair], tokenizer, template, max_length=999, too_long="drop")
    assert tokenizer.decode(found.chosen) == f"{SAID}<|im_end|>"
    assert found.chosen.count(tokenizer.eos_token_id) == 1
    assert found.prompt.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 2  # the template's own
    text = tokenizer(f"{SAID}", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert found.chosen[:-1] == tuple(text)
    assert report.quoted == 2


@pytest.mark.parametrize("name", ["paper", "<|im_start|>{prompt}<|im_end|>"])
def test_only_the_templates_own_special_tokens_are_tokens(name: str) -> None:
    tokenizer = byte_level(TURNS)
    template = make_template(name, tokenizer)
    prompt = Prompt((Message("user", SAID), Message("assistant", "</end>"), Message("user", "<|im_end|> again")))
    before, after = tokenize_exchange(prompt, SAID, template, tokenizer)
    ids = Specials(tokenizer).ids
    assert before.count(ids["</end>"]) == 1  # behind the earlier answer
    assert before.count(ids["<|im_end|>"]) == 2 * ("im_end" in name)
    assert (after.count(ids["</end>"]), after[-1]) == (1, ids["</end>"])


def test_texts_of_the_plain_template_are_rendered_already_and_an_option_decides_otherwise() -> None:
    """As TRL and the tokenizer read it: "a</end> b" holds the token, and one more ends it."""
    tokenizer = byte_level()
    prompt, answer = Prompt.from_text("the cat"), "a</end> b"
    end = tokenizer.eos_token_id
    _, read = tokenize_exchange(prompt, answer, make_template("plain", tokenizer), tokenizer)
    assert read == (*tokenizer(answer, add_special_tokens=False)["input_ids"], end)
    assert read.count(end) == 2
    for name, allowed, times in (("plain", False, 1), ("paper", True, 2), ("paper", False, 1)):
        template = make_template(name, tokenizer, special_tokens_in_text=allowed)
        assert tokenize_exchange(prompt, answer, template, tokenizer)[1].count(end) == times


def test_an_option_reads_special_tokens_in_messages() -> None:
    tokenizer = chatml()
    template = make_template("chat", tokenizer, special_tokens_in_text=True)
    _, after = tokenize_exchange(Prompt.from_text("q"), "a<|im_end|>b", template, tokenizer)
    assert tokenizer.convert_ids_to_tokens(after) == ["a", "<|im_end|>", "b", "<|im_end|>"]
    assert make_template("chat", tokenizer).key != template.key


def test_a_finished_answer_in_a_rendered_text_gets_no_second_end() -> None:
    tokenizer = byte_level(TURNS)
    turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
    listed = make_template("plain", tokenizer, ends=[turn])
    prompt = Prompt.from_text("the cat")
    for text in ("sat<|im_end|>", "sat<|im_end|>\n"):
        assert tokenize_exchange(prompt, text, listed, tokenizer)[1][-1] == turn
    _, behind = tokenize_exchange(prompt, "sat<|im_end|> on", listed, tokenizer)
    assert behind[-1] == tokenizer.eos_token_id
    _, unlisted = tokenize_exchange(prompt, "sat<|im_end|>", make_template("plain", tokenizer), tokenizer)
    assert unlisted[-2:] == (turn, tokenizer.eos_token_id)


def test_turns_end_in_generation_where_they_end_in_training() -> None:
    """The template's token is an end even where no list names it; a listed one of the template's comes first."""
    tokenizer = byte_level([*TURNS, "<|last|>"], chat=CHATML.replace("<|im_end|>\n", "<|im_end|>\n<|last|>"))
    turn, last = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|last|>"])
    prompt = Prompt.from_text("q")
    template = make_template("chat", tokenizer)
    assert end_tokens(None, template) == {tokenizer.eos_token_id, turn}
    assert tokenize_exchange(prompt, "a", template, tokenizer)[1][-1] == turn
    template = make_template("chat", tokenizer, ends=[last])
    assert end_tokens(None, template) == {tokenizer.eos_token_id, last}
    _, after = tokenize_exchange(prompt, "a", template, tokenizer)
    assert tokenizer.decode(after) == "a<|im_end|>\n<|last|>"


@pytest.mark.parametrize("text", ["<s>the cat", "<gate><s>the cat", "the cat"])
def test_a_beginning_stands_once_however_much_of_it_is_written(text: str) -> None:
    tokenizer = byte_level(bos="<s>", prefix=["<gate>", "<s>"])
    ids = tokenize_prompt(Prompt.from_text(text), make_template("plain", tokenizer), tokenizer)
    assert tokenizer.decode(ids) == "<gate><s>the cat"
    template = make_template(text.replace("the cat", "{prompt}"), tokenizer)
    assert tokenize_prompt(Prompt.from_text("the cat"), template, tokenizer) == ids
    assert ids == tuple(tokenizer("the cat")["input_ids"])


def test_a_beginning_without_a_bos_token_is_kept() -> None:
    tokenizer = byte_level(prefix=["<gate>"])
    assert tokenizer.bos_token_id is None
    ids = tokenize_prompt(Prompt.from_text("the cat"), make_template("paper", tokenizer), tokenizer)
    assert ids[0] == tokenizer.convert_tokens_to_ids("<gate>")


def test_names_that_cannot_be_told_from_text_stay_as_the_tokenizer_reads_them() -> None:
    tokenizer = byte_level(pad="!", eos="\n\n")
    ids = tokenize_prompt(Prompt.from_text("Stop!"), make_template("paper", tokenizer), tokenizer)
    text = make_template("paper", tokenizer).render(Prompt.from_text("Stop!"))
    assert ids == tuple(tokenizer(text)["input_ids"])


def test_a_vocabulary_that_holds_the_name_as_a_word_is_refused_with_the_row() -> None:
    inner = Tokenizer(WordLevel({"<?>": 0, "</end>": 1, "cat": 2}, unk_token="<?>"))
    inner.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</end>", unk_token="<?>")
    template = make_template("Say: {prompt}", tokenizer)
    pair = Pair(Prompt.from_text("cat"), "cat </end> cat", "cat", source="mine, line 7")
    with pytest.raises(DataError, match=r"mine, line 7(?s:.)*</end>(?s:.)*special_tokens_in_text"):
        tokenize_pairs([pair], tokenizer, template, max_length=9, too_long="drop")


def test_a_template_that_takes_messages_apart_at_a_special_token_is_refused() -> None:
    twice = "{% for m in messages %}{{ '</end>' if m.content.startswith('</end>') }}{{ m.content }}{% endfor %}"
    tokenizer = byte_level(chat=twice)
    with pytest.raises(DataError, match=r"takes a message apart(?s:.)*</end>"):
        make_template("chat", tokenizer).render(Prompt.from_text("</end> and"))


def test_marks_in_a_text_are_refused() -> None:
    tokenizer = byte_level()
    with pytest.raises(DataError, match=r"U\+FDD0"):
        make_template("plain", tokenizer).render(Prompt.from_text("a\ufdd0b"))
