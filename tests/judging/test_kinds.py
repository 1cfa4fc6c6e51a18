"""The registry of judges: what a recipe knows of a kind and its module fit together."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

import sacpo.judging.kinds as package
from sacpo.errors import RecipeError
from sacpo.judging.kinds import Parts, kinds, make_judge, make_scores
from sacpo.pipeline.judges import options_of
from sacpo.recipe.schema import JUDGES, BaseSpec, JudgeKind, JudgeSpec, WorldSpec
from sacpo.world import World

SPECS = {
    "oracle": JudgeSpec(kind="oracle"),
    "refusal": JudgeSpec(kind="refusal"),
    "reward-model": JudgeSpec(kind="reward-model", model="m"),
    "llm": JudgeSpec(kind="llm", panel={"model": "m"}),
}
BASE = BaseSpec(model="m")


def test_every_kind_is_a_module_and_in_the_recipes_table() -> None:
    """A module without its line, and a line without its module, are forgotten registrations."""
    assert kinds() == sorted(JUDGES) == sorted(get_args(JudgeKind)) == sorted(SPECS)


def test_a_forgotten_line_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "word_list.py").write_text("def make(parts):\n    raise NotImplementedError\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert set(kinds()) - set(JUDGES) == {"word-list"}


@pytest.mark.parametrize("kind", sorted(SPECS))
def test_a_kind_has_scores_exactly_where_the_table_says_so(kind: str) -> None:
    parts = Parts("helpfulness", SPECS[kind], BASE, world=World(WorldSpec()))
    if "scores" in SPECS[kind].gives("helpfulness"):
        assert hasattr(package._module(kind), "scores")
        return
    with pytest.raises(RecipeError, match="give no scores") as caught:
        make_scores(parts)
    assert caught.value.do == "name a judge that scores: 'llm' or 'oracle' or 'reward-model'"


@pytest.mark.parametrize(("criterion", "kind"), [("helpfulness", "oracle"), ("refusal", "oracle"), ("x", "refusal")])
def test_a_judge_is_filed_under_its_criterion(criterion: str, kind: str) -> None:
    assert make_judge(Parts(criterion, SPECS[kind], BASE, world=World(WorldSpec()))).criterion == criterion


def test_what_judges_may_say_depends_on_criterion_and_options() -> None:
    assert SPECS["oracle"].gives("helpfulness") == {"scores", "comparisons"}
    assert SPECS["oracle"].gives("harmlessness") == {"scores", "comparisons", "unsafe"}
    assert SPECS["oracle"].gives("refusal") == SPECS["refusal"].gives("any") == {"refusals"}
    assert SPECS["reward-model"].gives("any") == {"scores", "comparisons"}
    cost = JudgeSpec(kind="reward-model", model="m", sign=-1, unsafe_below=0)
    assert cost.gives("any") == {"scores", "comparisons", "unsafe"}
    assert SPECS["llm"].gives("any") == {"scores", "comparisons", "unsafe", "refusals"}


def test_verdicts_depend_on_every_option_that_is_not_counted_elsewhere() -> None:
    """A new option of a judge is in the key of its verdicts unless somebody says that it counts elsewhere."""
    assert sorted(options_of(SPECS["oracle"])) == ["batch_size", "kind", "max_length", "sign", "unsafe_below"]
