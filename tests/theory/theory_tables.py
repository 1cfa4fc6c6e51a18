"""Random small worlds for the tests of theory."""

from __future__ import annotations

import numpy as np

from sacpo.theory.tabular import Table


def table_world(seed: int, prompts: int = 3, answers: int = 5, scores: int = 2) -> tuple[Table, list[Table]]:
    """Return a reference policy with full support and this many scores, of size about 1."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(prompts, answers))
    policy = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return policy, [random.normal(size=(prompts, answers)) for _ in range(scores)]


def drawn(policy: Table, n: int, seed: int) -> np.ndarray:
    """Return n answers a prompt, drawn from the policy. Shape: (prompts, n)."""
    random = np.random.default_rng(seed)
    return np.stack([random.choice(len(row), size=n, p=row) for row in policy])


def looked_up(score: Table, answers: np.ndarray) -> Table:
    """Return the scores of drawn answers. Shape: (prompts, n)."""
    return np.take_along_axis(score, answers, 1)
