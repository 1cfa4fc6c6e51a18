"""What a model's tokenizer brings to a training: ends of turns, padding, and tokens that the model does not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_tokenizers import CHATML, byte_level
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from sacpo import PreferenceConfig, PreferenceTrainer, api
from sacpo.align.job import TrainingJob
from sacpo.align.reward_model import train_reward_model
from sacpo.data.records import Pair, Prompt
from sacpo.errors import ModelError
from sacpo.judging.reward_model import reward_model_scores
from sacpo.models.loading import build_model, load_model, save_model
from sacpo.models.tokens import generation_ends
from sacpo.recipe.schema import BaseSpec

TURNS = ["<|im_start|>", "<|im_end|>"]
PHI = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n{% else %}</end>{% endif %}")
PAIRS = [("Where is the cat?", "It sat on the mat.", "No"), ("And then?", "it slept", "the cat sat on it")]
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": None,
}


def write(folder: Path, tokenizer: PreTrainedTokenizerFast, added: str | None = None, **config: Any) -> Path:
    """Write an untrained model; `added` becomes the padding token after the embeddings were made."""
    model = build_model({**LLAMA, **config}, tokenizer, 0)
    if added is not None:
        tokenizer.add_special_tokens({"pad_token": added})
    save_model(model, tokenizer, folder)
    return folder


def messages() -> list[dict[str, Any]]:
    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    return [
        {"prompt": turn("user", q), "chosen": turn("assistant", a), "rejected": turn("assistant", b)}
        for q, a, b in PAIRS
    ]


def trainer(model: Path, rows: list[dict[str, Any]], out: Path, **options: Any) -> PreferenceTrainer:
    common = {"max_steps": 1, "report_to": "none", "use_cpu": True, "disable_tqdm": True, "logging_steps": 1}
    return PreferenceTrainer(str(model), args=PreferenceConfig(str(out), **common, **options), train_dataset=rows)


def learnt(found: PreferenceTrainer, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    return [str(tokenizer.decode(list(ids))) for ids in found.objective.trees[0].completions]


def list_ends(folder: Path, *ends: int) -> None:
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": ends}))


def test_nothing_is_learnt_behind_a_turn_that_the_generation_config_ends(tmp_path: Path) -> None:
    tokenizer = byte_level(TURNS, chat=PHI)
    folder = write(tmp_path / "m", tokenizer)
    turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert learnt(trainer(folder, messages(), tmp_path / "a"), tokenizer)[1] == "No<|im_end|>\n</end>"
    list_ends(folder, tokenizer.eos_token_id, turn)
    assert generation_ends(folder) == {tokenizer.eos_token_id, turn}
    assert learnt(trainer(folder, messages(), tmp_path / "b"), tokenizer)[1] == "No<|im_end|>"
    rendered = [{"prompt": "q\n", "chosen": "yes<|im_end|>\n", "rejected": "no"}]
    found = learnt(trainer(folder, rendered, tmp_path / "c"), tokenizer)
    assert found == ["yes<|im_end|>", "no</end>"]


def test_a_config_lists_ends_where_there_is_no_generation_config(tmp_path: Path) -> None:
    tokenizer = byte_level(TURNS, chat=PHI)
    folder = write(tmp_path / "m", tokenizer, eos_token_id=[1, 3])
    (folder / "generation_config.json").unlink()
    assert generation_ends(folder) == {1, 3}


def test_a_reward_model_reads_answers_that_end_as_in_its_training(tmp_path: Path) -> None:
    """The classifier's folder keeps the base's list; the score is the logit behind "<|im_end|>"."""
    tokenizer = byte_level(TURNS, chat=PHI)
    base = write(tmp_path / "m", tokenizer)
    list_ends(base, tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>"))
    spec = BaseSpec(model=str(base), device="cpu")
    pairs = [Pair(Prompt.from_text(q), a, b) for q, a, b in PAIRS]
    train_reward_model(TrainingJob("rm", base, spec, {"max_steps": 3, "learning_rate": 0.01}), pairs, tmp_path / "rm")
    folder = tmp_path / "rm" / "model"
    assert generation_ends(folder) == generation_ends(base)
    (score,) = reward_model_scores(folder, spec)([(pairs[0].prompt, pairs[0].chosen)])
    turns = [{"role": "user", "content": PAIRS[0][0]}, {"role": "assistant", "content": PAIRS[0][1]}]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False)).removesuffix("\n</end>")
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        logit = AutoModelForSequenceClassification.from_pretrained(folder).eval()(input_ids=ids).logits[0, 0].item()
    assert score.value == pytest.approx(logit, abs=1e-6)


@pytest.mark.parametrize("algorithm", ["dpo", "kto"])
@pytest.mark.parametrize("layout", ["auto", "padded"])
def test_a_padding_token_without_an_embedding_trains_as_any_other(tmp_path: Path, algorithm: str, layout: str) -> None:
    """Padding is masked, so the first step's metrics are those of a padding token that the model knows."""
    logs = []
    for added in (None, "<|padding|>"):
        folder = write(tmp_path / f"m{added}", byte_level(TURNS, chat=CHATML), added)
        found = trainer(folder, messages(), tmp_path / f"o{added}", algorithm=algorithm, layout=layout)
        found.train()
        found.save_model(str(tmp_path / f"s{added}"))
        logs.append({k: v for k, v in found.state.log_history[0].items() if "logps" in k or "loss" in k})
        assert load_model(tmp_path / f"s{added}").config.pad_token_id in (None, 0)
    assert logs[0] == logs[1] and "loss" in logs[0]


def test_every_stage_takes_a_padding_token_without_an_embedding(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", byte_level(TURNS, chat=CHATML), "<|padding|>")
    rows = [{"prompt": q, "completion": a} for q, a, _ in PAIRS]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"max_steps": 1, "per_device_train_batch_size": 2}
    model = api.sft(folder, str(tmp_path / "d.jsonl"), tmp_path / "s", training=options)
    answers = api.generate(model, str(tmp_path / "d.jsonl"), tmp_path / "g", generation={"max_new_tokens": 3})
    assert len(answers.read_text().splitlines()) == 2
    spec = BaseSpec(model=str(model), device="cpu")
    pairs = [Pair(Prompt.from_text(q), a, b) for q, a, b in PAIRS]
    train_reward_model(TrainingJob("rm", model, spec, options), pairs, tmp_path / "rm", heldout=pairs)
    alone, together = (
        reward_model_scores(tmp_path / "rm" / "model", spec)([(p.prompt, p.chosen) for p in some])
        for some in (pairs[:1], pairs)
    )
    assert alone[0].value == pytest.approx(together[0].value, abs=1e-5)


def test_a_token_of_a_text_without_an_embedding_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level(TURNS, chat=CHATML)
    model = build_model(LLAMA, tokenizer, 0)
    tokenizer.add_tokens(["mat."])
    save_model(model, tokenizer, tmp_path / "m")
    with pytest.raises(ModelError, match=r"no embedding(?s:.)*resize_token_embeddings"):
        trainer(tmp_path / "m", messages(), tmp_path / "a")
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "Which mat."}))
    with pytest.raises(ModelError, match="no embedding"):
        api.generate(tmp_path / "m", str(tmp_path / "p.jsonl"), tmp_path / "g")


def test_a_configured_padding_token_beyond_the_embeddings_is_an_error_of_the_user(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", byte_level(TURNS, chat=CHATML))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 9999}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder)
