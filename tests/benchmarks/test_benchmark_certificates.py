"""The simulated studies of certificates: none is false too often, and a search is bolder than a grid."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.certificates import BOUND, DELTA, WAYS, rate, row


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, float]]:
    return {name: row(way(np.random.default_rng([1, i]))) for i, (name, way) in enumerate(WAYS.items())}


def test_certificates_are_false_at_most_as_often_as_promised(found: dict[str, dict[str, float]]) -> None:
    for name, one in found.items():
        if "conformal" not in name and "believed" not in name:
            assert one["limit"] <= DELTA, name


def test_a_search_is_bolder_than_a_corrected_grid(found: dict[str, dict[str, float]]) -> None:
    search, grid = found["fixed sequence, candidates of a search"], found["Bonferroni over a grid of 17"]
    assert search["rate"] > grid["rate"]
    assert search["taken"] > 0.99


def test_conformal_control_is_of_the_expected_risk(found: dict[str, dict[str, float]]) -> None:
    """Its mean risk keeps the bound, and it is above it far more often than delta."""
    conformal = found["conformal risk control over the grid"]
    assert conformal["rate"] <= BOUND
    assert conformal["false"] > 0.3


def test_the_path_leads_through_the_bound() -> None:
    assert rate(np.array([0.0, 1.0])).tolist() == pytest.approx([0.6, 0.01])
