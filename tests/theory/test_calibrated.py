"""A score learned from pairs is in their logits, or says that they do not tell its scale."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from sacpo.errors import DataError
from sacpo.theory.calibrated import calibrated_head

RNG = np.random.default_rng(3)
TRUTH = np.array([1.5, -1.0, 0.5, 0.0])


def test_the_scale_of_the_preferences_is_found() -> None:
    """4,000 single votes: scores regress on the true ones with a slope near 1, whatever the features' unit."""
    rows = RNG.normal(size=(4000, 4))
    votes = (RNG.random(4000) < expit(rows @ TRUTH)).astype(float)
    for unit in (1.0, 1000.0):
        head = calibrated_head(unit * rows, votes)
        fresh = RNG.normal(size=(500, 4))
        slope = np.polyfit(fresh @ TRUTH, head.scores(unit * fresh), 1)[0]
        assert slope == pytest.approx(1.0, abs=0.12)
        assert head.accuracy == pytest.approx(float((expit(np.abs(rows @ TRUTH))).mean()), abs=0.03)
        assert not head.separable
        assert (head.pairs, head.heldout) == (3000, 1000)


def test_separable_labels_do_not_identify_a_scale() -> None:
    rows = RNG.normal(size=(400, 4))
    rows = rows[np.abs(rows @ TRUTH) > 0.5]
    head = calibrated_head(rows, (rows @ TRUTH > 0).astype(float))
    assert head.separable
    assert head.factor == 1.0
    soft = calibrated_head(rows, expit(rows @ TRUTH))
    assert not soft.separable  # soft labels tell the scale, even where every side is told apart


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(DataError, match="too few preference pairs"):
        calibrated_head(np.ones((79, 2)), np.ones(79))
