"""What texts mean, as vectors of an encoder: the mean of its last hidden states over the tokens, of length 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from sacpo.errors import ModelError
from sacpo.models.checks import check_place, model_errors
from sacpo.models.loading import load_model

BATCH = 64
"""Texts of a forward pass."""
LONGEST = 256
"""Tokens of a text that count; sentence encoders are trained on no more."""


def embed(encoder: str | Path, texts: Sequence[str]) -> NDArray[np.float64]:
    """Return each text's vector.

    Args:
        encoder: Hub id or folder of a sentence encoder, such as all-MiniLM-L6-v2.
        texts: The texts.

    Shape: (texts, width), each row of length 1.

    Raises:
        ModelError: The encoder cannot be loaded, or gives no hidden states.
    """
    check_place(encoder)
    with model_errors(encoder, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(str(encoder))
    model = load_model(encoder, dtype="float32", device="cpu", model_class=AutoModel)
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found: dict[int, NDArray[np.float64]] = {}
    for start in range(0, len(texts), BATCH):
        places = order[start : start + BATCH]
        rows = tokenizer(
            [texts[place] for place in places], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        with torch.no_grad():
            states = getattr(model(**rows), "last_hidden_state", None)
        if states is None:
            raise ModelError("this model gives no hidden states", where=encoder, do="name a sentence encoder")
        seen = rows["attention_mask"].unsqueeze(-1).to(states.dtype)
        means = torch.nn.functional.normalize((states * seen).sum(1) / seen.sum(1).clamp(min=1), dim=1)
        found.update(zip(places, means.double().numpy(), strict=True))
    return np.array([found[place] for place in range(len(texts))])
