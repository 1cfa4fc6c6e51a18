"""A reward model's scores: the text it reads, padding, truncation, sign and labels, against plain forward passes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from answer_toys import tiny_tokenizer
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from sacpo.data.records import Prompt
from sacpo.errors import ModelError
from sacpo.judging.kinds import Parts, make_scores
from sacpo.judging.reward_model import reward_model_scores
from sacpo.recipe.schema import BaseSpec, JudgeSpec

TEXTS = [("w1 w2", "w3"), ("w4", "w5 w6 w7 w8 w9 w10"), ("w1 w2 w3 w4", ""), ("w2", "w2 w11")]


def config(**options: object) -> LlamaConfig:
    tokenizer = tiny_tokenizer()
    given = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "num_labels": 1} | options
    return LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **given,
    )


def write(folder: Path, model: torch.nn.Module) -> Path:
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def judge_model() -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(config()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    return model


@pytest.fixture(scope="module")
def folder(judge_model: LlamaForSequenceClassification, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("reward"), judge_model)


def base(folder: Path) -> BaseSpec:
    return BaseSpec(model=str(folder), template="plain", device="cpu", dtype="float32")


def pairs() -> list[tuple[Prompt, str]]:
    return [(Prompt.from_text(prompt), text) for prompt, text in TEXTS]


def by_hand(model: LlamaForSequenceClassification, tokens: list[int]) -> float:
    """The logit behind the last token of one row, without any padding."""
    with torch.no_grad():
        hidden = model.model(torch.tensor([tokens])).last_hidden_state[0, -1]
        return float(model.score(hidden)[0])


def expected(model: LlamaForSequenceClassification, most: int = 512) -> list[float]:
    tokenizer = tiny_tokenizer()
    return [by_hand(model, [*tokenizer(f"{p} {t}").input_ids, tokenizer.eos_token_id][:most]) for p, t in TEXTS]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_scores_are_the_logit_behind_the_end_token(
    judge_model: LlamaForSequenceClassification, folder: Path, batch_size: int
) -> None:
    """Right padding in any batch changes nothing; the reference rows hold prompt, answer and end token alone."""
    scores = reward_model_scores(folder, base(folder), batch_size=batch_size)(pairs())
    values = [score.value for score in scores]
    assert values == pytest.approx(expected(judge_model), abs=1e-5)
    assert max(expected(judge_model)) - min(expected(judge_model)) > 0.1
    assert {score.label for score in scores} == {""}


def test_sign_and_labels(judge_model: LlamaForSequenceClassification, folder: Path) -> None:
    """A cost model's scores are minus its logits; a score on the threshold is safe, those below are unsafe."""
    costs = [-value for value in expected(judge_model)]
    threshold = sorted(costs)[1] + 1e-4
    scores = reward_model_scores(folder, base(folder), sign=-1, unsafe_below=threshold)(pairs())
    assert [score.value for score in scores] == pytest.approx(costs, abs=1e-5)
    assert [score.label for score in scores] == ["unsafe" if cost < threshold else "safe" for cost in costs]
    assert [score.label for score in scores].count("unsafe") == 2
    exact = scores[0].value
    assert exact is not None
    (on_it,) = reward_model_scores(folder, base(folder), sign=-1, unsafe_below=exact)(pairs()[:1])
    assert on_it.label == "safe"


def test_answers_are_cut_and_prompts_without_room_have_no_score(
    judge_model: LlamaForSequenceClassification, folder: Path
) -> None:
    """With 4 tokens the second answer loses its end; the third prompt alone has 4 tokens, so nothing is judged."""
    scores = reward_model_scores(folder, base(folder), max_length=4, unsafe_below=0.0)(pairs())
    wanted = expected(judge_model, most=4)
    assert [scores[i].value for i in (0, 1, 3)] == pytest.approx([wanted[i] for i in (0, 1, 3)], abs=1e-5)
    assert (scores[2].value, scores[2].label) == (None, "")


def test_a_model_without_a_padding_token_reads_the_end_token(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = LlamaForSequenceClassification(config(pad_token_id=None)).eval()
    folder = write(tmp_path / "m", model)
    values = [score.value for score in reward_model_scores(folder, base(folder))(pairs())]
    assert values == pytest.approx(expected(model), abs=1e-5)


def score_model(folder: Path, model: LlamaForSequenceClassification, *, bias: float | None, **options: object) -> Path:
    """Write a classifier as the Safe RLHF project writes its score models."""
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "score.weight"}
    weights["score_head.weight"] = model.score.weight.detach().clone()
    if bias is not None:
        weights["score_head.bias"] = torch.tensor([bias])
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tiny_tokenizer().save_pretrained(folder)
    config = {**model.config.to_dict(), "architectures": ["LlamaModelForScore"], "score_dim": 1, **options}
    for name in ("num_labels", "id2label", "label2id", "problem_type"):  # theirs have none
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("bias", [None, 0.25])
def test_score_models_of_safe_rlhf(judge_model: LlamaForSequenceClassification, tmp_path: Path, bias: float) -> None:
    """Their head is called score_head and may have a bias, which shifts every score."""
    folder = score_model(tmp_path / "beaver", judge_model, bias=bias)
    values = [score.value for score in reward_model_scores(folder, base(folder))(pairs())]
    assert values == pytest.approx([value + (bias or 0.0) for value in expected(judge_model)], abs=1e-5)


def test_score_models_that_would_score_otherwise_are_refused(
    judge_model: LlamaForSequenceClassification, tmp_path: Path
) -> None:
    normalised = score_model(tmp_path / "normalised", judge_model, bias=None, do_normalize=True)
    with pytest.raises(ModelError, match="normalises"):
        reward_model_scores(normalised, base(normalised))
    folder = score_model(tmp_path / "headless", judge_model, bias=None)
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "head" not in k}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="lack tensors"):
        reward_model_scores(folder, base(folder))


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    causal = write(tmp_path / "causal", LlamaForCausalLM(config()))
    with pytest.raises(ModelError, match="random weights"):
        reward_model_scores(causal, base(causal))
    two = write(tmp_path / "two", LlamaForSequenceClassification(config(num_labels=2)))
    with pytest.raises(ModelError, match="one logit"):
        reward_model_scores(two, base(two))


OWN_CODE = """
from pathlib import Path
from transformers import LlamaConfig

Path(r"{marker}").write_text("")


class Own(LlamaConfig):
    model_type = "own"
"""


@pytest.mark.parametrize("own", [True, False], ids=["its own", "the base's"])
def test_consent_to_code_is_given_per_model(
    own: bool, judge_model: LlamaForSequenceClassification, tmp_path: Path
) -> None:
    """The base's consent runs no judge's code; the judge's own does."""
    folder, marker = write(tmp_path / "judge", judge_model), tmp_path / "ran"
    (folder / "own.py").write_text(OWN_CODE.format(marker=marker))
    settings = json.loads((folder / "config.json").read_text())
    changed = {**settings, "model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(changed))
    spec = JudgeSpec(kind="reward-model", model=str(folder), trust_remote_code=own)
    trusted = BaseSpec(model="another/model", template="plain", device="cpu", trust_remote_code=not own)
    with pytest.raises(ModelError, match="." if own else r"code of its own(.|\n)*the judge's own"):
        make_scores(Parts("helpfulness", spec, trusted, str(folder)))
    assert marker.exists() is own


def test_the_consent_of_a_trained_judge_is_the_bases() -> None:
    with pytest.raises(ValidationError, match="trust_remote_code"):
        JudgeSpec(kind="reward-model", dataset="pairs", trust_remote_code=True)
