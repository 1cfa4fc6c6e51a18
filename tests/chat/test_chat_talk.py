"""Answers along a path of models, as they are decoded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_toys import ANSWERS, CONTEXT, QUESTIONS, text_of, tokenizer
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from sacpo import api
from sacpo.chat import Setting, setting_of_models
from sacpo.chat.history import fitted
from sacpo.chat.talk import Asked, Talk
from sacpo.data.answers import read_answers
from sacpo.data.records import Answer, Message, write_jsonl
from sacpo.data.templates import make_template
from sacpo.errors import DataError, RecipeError

Family = dict[str, Path]
ASK = (Message("user", QUESTIONS[0]),)


def setting(family: Family, **options: Any) -> Setting:
    options = {"generation": {"max_new_tokens": 16}, "beside": str(family["sft"]), **options}
    return setting_of_models([str(family["helpful"]), str(family["safe"])], **options)


@pytest.fixture(scope="module")
def talk(family: Family) -> Talk:
    return Talk(setting(family))


def test_the_answer_follows_q_from_helpful_to_safe(talk: Talk) -> None:
    assert text_of([*talk.answer(Asked(ASK, 0.0))]) == ANSWERS["helpful"]
    safe = [*talk.answer(Asked(ASK, 1.0))]
    assert text_of(safe) == ANSWERS["safe"]
    assert safe[-1]["done"]["judged"] == [
        {"criterion": "refusal", "judge": "refusal-patterns", "label": "full_refusal", "score": None}
    ]
    assert text_of([*talk.answer(Asked(ASK, 0.0, beside=True))]) == ANSWERS["sft"]
    assert text_of([*talk.answer(Asked(ASK, 0.0))]) == ANSWERS["helpful"], "the model beside stayed in the weights"


def test_an_answer_comes_word_by_word_and_is_what_generate_writes(talk: Talk, family: Family, tmp_path: Path) -> None:
    events = [event for event in talk.answer(Asked(ASK, 1.0)) if event]
    assert [event["add"].strip() for event in events[:-1]] == ANSWERS["safe"].split()
    write_jsonl(tmp_path / "p.jsonl", [{"prompt": QUESTIONS[0]}])
    api.generate(family["safe"], tmp_path / "p.jsonl", tmp_path / "out", name="safe", generation={"max_new_tokens": 16})
    (written,) = read_answers(tmp_path / "out")
    assert Answer.from_json(events[-1]["done"]["record"]) == written


def test_sampled_answers_are_numbered_and_come_again(talk: Talk) -> None:
    def sampled(sample: int) -> str:
        return text_of([*talk.answer(Asked(ASK, 0.5, temperature=2.0, sample=sample))])

    found = [sampled(sample) for sample in range(4)]
    assert len({*found}) > 1 and found == [sampled(sample) for sample in range(4)]


def test_models_between_are_named_by_their_q(talk: Talk) -> None:
    done = [*talk.answer(Asked(ASK, 0.25))][-1]["done"]
    assert done["record"]["model"] == "helpful..safe@q0.25"
    assert [talk.setting.name_at(q) for q in (0.0, 1.0)] == ["helpful", "safe"]


def test_one_answer_at_a_time_and_a_closed_one_makes_way(talk: Talk) -> None:
    first: Iterator[dict[str, Any]] = talk.answer(Asked(ASK, 0.0))
    assert next(first) == {"add": "first"}
    second: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: second.extend(talk.answer(Asked(ASK, 1.0))), daemon=True)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive() and [event for event in second if event] == [
        {"notice": "another answer is being written; this one waits for it"}
    ]
    first.close()  # type: ignore[attr-defined]
    thread.join(30)
    assert text_of(second) == ANSWERS["safe"]


def turns(n: int) -> tuple[Message, ...]:
    """Return a conversation of n questions; each exchange takes 16 tokens, the last question 9."""
    before = [m for i in range(n - 1) for m in (Message("user", QUESTIONS[i]), Message("assistant", "you wait . then"))]
    return (*before, Message("user", QUESTIONS[n - 1]))


def test_the_oldest_exchanges_are_left_out_and_that_is_said() -> None:
    """48 positions, 12 of them for an answer: 36 tokens may stay. 9 + 2 * 14 = 37 is one too many."""
    words = tokenizer()
    template = make_template("chat", words)
    long = fitted(turns(3), template, words, CONTEXT, 16)
    assert long.prompt.messages == turns(3)[2:]
    assert long.notice == "the oldest exchange was left out: the model reads at most 48 tokens"
    short = fitted(turns(2), template, words, CONTEXT, 16)
    assert (short.prompt.messages, short.notice) == (turns(2), "")
    assert len(short.tokens) + short.room <= CONTEXT
    system = Message("system", "ask the owner")
    kept = fitted((system, *turns(4)), template, words, CONTEXT, 16)
    assert kept.prompt.messages[0] == system and "oldest exchanges" in kept.notice
    with pytest.raises(DataError, match="this question is too long: the model reads 48 tokens"):
        fitted((Message("user", "steal " * 60),), template, words, CONTEXT, 16)


def test_a_conversation_is_cut_at_the_models_positions(talk: Talk) -> None:
    events = [*talk.answer(Asked(turns(4), 1.0))]
    assert events[0]["notice"].startswith("the 2 oldest exchanges") and "done" in events[-1]


def test_a_template_without_turns_asks_each_question_by_itself(family: Family) -> None:
    plain = setting(family, base={"template": "plain"})
    assert "knows no turns" in plain.alone
    record = [*Talk(plain).answer(Asked(turns(2), 1.0))][-1]["done"]["record"]
    assert [message["content"] for message in record["prompt"]["messages"]] == [QUESTIONS[1]]


def test_mixed_logits_move_too(family: Family) -> None:
    mixed = Talk(setting(family, method="token-level"))
    assert mixed.how == "logits"
    assert text_of([*mixed.answer(Asked(ASK, 0.0))]) == ANSWERS["helpful"]
    assert text_of([*mixed.answer(Asked(ASK, 1.0))]) == ANSWERS["safe"]
    assert text_of([*mixed.answer(Asked(ASK, 1.0, beside=True))]) == ANSWERS["sft"]


def test_adapters_on_one_base_move_without_another_model(family: Family, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(family["sft"])
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=9.0)
    model.save_pretrained(tmp_path / "lora")
    found = setting_of_models([str(family["sft"]), str(tmp_path / "lora")], generation={"max_new_tokens": 16})
    moved = Talk(found)
    assert moved.how == "adapters"
    texts = [text_of([*moved.answer(Asked(ASK, q))]) for q in (0.0, 1.0, 0.0)]
    assert texts[0] == texts[2] == ANSWERS["sft"] != texts[1]
    assert text_of([*moved.answer(Asked(ASK, 1.0, beside=True))]) == ANSWERS["sft"]


def test_one_model_has_no_path(family: Family) -> None:
    alone = setting_of_models([str(family["safe"])])
    assert not alone.moves and alone.beside is None
    assert text_of([*Talk(alone).answer(Asked(ASK, 0.3))]) == ANSWERS["safe"]
    with pytest.raises(RecipeError, match="no path to move along"):
        setting_of_models([str(family["safe"])], q=0.5)
    with pytest.raises(RecipeError, match="between two"):
        setting_of_models([str(family["safe"])] * 3)
