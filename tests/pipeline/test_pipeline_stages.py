"""Stages: their order, what they say that they read, plans, loops that revisit stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline_toys import study

from sacpo.errors import RecipeError
from sacpo.pipeline.build import kl_sets_of, stages_of
from sacpo.pipeline.stages import At, Runner, Stage, depending_on
from sacpo.pipeline.study import derived_seed
from sacpo.system.runs import RunFolder


def keys(*overrides: str, **changes: Any) -> dict[str, str]:
    return {
        status.stage.name: status.key
        for status in Runner(RunFolder(Path("nowhere"))).plan(stages_of(study(*overrides, **changes)))
    }


def changed(*overrides: str) -> set[str]:
    """Return the stages whose key another recipe changes, adds or drops."""
    before, after = keys(), keys(*overrides)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def touched(names: set[str], *prefixes: str) -> bool:
    return all(any(name == prefix or name.startswith(f"{prefix}/") for prefix in prefixes) for name in names)


def test_every_stage_stands_behind_what_it_reads() -> None:
    done: set[str] = set()
    for stage in stages_of(study()):
        assert {*stage.inputs} <= done, stage.name
        assert stage.name not in done
        done.add(stage.name)
    assert len({*keys().values()}) == len(done)


def test_keys_do_not_depend_on_when_they_are_made() -> None:
    assert keys() == keys()


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_seeds_follow_from_the_recipes_seed(first: int, second: int) -> None:
    same = derived_seed(first, "align", "H") == derived_seed(second, "align", "H")
    assert same == (first == second)
    assert 0 <= derived_seed(first, "x") < 2**31
    assert len({derived_seed(first, *parts) for parts in (("a", "b"), ("ab",), ("b", "a"), ("a", "b", ""))}) == 4


def test_a_seeds_value() -> None:
    """`printf '3\\0sft' | sha256sum` begins with 7031e33a; halved, that is 941158813."""
    assert derived_seed(3, "sft") == 941158813


def test_a_strength_changes_its_own_models_and_their_children() -> None:
    own = ("align", "heldout", "generate", "kl", "judge", "measure", "pairs")
    names = changed("steps.H-S.beta=[0.4, 0.2]", "merge.P.models=[H, H-S@0.2]", "merge.D.models=[H, H-S@0.2]",
                    "merge.T.models=[H, H-S@0.2]")  # fmt: skip
    of_models = {"/".join(name.split("/")[:2]) for name in names if name.split("/")[0] in own}
    assert {name for name in of_models if name.startswith("align")} == {"align/H-S@0.1", "align/H-S@0.2"}
    assert {name.split("/")[1] for name in of_models} == {
        "H-S@0.1", "H-S@0.2", "P@q0.25", "P@q1", "D", "T",
    }  # fmt: skip
    assert {name for name in names if "/" not in name} == {"select", "theory", "report", "chosen"}


def test_a_first_step_changes_all_that_grows_from_it() -> None:
    names = changed("steps.H.beta=0.3")
    assert {name for name in names if name.startswith("align/")} == {"align/H", "align/H-S@0.4", "align/H-S@0.1"}
    assert not {name for name in names if name.endswith(("/S", "/S-H")) or "/S-H/" in name or "/sft" in name}


@pytest.mark.parametrize(
    ("override", "kinds"),
    [
        ("report.max_answers=3", {"report", "chosen"}),
        ("evaluate.generation.batch_size=3", {"generate", "judge", "measure", "select", "report", "chosen"}),
        ("evaluate.kl_prompts=5", {"kl", "measure", "select", "theory", "report", "chosen"}),
        ("prompts.spare.limit=9", {"prompts", "overlap", "generate", "judge", "measure", "select", "report", "chosen"}),
        ("theory.target=0.2", {"theory", "report", "chosen"}),
        ("evaluate.baseline=H", {"judge", "measure", "select", "report", "chosen"}),
        ("constraints.0.at_most=0.2", {"select", "report", "chosen"}),
    ],
)
def test_a_change_reaches_these_kinds_of_stages_only(override: str, kinds: set[str]) -> None:
    assert {name.split("/")[0] for name in changed(override)} == kinds


def test_where_an_option_stands_does_not_matter() -> None:
    """The same learning rate given to all steps at once or to each by itself trains the same models."""
    together = keys("training.learning_rate=1.0e-3")
    apart = [
        f"{where}.training.learning_rate=1.0e-3" for where in ("sft", "steps.H", "steps.S", "steps.H-S", "steps.S-H")
    ]
    single = keys(*apart)
    assert {name for name in together if together[name] != single[name]} == {"report", "chosen"}


def test_a_learned_judge_is_trained_again_only_for_its_training(tmp_path: Path) -> None:
    (tmp_path / "judged.jsonl").write_text('{"prompt": "a?", "chosen": "b", "rejected": "c"}\n')
    data = f"data.judged={{format: preference, path: {tmp_path / 'judged.jsonl'}}}"
    learned = "evaluate.judges.helpfulness={kind: reward-model, dataset: judged"
    before = keys("theory=null", data, learned + "}")
    for option, trained in (("sign: -1", False), ("unsafe_below: 0.0", False), ("batch_size: 3", False),
                            ("max_length: 100", True), ("training: {learning_rate: 0.1}", True)):  # fmt: skip
        after = keys("theory=null", data, f"{learned}, {option}}}")
        assert (before["judge-model/helpfulness"] != after["judge-model/helpfulness"]) == trained, option
        assert before["pairs/H"] != after["pairs/H"], option  # its scores label the pairs
        assert before["judge/H/tuning"] != after["judge/H/tuning"], option
        assert before["pairs/S"] == after["pairs/S"], option


def test_steps_that_sample_the_same_pairs_share_them() -> None:
    """H and S-H ask the SFT model the same and have one stage of pairs; half on-policy, each reference has its own."""
    pairs = {name for name in keys() if name.startswith("pairs/")}
    assert pairs == {"pairs/H", "pairs/S"}
    half = "{prompts: asked, judge: harmlessness, sample_from: {sft: 0.5, reference: 0.5}}"
    mixed = {name for name in keys(f"steps.H-S.dataset={half}", f"steps.S.dataset={half}") if name.startswith("pairs/")}
    assert mixed == {"pairs/H", "pairs/H+H-S", "pairs/sft+S"}


def test_kl_is_sampled_where_it_is_used() -> None:
    assert kl_sets_of(study()) == ["report"]
    constrained = "constraints=[{metric: kl, prompts: tuning, at_most: 1.0}]"
    assert kl_sets_of(study(constrained)) == ["tuning", "report"]
    assert kl_sets_of(study("theory.prompts=spare")) == ["report", "spare"]
    assert kl_sets_of(study("evaluate.kl_prompts=0", "theory=null")) == []


def chain() -> list[Stage]:
    def nothing(out: Path, at: At) -> None:
        pass

    return [
        Stage("a/x", nothing),
        Stage("a/y", nothing),
        Stage("b", nothing, inputs=("a/x",)),
        Stage("c", nothing, inputs=("b",)),
        Stage("d", nothing, inputs=("a/y",)),
        Stage("ab", nothing),
    ]


@pytest.mark.parametrize(
    ("start", "names"),
    [
        ("a/x", {"a/x", "b", "c"}),
        ("b", {"b", "c"}),
        ("a", {"a/x", "a/y", "b", "c", "d"}),
        ("a/", {"a/x", "a/y", "b", "c", "d"}),
        ("d", {"d"}),
    ],
)
def test_what_depends_on_a_stage(start: str, names: set[str]) -> None:
    assert depending_on(chain(), start) == names


def test_an_unknown_stage_is_named() -> None:
    with pytest.raises(RecipeError, match="no such stage") as caught:
        depending_on(chain(), "e")
    assert caught.value.allowed == ["a/x", "a/y", "b", "c", "d", "ab"]


def test_a_plan_says_what_doing_does(tmp_path: Path) -> None:
    stages = chain()
    with RunFolder(tmp_path) as folder:
        assert [status.state for status in Runner(folder).plan(stages)] == ["open"] * 6
        Runner(folder).do(stages[:3])
        (status,) = Runner(folder).plan(stages[5:])
        folder.partial("ab", status.key).mkdir()
        assert [status.state for status in Runner(folder).plan(stages)] == ["done"] * 3 + ["open"] * 2 + ["resumed"]
        folder.redo = lambda name: name == "b"
        assert [status.state for status in Runner(folder).plan(stages)][:3] == ["done", "done", "open"]
        runner = Runner(folder)
        runner.do(stages)
        assert {name: found.key for name, found in runner.done.items()} == {
            status.stage.name: status.key for status in Runner(folder).plan(stages)
        }


def test_a_stage_reads_only_what_it_says(tmp_path: Path) -> None:
    def peeks(out: Path, at: At) -> None:
        at("a")

    with RunFolder(tmp_path) as folder:
        runner = Runner(folder)
        runner.do([Stage("a", lambda out, at: None)])
        with pytest.raises(LookupError, match="stage b reads a"):
            runner.do([Stage("b", peeks)])
        runner.do([Stage("b", peeks, inputs=("a",))])


def test_a_loop_that_revisits_stages_resumes_in_its_iteration(tmp_path: Path) -> None:
    """Dual ascent in small: each iteration trains on from the last and decides the next strength.

    With strength 1, answers 2, 3, 4: killed in iteration 2, the first two are kept, and the values are the same.
    """
    done: list[str] = []

    def iteration(i: int, strength: float, dies: bool) -> Stage:
        def train(out: Path, at: At) -> None:
            if dies:
                raise KeyboardInterrupt
            before = float((at(f"train/{i - 1}") / "value").read_text()) if i else 1.0
            (out / "value").write_text(str(before * strength + 1))
            done.append(f"train/{i}")

        return Stage(f"train/{i}", train, {"strength": strength}, (f"train/{i - 1}",) if i else ())

    def loop(n: int, dies_at: int | None = None) -> float:
        strength, value = 1.0, 0.0
        with RunFolder(tmp_path) as folder:
            runner = Runner(folder)
            for i in range(n):
                runner.do([iteration(i, strength, i == dies_at)])
                value = float((runner.done[f"train/{i}"].path / "value").read_text())
                strength = 1.0 if value < 100 else 0.5
        return value

    with pytest.raises(KeyboardInterrupt):
        loop(3, dies_at=2)
    assert loop(3) == 4.0
    assert done == ["train/0", "train/1", "train/2"]
