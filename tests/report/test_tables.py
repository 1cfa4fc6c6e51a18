"""Words of the report's tables."""

from __future__ import annotations

import pytest

from sacpo.report.tables import of_kinds


@pytest.mark.parametrize(
    ("n", "kinds", "said"),
    [
        (10, {"ordinary": 2, "restricted": 4}, "2 ordinary, 4 restricted, 4 of no kind"),
        (6, {"ordinary": 2, "restricted": 4}, "2 ordinary, 4 restricted"),
        (None, {"restricted": 1200}, "1,200 restricted"),
        (10, {}, ""),
    ],
)
def test_prompts_without_a_kind_are_named_beside_those_that_have_one(
    n: int | None, kinds: dict[str, int], said: str
) -> None:
    assert of_kinds(n, kinds) == said
