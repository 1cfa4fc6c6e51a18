"""The distance from the path, against cases in which every sequence can be enumerated."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sacpo.errors import DataError
from sacpo.theory.fidelity import fidelity, normaliser

TOKENS, LENGTH = 3, 3


def table(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Return log-probs of all sequences of a model that is drawn token by token, given the tokens before."""
    found: dict[tuple[int, ...], float] = {(): 0.0}
    for _ in range(LENGTH):
        grown = {}
        for before, logp in found.items():
            logits = spread * rng.normal(size=TOKENS)
            logits -= np.log(np.exp(logits).sum())
            grown |= {(*before, token): logp + logits[token] for token in range(TOKENS)}
        found = grown
    return np.array([found[s] for s in itertools.product(range(TOKENS), repeat=LENGTH)])


def token_level(a: np.ndarray, b: np.ndarray, q: float) -> np.ndarray:
    """Return the log-probs of the model that mixes the two models' logits token by token."""
    logp = np.zeros(TOKENS**LENGTH)
    for length in range(LENGTH):
        rest = TOKENS ** (LENGTH - length - 1)
        conditional = []
        for model in (a, b):
            joint = np.exp(model).reshape(TOKENS**length, TOKENS, rest).sum(axis=2)
            conditional.append(np.log(joint / joint.sum(axis=1, keepdims=True)))
        mixed = (1 - q) * conditional[0] + q * conditional[1]
        mixed -= np.log(np.exp(mixed).sum(axis=1, keepdims=True))
        logp += np.repeat(mixed.reshape(-1), rest)
    return logp


def exact_kl(model: np.ndarray, a: np.ndarray, b: np.ndarray, q: float) -> float:
    target = (1 - q) * a + q * b
    target = target - np.log(np.exp(target).sum())
    return float((np.exp(model) * (model - target)).sum())


def samples(rng: np.random.Generator, model: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return rng.choice(len(model), size=shape, p=np.exp(model) / np.exp(model).sum())


@pytest.mark.parametrize("q", [0.3, 0.7])
def test_the_estimate_is_the_enumerated_divergence(q: float) -> None:
    """Of the token-level mixture, and of the first model taken for it, with 27 answers and 4,000 prompts alike."""
    rng = np.random.default_rng(0)
    a, b = table(rng, 2.0), table(rng, 2.0)
    mixed, prompts = token_level(a, b, q), 4000
    bank = np.concatenate([samples(rng, model, (prompts, 16)) for model in (a, b)], axis=1)
    logps = np.stack([a[bank], b[bank]], axis=2)
    log_z = np.log(np.exp((1 - q) * a + q * b).sum())
    found = normaliser(logps, (1 - q, q))
    assert found.log_z.mean() + found.bias == pytest.approx(log_z, abs=0.02)
    assert found.bias > 0
    for model in (mixed, a):
        drawn = samples(rng, model, (prompts,))
        ratios = np.stack([model[drawn] - a[drawn], model[drawn] - b[drawn]], axis=1)
        measured = fidelity(ratios, (1 - q, q), logps)
        truth = exact_kl(model, a, b, q)
        assert measured.kl.value is not None and measured.kl.low is not None and measured.kl.high is not None
        assert measured.kl.low - 0.02 <= truth <= measured.kl.high + 0.02
        alarm = min(exact_kl(a, a, b, q), exact_kl(b, a, b, q))
        assert measured.alarm == pytest.approx(alarm, abs=0.08)
    assert 0.004 < exact_kl(mixed, a, b, q) < min(exact_kl(a, a, b, q), exact_kl(b, a, b, q))


def test_three_models_and_one_that_is_the_mixture_itself() -> None:
    """log pi_m = sum w_k log pi_k - log Z for every answer, so the divergence is 0 but for the error of log Z."""
    rng = np.random.default_rng(1)
    models, w = [table(rng, 0.7) for _ in range(3)], np.array([0.5, 0.3, 0.2])
    target = w @ models
    target = target - np.log(np.exp(target).sum())
    bank = np.concatenate([samples(rng, model, (2000, 12)) for model in models], axis=1)
    logps = np.stack([model[bank] for model in models], axis=2)
    drawn = samples(rng, target, (2000,))
    ratios = np.stack([target[drawn] - model[drawn] for model in models], axis=1)
    measured = fidelity(ratios, w, logps)
    assert measured.kl.value == pytest.approx(0.0, abs=0.01)
    assert measured.believed == 1.0


def test_models_without_overlap_are_not_believed() -> None:
    """Each answers what the other gives e^-30: no sample carries the sum of the mixture."""
    a = np.log(np.array([1 - 2e-13, 1e-13, 1e-13]))
    b = a[[1, 0, 2]]
    bank = np.tile([0] * 8 + [1] * 8, (5, 1))
    found = normaliser(np.stack([a[bank], b[bank]], axis=2), (0.5, 0.5))
    assert found.log_z == pytest.approx(-14.3, abs=0.1)  # 1 e^(-30/2) in truth of both, plus what nobody drew
    one = bank.copy()
    one[:, 1:8] = 2
    assert (normaliser(np.stack([a[one], b[one]], axis=2), (0.9, 0.1)).ess < 16).all()


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="finite log-probs"):
        normaliser(np.zeros((2, 4, 3)), (0.5, 0.5))
    with pytest.raises(DataError, match="same prompts"):
        fidelity(np.zeros((3, 2)), (0.5, 0.5), np.zeros((2, 4, 2)))
