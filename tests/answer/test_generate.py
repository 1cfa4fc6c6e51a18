from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from answer_toys import tiny_model, tiny_tokenizer

from sacpo.answer import generate
from sacpo.answer.generate import ANSWERS, generate_answers, plan_batches, uniforms
from sacpo.data.ends import end_tokens
from sacpo.data.records import Answer, Prompt, read_jsonl
from sacpo.data.templates import make_template
from sacpo.errors import DataError, RecipeError, RunError
from sacpo.recipe.schema import GenerationSpec

PLAIN = make_template("plain", tiny_tokenizer())
TOKENIZER = tiny_tokenizer()
PROMPTS = [Prompt.from_text(" ".join(f"w{(7 * i + j) % 30}" for j in range(1 + i % 7))) for i in range(20)]
GREEDY = GenerationSpec(max_new_tokens=24)
SAMPLED = GenerationSpec(max_new_tokens=24, do_sample=True, temperature=0.9, top_p=0.95)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model(TOKENIZER)


def answers_of(model: Any, spec: GenerationSpec, prompts: Sequence[Prompt] = PROMPTS, **options: Any) -> list[Answer]:
    options = {"model_name": "m", "seed": 5, **options}
    return generate_answers(model, TOKENIZER, prompts, PLAIN, spec, **options)


@pytest.mark.parametrize("spec", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_an_answer_does_not_depend_on_batch_size_company_or_order(model: Any, spec: GenerationSpec) -> None:
    expected = answers_of(model, spec)
    assert len({answer.text for answer in expected}) > 10
    for size in (1, 3):
        assert answers_of(model, spec.model_copy(update={"batch_size": size})) == expected
    shuffled = [PROMPTS[(11 * i + 3) % 20] for i in range(20)]
    by_id = {answer.prompt.id: answer for answer in answers_of(model, spec, shuffled)}
    assert [by_id[prompt.id] for prompt in PROMPTS] == expected
    assert answers_of(model, spec, PROMPTS[4:5]) == expected[4:5]


def test_four_batches_are_one_piece_of_work_in_which_places_are_taken_again(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty prompts in batches of three: twelve rows, then eight, three at a time."""
    asked: list[tuple[int, int]] = []

    def watched(model: Any, rows: Any, *arguments: Any, at_once: int, **options: Any) -> Any:
        asked.append((len(rows), at_once))
        return REAL_DECODE(model, rows, *arguments, at_once=at_once, **options)

    monkeypatch.setattr(generate, "decode", watched)
    answers_of(model, GREEDY.model_copy(update={"batch_size": 3}))
    assert asked == [(12, 3), (8, 3)]


def test_seed_prompt_and_sample_change_an_answer_but_more_samples_do_not(model: Any) -> None:
    three = answers_of(model, SAMPLED, samples=3)
    assert [answer.sample for answer in three[:6]] == [0, 1, 2, 0, 1, 2]
    assert [answer.prompt.id for answer in three[::3]] == [prompt.id for prompt in PROMPTS]
    assert three[::3] == answers_of(model, SAMPLED)
    assert len({answer.text for answer in three[:3]}) == 3
    other = answers_of(model, SAMPLED, seed=6)
    assert sum(a.text != b.text for a, b in zip(three[::3], other, strict=True)) > 15


def test_a_prompt_given_twice_is_sampled_twice(model: Any) -> None:
    twice = answers_of(model, SAMPLED, [PROMPTS[0], PROMPTS[1], PROMPTS[0]])
    assert [answer.sample for answer in twice] == [0, 0, 1]
    pair = answers_of(model, SAMPLED, PROMPTS[:1], samples=2)
    assert [twice[0], twice[2]] == pair


def test_the_random_numbers_are_pinned() -> None:
    """A change of these changes every sampled answer of every seed."""
    found = uniforms(0, "soup", 1, 3)
    assert found == pytest.approx(PINNED, abs=1e-12)
    assert uniforms(0, "soup", 1, 5)[:3].tolist() == found.tolist(), "a longer limit keeps what came before"
    starts = [uniforms(*key, 1)[0] for key in ((0, "soup", 1), (1, "soup", 1), (0, "stew", 1), (0, "soup", 2))]
    assert len(set(starts)) == 4


PINNED = (0.32959812008748757, 0.9763030070451267, 0.747822392850909)


def test_an_answer_ends_at_the_end_token_and_counts_it(model: Any) -> None:
    for answer in answers_of(model, GREEDY) + answers_of(model, SAMPLED):
        ended = answer.tokens[-1] == TOKENIZER.eos_token_id
        assert TOKENIZER.eos_token_id not in answer.tokens[:-1]
        assert answer.truncated is not ended
        assert answer.n_tokens == len(answer.tokens) == (answer.n_tokens if ended else 24)
        assert "<eos>" not in answer.text
    assert {answer.truncated for answer in answers_of(model, SAMPLED)} == {True, False}


def test_every_end_token_of_the_generation_config_ends_an_answer(model: Any) -> None:
    free = answers_of(model, GREEDY)
    token = next(answer.tokens[3] for answer in free if len(answer.tokens) > 6)
    model.generation_config.eos_token_id = [TOKENIZER.eos_token_id, token]
    try:
        assert end_tokens(model, PLAIN) == {TOKENIZER.eos_token_id, token}
        for before, after in zip(free, answers_of(model, GREEDY), strict=True):
            cut = before.tokens.index(token) + 1 if token in before.tokens else len(before.tokens)
            assert after.tokens == before.tokens[:cut]
    finally:
        model.generation_config.eos_token_id = TOKENIZER.eos_token_id


class Script(torch.nn.Module):
    """A model that says the same whatever it is asked."""

    def __init__(self, tokens: Sequence[int]) -> None:
        super().__init__()
        self.tokens, self.device, self.config = list(tokens), torch.device("cpu"), None

    def forward(self, input_ids: torch.Tensor, attention_mask: Any, past_key_values: Any, use_cache: bool) -> Any:
        said = 0 if past_key_values is None else past_key_values.said
        logits = torch.zeros(len(input_ids), 1, 40)
        logits[:, :, self.tokens[said]] = 9.0
        return type("Output", (), {"logits": logits, "past_key_values": Said(said + 1)})


class Said:
    layers: tuple[Any, ...] = ()

    def __init__(self, said: int) -> None:
        self.said = said

    def batch_select_indices(self, rows: torch.Tensor) -> None:
        """Every row has said the same."""


def said(text_tokens: Sequence[str], limit: int = 24) -> Answer:
    script = Script([*TOKENIZER.convert_tokens_to_ids(list(text_tokens)), *[TOKENIZER.eos_token_id] * 30])
    return answers_of(script, GREEDY.model_copy(update={"max_new_tokens": limit}), PROMPTS[:1])[0]


def test_blank_lines_and_the_word_user_do_not_cut_an_answer() -> None:
    answer = said(["w1", "\n\n", "w2", "\n\n\n", "User", ":", "w3"])
    assert answer.text.replace(" ", "") == "w1\n\nw2\n\n\nUser:w3"
    assert answer.n_tokens == 8 and not answer.truncated and not answer.degenerate


def test_truncated_empty_and_repeating_answers_are_flagged() -> None:
    empty = said([])
    assert (empty.text, empty.n_tokens, empty.degenerate, empty.truncated) == ("", 1, "empty", False)
    assert said(["\n\n", "\n"]).degenerate == "empty"
    loop = said(["w1", "w2", "w3"] * 8)
    assert (loop.degenerate, loop.truncated, loop.n_tokens) == ("repeating", True, 24)
    exact = said(["w1"] * 3, limit=4)
    assert (exact.truncated, exact.n_tokens) == (False, 4)
    assert said(["w1"] * 4, limit=4).truncated is True


class Killed(BaseException):
    """Stands for the signal that ends a process."""


@pytest.mark.parametrize("spec", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("torn", [0, 1, 40, -1], ids=["whole", "newline", "half-line", "half-batch"])
def test_a_killed_run_goes_on_and_ends_with_the_same_file(
    model: Any, spec: GenerationSpec, torn: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run dies in its third of seven batches; then `torn` bytes, or a line of the last batch, are lost too."""
    spec = spec.model_copy(update={"batch_size": 3})
    calls = interrupt_after(monkeypatch, 10**9)
    expected = answers_of(model, spec, out=tmp_path / "whole")
    calls = interrupt_after(monkeypatch, 2)
    with pytest.raises(Killed):
        answers_of(model, spec, out=tmp_path / "killed")
    file = tmp_path / "killed" / ANSWERS
    content = file.read_bytes()
    assert content.count(b"\n") == 6
    noted = file.with_name(f".{ANSWERS}.sha256")
    noted.write_bytes(noted.read_bytes()[: None if torn < 40 else -20])  # their hashes are torn as well
    kept = content[: content[:-1].rfind(b"\n") + 1] if torn == -1 else content[: len(content) - torn]
    file.write_bytes(kept)
    calls.clear()

    monkeypatch.setattr(generate, "decode", counted(calls))
    assert answers_of(model, spec, out=tmp_path / "killed") == expected
    assert len(calls) == (5 if torn == 0 else 6), "finished batches are kept, the torn one is done again"
    assert file.read_bytes() == (tmp_path / "whole" / ANSWERS).read_bytes()
    assert [path.name for path in file.parent.iterdir()] == [ANSWERS]


def counted(calls: list[int], limit: int = 10**9) -> Any:
    decode = REAL_DECODE

    def wrapped(model: Any, rows: Any, *arguments: Any, **options: Any) -> Any:
        if len(calls) >= limit:
            raise Killed
        calls.append(len(rows))
        return decode(model, rows, *arguments, **options)

    return wrapped


REAL_DECODE = generate.decode


def interrupt_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> list[int]:
    """Each batch is a piece of work of its own here."""
    calls: list[int] = []
    monkeypatch.setattr(generate, "REFILLED", 1)
    monkeypatch.setattr(generate, "decode", counted(calls, batches))
    return calls


def test_the_file_holds_the_answers_in_the_prompts_order(model: Any, tmp_path: Path) -> None:
    answers = answers_of(model, SAMPLED, out=tmp_path)
    assert read_jsonl(tmp_path / ANSWERS, Answer) == answers
    assert [answer.prompt for answer in answers] == PROMPTS


def test_answers_with_odd_line_separators_are_read_back(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(TOKENIZER), "decode", lambda *args, **options: "a\u2028b\x85c\rd")
    odd = answers_of(model, GREEDY, out=tmp_path)
    assert {answer.text for answer in odd} == {"a\u2028b\x85c\rd"}
    assert answers_of(model, GREEDY, out=tmp_path) == odd


CHANGES: dict[str, Any] = {
    "text": lambda row: {**row, "text": row["text"] + " w1"},
    "tokens": lambda row: {**row, "tokens": [*row["tokens"][:-1], 7]},
    "length": lambda row: {**row, "n_tokens": row["n_tokens"] + 1},
    "truncated": lambda row: {**row, "truncated": not row["truncated"]},
    "no tokens": lambda row: {key: value for key, value in row.items() if key != "tokens"},
    "prompt": lambda row: {**row, "prompt": {**row["prompt"], "messages": [{"role": "user", "content": "w3"}]}},
    "order of keys": lambda row: dict(reversed(row.items())),
}


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "interrupted"])
@pytest.mark.parametrize("change", [*CHANGES])
def test_a_kept_answer_that_was_changed_is_refused_by_its_line(
    model: Any, finished: bool, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the batches of an interrupted generation every byte counts; behind its end, every value."""
    spec = SAMPLED.model_copy(update={"batch_size": 3})
    if not finished:
        interrupt_after(monkeypatch, 2)
        with pytest.raises(Killed):
            answers_of(model, spec, out=tmp_path)
    else:
        answers_of(model, spec, out=tmp_path)
    monkeypatch.setattr(generate, "decode", REAL_DECODE)
    file = tmp_path / ANSWERS
    lines = file.read_text().splitlines()
    lines[1] = json.dumps(CHANGES[change](json.loads(lines[1])), ensure_ascii=False)
    file.write_text("\n".join(lines) + "\n")
    if finished and change == "order of keys":
        assert len(answers_of(model, spec, out=tmp_path)) == 20
        return
    with pytest.raises(RunError, match=r"not what was generated(.|\n)*answers.jsonl, line 2(.|\n)*delete"):
        answers_of(model, spec, out=tmp_path)


def test_answers_that_were_exchanged_between_prompts_are_refused(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(monkeypatch, 2)
    with pytest.raises(Killed):
        answers_of(model, SAMPLED.model_copy(update={"batch_size": 3}), out=tmp_path)
    file = tmp_path / ANSWERS
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["prompt"], rows[1]["prompt"] = rows[1]["prompt"], rows[0]["prompt"]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    with pytest.raises(RunError, match=r"not what was generated(.|\n)*line 1"):
        answers_of(model, SAMPLED.model_copy(update={"batch_size": 3}), out=tmp_path)


def test_answers_of_another_model_are_not_taken(model: Any, tmp_path: Path) -> None:
    answers_of(model, GREEDY, PROMPTS[:2], out=tmp_path)
    with pytest.raises(RunError, match="another model"):
        answers_of(model, GREEDY, PROMPTS[:2], out=tmp_path, model_name="n")
    with pytest.raises(RunError, match=r"other prompts(.|\n)*line 1"):
        answers_of(model, GREEDY, PROMPTS[1:2], out=tmp_path)


def test_a_corrupted_line_is_named(model: Any, tmp_path: Path) -> None:
    answers_of(model, GREEDY, PROMPTS[:3], out=tmp_path)
    lines = (tmp_path / ANSWERS).read_text().splitlines()
    (tmp_path / ANSWERS).write_text("\n".join([lines[0], lines[1][:20], lines[2]]) + "\n")
    with pytest.raises(RunError, match=r"answers.jsonl, line 2"):
        answers_of(model, GREEDY, PROMPTS[:3], out=tmp_path)


def test_a_prompt_that_fills_the_context_is_refused_by_id(model: Any) -> None:
    """The model has 64 positions."""
    long = Prompt.from_text("w1 " * 64, id="long-one")
    with pytest.raises(DataError, match=r"prompt long-one(.|\n)*64 tokens(.|\n)*fewer than 64 tokens"):
        answers_of(model, GREEDY, [PROMPTS[0], long])


def test_an_answer_at_the_contexts_end_is_truncated(model: Any) -> None:
    (answer,) = answers_of(model, GREEDY, [Prompt.from_text("w1 " * 60)])
    assert answer.n_tokens <= 4
    assert answer.truncated is (answer.tokens[-1] != TOKENIZER.eos_token_id)


def test_several_samples_need_sampling(model: Any) -> None:
    with pytest.raises(RecipeError, match="do_sample"):
        answers_of(model, GREEDY, samples=2)


def test_batches_hold_similar_lengths_within_a_token_budget() -> None:
    requests = [
        generate.Request(i, PROMPTS[0], i, (2,) * length, 1000) for i, length in enumerate([9000, 10, 5, 9000, 7000])
    ]
    batches = [[request.place for request in batch] for batch in plan_batches(requests, 16)]
    assert batches == [[2, 1, 4], [0, 3]]  # 4 rows of 10,000 tokens do not fit into 32,768
    assert [[r.place for r in b] for b in plan_batches(requests, 2)] == [[2, 1], [4, 0], [3]]
    longer = [dataclasses.replace(request, limit=8000) for request in requests]
    batches = plan_batches(longer, 16)
    assert [[r.place for r in b] for b in batches] == [[2, 1], [4], [0], [3]]
    assert [generate.rows_at_once(piece, 16) for piece in (batches[0], *generate.pieces_of(batches))] == [4, 1]


def test_the_model_is_left_in_the_mode_it_was_in(model: Any) -> None:
    model.train()
    answers_of(model, GREEDY, PROMPTS[:1])
    assert model.training
    model.eval()
    answers_of(model, GREEDY, PROMPTS[:1])
    assert not model.training


def test_the_token_that_a_chat_template_ends_answers_with_ends_them(model: Any) -> None:
    """No list names it; what was decoded behind it before is gone."""
    free = answers_of(model, GREEDY)
    token = next(answer.tokens[3] for answer in free if len(answer.tokens) > 6)
    tokenizer, name = tiny_tokenizer(), TOKENIZER.convert_ids_to_tokens(token)
    tokenizer.add_special_tokens({"additional_special_tokens": [name]})
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %} " + name + "{% endif %}{% endfor %}"
    )
    prompts = [prompt for prompt in PROMPTS if name not in prompt.text]
    answers = generate_answers(
        model, tokenizer, prompts, make_template("chat", tokenizer), GREEDY, model_name="m", seed=5
    )
    before = {answer.prompt.id: answer.tokens for answer in free}
    for answer in answers:
        whole = before[answer.prompt.id]
        assert answer.tokens == (whole[: whole.index(token) + 1] if token in whole else whole)
    assert any(answer.tokens[-1] == token for answer in answers)
