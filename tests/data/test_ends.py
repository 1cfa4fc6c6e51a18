"""End tokens that a model's generation_config lists."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from answer_toys import tiny_model, tiny_tokenizer

from sacpo.data.ends import EndTokenWarning, end_tokens, listed_ends
from sacpo.data.templates import make_template
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


def test_an_end_token_beyond_the_vocabulary_ends_nothing_and_is_named() -> None:
    """GPT-2's configuration lists 50256 by default, also where a smaller tokenizer was trained."""
    words = tiny_tokenizer()
    model, template = tiny_model(words), make_template("plain", words)
    usual = end_tokens(model, template)
    model.generation_config.eos_token_id = [words.eos_token_id, len(words)]
    with pytest.warns(EndTokenWarning, match=f"lists {len(words)}, and the model has {len(words)} tokens"):
        assert end_tokens(model, template) == usual
