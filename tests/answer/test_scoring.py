from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from functools import partial
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from answer_toys import tiny_model, tiny_tokenizer
from test_decoding import CONFIGS, END, lively
from transformers import AutoModelForCausalLM, Gemma2Config, GraniteConfig

from sacpo.answer.generate import generate_answers
from sacpo.answer.scoring import kl_terms, score_answers, score_trees
from sacpo.data.packing import Tree, flat_rows
from sacpo.data.records import Answer, Prompt
from sacpo.data.templates import make_template
from sacpo.errors import DataError
from sacpo.merge import MixedModel
from sacpo.recipe.schema import GenerationSpec

PLAIN = make_template("plain", tiny_tokenizer())
TOKENIZER = tiny_tokenizer()
PROMPTS = [Prompt.from_text(" ".join(f"w{(7 * i + j) % 30}" for j in range(1 + i % 5))) for i in range(12)]
SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
OTHERS = {
    "gemma2": Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=1.0),
    "granite": GraniteConfig(**SMALL, logits_scaling=8.0),
}
SAMPLED = GenerationSpec(max_new_tokens=10, do_sample=True)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model(TOKENIZER)


@pytest.fixture(scope="module")
def other() -> Any:
    return tiny_model(TOKENIZER, seed=1)


@pytest.fixture(scope="module")
def answers(model: Any) -> list[Answer]:
    return generate_answers(model, TOKENIZER, PROMPTS, PLAIN, SAMPLED, model_name="m", seed=3)


def score(model: Any, answers: Sequence[Answer], tokens: int = 40) -> list[float]:
    return score_answers(model, TOKENIZER, answers, PLAIN, tokens=tokens)


@torch.no_grad()
def by_hand(model: Any, answer: Answer) -> float:
    """The sum of the log-softmax at each token, without batch or padding."""
    prompt = TOKENIZER(answer.prompt.text, add_special_tokens=False)["input_ids"]
    logps = torch.log_softmax(model(input_ids=torch.tensor([[*prompt, *answer.tokens]])).logits[0].double(), -1)
    return sum(logps[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer.tokens))


def mixtures(model: Any, other: Any) -> dict[str, Any]:
    return {"one": model, "mixed": MixedModel([model, other], [0.7, 0.3])}


@pytest.mark.parametrize("kind", ["one", "mixed"])
def test_a_score_is_the_sum_of_the_tokens_log_probs(model: Any, other: Any, answers: list[Answer], kind: str) -> None:
    scored = mixtures(model, other)[kind]
    assert score(scored, answers) == pytest.approx([by_hand(scored, answer) for answer in answers], abs=1e-4)
    assert {answer.truncated for answer in answers} == {True, False}


@pytest.mark.parametrize("kind", ["one", "mixed"])
def test_the_probabilities_of_all_answers_add_up_to_one(model: Any, other: Any, kind: str) -> None:
    """Every answer of at most 2 tokens: the end; a token and the end; two tokens without an end, cut there.

    Only if an ended answer counts its end token and a truncated one none is the sum 1.
    """
    size, end = len(TOKENIZER), TOKENIZER.eos_token_id
    words = [token for token in range(size) if token != end]
    completions = [(end,), *((word, end) for word in words), *itertools.product(words, words)]
    answers = [Answer(PROMPTS[1], "m", "", tokens=tokens, truncated=tokens[-1] != end) for tokens in completions]
    logps = score(mixtures(model, other)[kind], answers, tokens=8192)
    assert torch.tensor(logps, dtype=torch.float64).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("kind", ["one", "mixed"])
def test_a_score_does_not_depend_on_the_batch(model: Any, other: Any, answers: list[Answer], kind: str) -> None:
    scored = mixtures(model, other)[kind]
    together = score(scored, answers, tokens=200)
    for size in (1, 30):
        assert score(scored, answers, tokens=size) == pytest.approx(together, abs=1e-5)
    assert score(scored, answers[::-1], tokens=200) == pytest.approx(together[::-1], abs=1e-5)


def test_several_answers_to_a_prompt_are_scored_with_the_prompt_once(
    model: Any, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = generate_answers(model, TOKENIZER, PROMPTS[4:6], PLAIN, SAMPLED, model_name="m", seed=3, samples=5)
    several = [*several[::2], *several[1::2]]
    alone = [score(other, [answer])[0] for answer in several]
    seen: list[int] = []
    real = other.model.embed_tokens.forward
    monkeypatch.setattr(other.model.embed_tokens, "forward", lambda ids: seen.append(ids.numel()) or real(ids))
    lengths = {a.prompt.id: len(TOKENIZER(a.prompt.text, add_special_tokens=False)["input_ids"]) for a in several}
    whole = sum(len(answer.tokens) + lengths[answer.prompt.id] for answer in several)
    monkeypatch.setattr("sacpo.answer.scoring.shared_layout", lambda *_: partial(flat_rows, pad_id=0))
    assert score(other, several, tokens=whole) == pytest.approx(alone, abs=1e-4)
    assert len(seen) == 1 and seen[0] <= sum(lengths.values()) + sum(len(answer.tokens) for answer in several)
    seen.clear()
    assert score(other, several, tokens=whole // 2) == pytest.approx(alone, abs=1e-4)
    assert 2 <= len(seen) <= 3 and sum(seen) <= whole - 6 * min(lengths.values())


@pytest.mark.parametrize("name", ["bloom", "gemma2", "granite", "llama"])
def test_every_model_scores_several_answers_as_one_by_one(name: str) -> None:
    """Bloom counts columns, so its rows hold one answer; Gemma 2 takes rows with a mask."""
    model = lively(CONFIGS[name]) if name in CONFIGS else AutoModelForCausalLM.from_config(OTHERS[name]).eval()
    trees = [Tree((5, 6, 7), ((8, 9, *[10] * n, END),)) for n in range(4)] + [Tree((11, 6), ((8, END),))]
    found = score_trees(model, TOKENIZER, trees)
    with torch.no_grad():
        for tree, logp in zip(trees, found, strict=True):
            ids = torch.tensor([[*tree.prompt, *tree.completions[0]]])
            logps = model(input_ids=ids).logits[0].double().log_softmax(-1)
            start = len(tree.prompt) - 1
            own = sum(float(logps[start + i, token]) for i, token in enumerate(tree.completions[0]))
            assert logp == pytest.approx(own, abs=1e-4)


def test_padding_counts(other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One long answer among many short ones."""
    seen: list[int] = []
    real = other.model.embed_tokens.forward
    monkeypatch.setattr(other.model.embed_tokens, "forward", lambda ids: seen.append(ids.numel()) or real(ids))
    trees = [Tree((5, 6 + i % 20), ((8, 2),)) for i in range(20)] + [Tree((5, 7, 9), ((8,) * 20,))]
    monkeypatch.setattr("sacpo.answer.scoring.shared_layout", lambda *_: None)
    score_trees(other, TOKENIZER, trees, tokens=40)
    assert len(seen) == 3 and max(seen) == 40


def test_the_decoded_tokens_count_and_not_the_text_tokenised_again(model: Any, answers: list[Answer]) -> None:
    other_text = [dataclasses.replace(answer, text="w1 w1 w1") for answer in answers]
    assert score(model, other_text) == score(model, answers)
    fewer = [dataclasses.replace(answer, tokens=answer.tokens[:2]) for answer in answers]
    assert sum(fewer_ > all_ + 0.1 for fewer_, all_ in zip(score(model, fewer), score(model, answers), strict=True)) > 8


def test_a_mixture_at_its_ends_scores_as_its_models(model: Any, other: Any, answers: list[Answer]) -> None:
    assert score(MixedModel([model, other], [1.0, 0.0]), answers) == pytest.approx(score(model, answers), abs=1e-4)
    assert score(MixedModel([model, other], [0.0, 1.0]), answers) == pytest.approx(score(other, answers), abs=1e-4)
    assert score(MixedModel([model, other], [0.0, 1.0]), answers) != pytest.approx(score(model, answers), abs=1.0)


def test_a_mixture_generates_what_it_scores_as_most_probable(model: Any, other: Any) -> None:
    mixed = MixedModel([model, other], [0.7, 0.3])
    spec = GenerationSpec(max_new_tokens=4)
    greedy = generate_answers(mixed, TOKENIZER, PROMPTS, PLAIN, spec, model_name="mixed", seed=0)
    for answer in greedy[:4]:
        first = [dataclasses.replace(answer, tokens=(token,)) for token in range(len(TOKENIZER))]
        scores = score(mixed, first, tokens=8192)
        assert scores.index(max(scores)) == answer.tokens[0]


def test_the_divergence_of_a_model_from_itself_is_exactly_zero(model: Any, answers: list[Answer]) -> None:
    assert kl_terms(score(model, answers), score(model, answers)) == [0.0] * len(answers)


def test_the_terms_average_to_the_divergence(model: Any, other: Any) -> None:
    """Answers of one token, 3000 samples: the mean is within 4 standard errors of the exact sum over the vocabulary."""
    spec = GenerationSpec(max_new_tokens=1, do_sample=True, batch_size=1000)
    prompt = PROMPTS[2:3]
    drawn = generate_answers(model, TOKENIZER, prompt, PLAIN, spec, model_name="m", seed=0, samples=3000)
    terms = kl_terms(score(model, drawn, 1000), score(other, drawn, 1000))
    ids = torch.tensor([TOKENIZER(prompt[0].text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        ours, theirs = (torch.log_softmax(m(input_ids=ids).logits[0, -1].double(), -1) for m in (model, other))
    exact = (ours.exp() * (ours - theirs)).sum().item()
    assert abs(fmean(terms) - exact) < 4 * stdev(terms) / 3000**0.5
    assert exact > 0.05


def test_an_answer_without_its_tokens_is_refused(model: Any) -> None:
    answer = Answer(Prompt.from_text("w1", id="soup"), "elsewhere", "w2")
    with pytest.raises(DataError, match=r"answer of elsewhere to prompt soup"):
        score(model, [answer])
