"""How different prompts are in what they mean: vectors of an encoder, and how many of them count as different."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from align_toys import word_tokenizer
from transformers import BertConfig, BertModel

from sacpo.audit import audit_prompts
from sacpo.audit.meaning import effective_number
from sacpo.audit.tables import prompt_tables
from sacpo.errors import ModelError
from sacpo.models.embeddings import embed

TEXTS = ("w1 w2 w3", "w4", "w1 w2 w3", "w5 w6 w7 w8 w9 w2")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "model"
    tokenizer = word_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16, max_position_embeddings=64)  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_effective_number_counts_directions() -> None:
    """Four vectors at right angles: 4; four equal ones: 1; two equal pairs: eigenvalues 1/2, 1/2, so 2."""
    eye = np.eye(4)
    assert effective_number(eye) == pytest.approx(4)
    assert effective_number(eye[[0, 0, 0, 0]]) == pytest.approx(1)
    assert effective_number(eye[[0, 0, 1, 1]]) == pytest.approx(2)


def test_a_texts_vector_is_the_mean_of_its_tokens_and_does_not_depend_on_the_others(encoder: Path) -> None:
    found = embed(encoder, TEXTS)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)
    assert found[0] == pytest.approx(found[2], abs=1e-6)
    assert embed(encoder, TEXTS[:1])[0] == pytest.approx(found[0], abs=1e-5)
    tokens = word_tokenizer()(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        states = BertModel.from_pretrained(encoder).eval()(**tokens).last_hidden_state[0]
    mean = states.mean(0).double().numpy()
    assert found[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def test_the_audit_has_meanings_where_an_encoder_is_given(encoder: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "{text}"}}\n' for text in TEXTS))
    (found,) = audit_prompts([str(path)], encoder=str(encoder))["files"]
    vectors = embed(encoder, TEXTS)
    cosines = (vectors @ vectors.T)[np.tril_indices(4, -1)]
    assert found["meaning"]["similarity"] == pytest.approx(cosines.mean())
    assert found["meaning"]["effective"] == pytest.approx(effective_number(vectors))
    assert found["meaning"]["same"] >= 1  # the third says what the first says
    (table,) = [one for one in prompt_tables({"files": [found], "shared": []}) if one.title.startswith("Meanings")]
    assert table.rows[0][0] == "prompts.jsonl"
    (without,) = audit_prompts([str(path)])["files"]
    assert "meaning" not in without
    with pytest.raises(ModelError):
        audit_prompts([str(path)], encoder=str(tmp_path))
