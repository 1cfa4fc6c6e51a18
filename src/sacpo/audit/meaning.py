"""How different the prompts of a set are in what they mean, by the vectors of a sentence encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from sacpo.models.embeddings import embed
from sacpo.plain import JsonObject

DRAWN, DRAWS = 80, 20
"""Sets of any size are compared by so many prompts, drawn so many times."""
SAME = 0.9
"""Prompts whose vectors have at least this cosine say the same in other words."""


def meaning(encoder: str | Path, texts: Sequence[str]) -> JsonObject:
    """Return how different texts are in what they mean.

    `similarity` is the mean cosine of two of them, `effective` the effective number of meanings among 80, a mean over
    draws (of all where there are fewer), `same` how many have an earlier one with a cosine of .9 or more.
    """
    vectors = embed(encoder, texts)
    random = Random(len(texts))
    places = range(len(texts))
    draws = [random.sample(places, min(DRAWN, len(texts))) for _ in range(DRAWS if len(texts) > DRAWN else 1)]
    cosines = vectors @ vectors.T
    earlier = np.tril(cosines, -1)
    n = len(texts)
    return {
        "similarity": float(earlier.sum() / (n * (n - 1) / 2)) if n > 1 else None,
        "effective": math.fsum(effective_number(vectors[draw]) for draw in draws) / len(draws),
        "same": int((earlier >= SAME).any(1).sum()),
    }


def effective_number(vectors: NDArray[np.float64]) -> float:
    """Return the effective number of different vectors of length 1: exp of the entropy of the eigenvalues of K/n.

    K has their cosines. n vectors at right angles count n, n equal ones count 1.

    Shape: (n, width).

    Source: the Vendi score, Friedman and Dieng 2023, arXiv 2210.02410.
    """
    values = np.linalg.eigvalsh(vectors @ vectors.T / len(vectors))
    kept = values[values > 1e-12]
    return float(np.exp(-(kept * np.log(kept)).sum()))
