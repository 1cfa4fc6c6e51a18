"""End tokens that a model's generation_config lists."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sacpo.data.ends import listed_ends
from sacpo.errors import DataError


@pytest.mark.parametrize(("listed", "ends"), [(None, set()), (0, {0}), ([2, 7], {2, 7}), ((), set())])
def test_a_number_or_a_list_of_numbers_ends_answers(listed: object, ends: set[int]) -> None:
    assert listed_ends(SimpleNamespace(eos_token_id=listed)) == ends
    assert listed_ends(None) == set()


@pytest.mark.parametrize("listed", ["x", [2, "7"], -1, True, 2.0, {"2": 1}])
def test_what_is_no_number_is_refused_with_the_file_that_says_it(listed: object) -> None:
    with pytest.raises(DataError, match="by its number") as caught:
        listed_ends(SimpleNamespace(eos_token_id=listed))
    assert "generation_config.json" in str(caught.value.where)
