from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sacpo.merge.weights import combine, linear, tabulate, task_vectors

A, B, BASE = Path("a"), Path("b"), Path("base")


def test_a_task_vector_sum_is_a_combination_whose_coefficients_add_up_to_one() -> None:
    combination = task_vectors([A, B], BASE, (0.5, 0.5), scale=3.0)
    assert combination == {BASE: -1.5, A: 1.0, B: 1.5}
    assert list(combination)[-1] == B, "the later model comes last: its configuration is taken"


def test_a_task_vector_sum_with_the_first_model_as_base_is_a_linear_merge() -> None:
    assert task_vectors([A, B], A, (0.75, 0.25)) == linear([A, B], (0.75, 0.25)) == {A: 0.75, B: 0.25}


def test_a_model_merged_with_itself_is_itself() -> None:
    assert linear([A, A], (0.75, 0.25)) == {A: 1.0}


def test_combinations_of_one_later_model_share_a_table() -> None:
    terms, rows = tabulate(
        [linear([A, B], (0.75, 0.25)), task_vectors([A, B], BASE, (0.5, 0.5)), linear([A, B], (0.0, 1.0))]
    )
    assert terms == [A, BASE, B]
    assert rows == [[0.75, 0.0, 0.25], [1.0, -0.5, 0.5], [0.0, 0.0, 1.0]]


def test_combinations_of_different_later_models_are_refused() -> None:
    with pytest.raises(ValueError, match="same later model"):
        tabulate([linear([A, B], (0.5, 0.5)), linear([B, A], (0.5, 0.5))])


def test_bfloat16_is_summed_in_float32_and_rounded_once() -> None:
    """256 + 1 - 256 is 0 in bfloat16 arithmetic, where 257 rounds to 256; in float32 it is 1."""
    parts = [torch.tensor([value], dtype=torch.bfloat16) for value in (256.0, 1.0, 256.0)]
    (result,) = combine(parts, [[1.0, 1.0, -1.0]])
    assert result.dtype == torch.bfloat16
    assert result.item() == 1.0


def test_float64_is_summed_in_float64() -> None:
    parts = [torch.tensor([1.0], dtype=torch.float64), torch.tensor([1.0 + 2**-40], dtype=torch.float64)]
    assert combine(parts, [[0.5, 0.5]])[0].item() == 1.0 + 2**-41


FLOATS = st.floats(-100, 100, width=32)


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=40), st.floats(0, 1))
def test_a_linear_merge_is_the_float64_formula_to_float32_precision(
    values: list[tuple[float, float]], q: float
) -> None:
    first, later = (torch.tensor(column) for column in zip(*values, strict=True))
    (merged,) = combine([first, later], [[1 - q, q]])
    exact = (1 - q) * first.double() + q * later.double()
    bound = 3 * 2**-24 * ((1 - q) * first.double().abs() + q * later.double().abs()) + 1e-37
    assert bool(((merged.double() - exact).abs() <= bound).all())


@given(
    st.lists(st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1)), min_size=1, max_size=40),
    st.sampled_from([torch.bfloat16, torch.float16]),
)
def test_the_ends_of_a_sweep_are_the_models_themselves_to_the_bit(
    bits: list[tuple[int, int]], dtype: torch.dtype
) -> None:
    """Any bit pattern at all, so negative zeros, infinities and NaN with their payloads too."""
    columns = (torch.tensor(column, dtype=torch.int32).to(torch.int16) for column in zip(*bits, strict=True))
    first, later = (column.view(dtype) for column in columns)
    at_zero, at_one = combine([first, later], [[1.0, 0.0], [0.0, 1.0]])
    assert torch.equal(at_zero.view(torch.int16), first.view(torch.int16))
    assert torch.equal(at_one.view(torch.int16), later.view(torch.int16))


@given(st.integers(1, 99), st.floats(0, 1))
def test_a_merge_does_not_depend_on_where_a_tensor_is_cut(cut: int, q: float) -> None:
    first, later = torch.randn(2, 100, generator=torch.Generator().manual_seed(cut))
    whole = combine([first, later], [[1 - q, q]])[0]
    pieces = [combine([first[s], later[s]], [[1 - q, q]])[0] for s in (slice(None, cut), slice(cut, None))]
    assert torch.equal(whole, torch.cat(pieces))
