"""Stages: their order, what they say that they read, plans, loops that revisit stages."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline_toys import HELPFUL, RECIPE, recipe, stages
from pydantic import BaseModel

from sacpo.answer.traits import BOUNDS
from sacpo.data.records import Kind
from sacpo.errors import RecipeError
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.experiment import derived_seed, kl_sets_of
from sacpo.pipeline.outside import OneFile
from sacpo.pipeline.run import plan
from sacpo.pipeline.runner import Do, Plan, Runner, check_start, depends
from sacpo.pipeline.stage import UNCOUNTED, UNSAID, Stage
from sacpo.pipeline.stages.answers import Answers
from sacpo.pipeline.stages.batch import Batch
from sacpo.pipeline.stages.certificate import Certificate, CertificatePlan, Labels
from sacpo.pipeline.stages.data import Data
from sacpo.pipeline.stages.drawn import Drawn
from sacpo.pipeline.stages.enough import EnoughPrompts
from sacpo.pipeline.stages.harness import Harness, HarnessTasks, TaskFiles
from sacpo.pipeline.stages.heads import Head
from sacpo.pipeline.stages.held import Reached
from sacpo.pipeline.stages.implicit import Calibration, Implied
from sacpo.pipeline.stages.learned import HeadScores
from sacpo.pipeline.stages.pairs import LabelledPairs
from sacpo.pipeline.stages.path import FoundPath, Tried
from sacpo.pipeline.stages.plan import Forecast, Found, Trial
from sacpo.pipeline.stages.race import Race, RacedAnswers, RacedVerdicts
from sacpo.pipeline.stages.redteam import RedTeam
from sacpo.pipeline.stages.sample_pairs import SamplePairs
from sacpo.pipeline.stages.scaled import Scale
from sacpo.pipeline.stages.train import FromGguf, Training
from sacpo.pipeline.stages.traits import SampleTraits
from sacpo.pipeline.stages.verdicts import JudgedAlone, JudgedByPanel, Verdicts
from sacpo.pipeline.tools import Tools
from sacpo.recipe.harness import HarnessSpec
from sacpo.recipe.schema import PathSpec
from sacpo.system.runs import RunFolder


def keys(*overrides: str, **changes: Any) -> dict[str, str]:
    return {stage.name: stage.key for stage in stages(*overrides, **changes)}


def changed(*overrides: str) -> set[str]:
    """Return the stages whose key another recipe changes, adds or drops."""
    before, after = keys(), keys(*overrides)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def touched(names: set[str], *prefixes: str) -> bool:
    return all(any(name == prefix or name.startswith(f"{prefix}/") for prefix in prefixes) for name in names)


def test_every_stage_stands_behind_what_it_reads() -> None:
    done: set[str] = set()
    for stage in stages():
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
        (
            "evaluate.generation.batch_size=3",
            {"generate", "kl", "judge", "measure", "select", "theory", "report", "chosen"},
        ),
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
    (tmp_path / "judged.jsonlx").write_text("another")
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
    assert kl_sets_of(recipe()) == ["report"]
    constrained = "constraints=[{metric: kl, prompts: tuning, at_most: 1.0}]"
    assert kl_sets_of(recipe(constrained)) == ["tuning", "report"]
    assert kl_sets_of(recipe("theory.prompts=spare")) == ["report", "spare"]
    assert kl_sets_of(recipe("evaluate.kl_prompts=0", "theory=null")) == []


@dataclass(frozen=True)
class Note(Stage[str]):
    """Writes its text behind what its parents wrote; without fields that are stages it starts a chain."""

    title: str
    text: str = ""
    parents: tuple[Stage[str], ...] = ()
    done: list[str] = field(default_factory=list, metadata=UNCOUNTED)
    dies: bool = field(default=False, metadata=UNCOUNTED)

    @property
    def name(self) -> str:
        return self.title

    def work(self, out: Path, tools: Tools) -> None:
        if self.dies:
            raise KeyboardInterrupt
        (out / "text").write_text("".join(tools.read(parent) for parent in self.parents) + self.text)
        self.done.append(self.title)

    def read(self, folder: Path) -> str:
        return (folder / "text").read_text()


def chain() -> list[Note]:
    x, y = Note("a/x", "x"), Note("a/y", "y")
    b = Note("b", "b", (x,))
    return [x, y, b, Note("c", "c", (b,)), Note("d", "d", (y,)), Note("ab")]


def planned(folder: RunFolder, stages: list[Note], redo: Any = lambda stage: False) -> Plan:
    return Plan(folder, redo).of(lambda do: [do(stage) for stage in stages] and None)


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
    assert {stage.name for stage in chain() if depends(stage, start)} == names


def test_an_unknown_stage_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such stage") as caught:
        check_start(planned(RunFolder(tmp_path), chain()), "e")
    assert caught.value.allowed == ["a/x", "a/y", "b", "c", "d", "ab"]


def test_a_plan_says_what_doing_does(tmp_path: Path) -> None:
    stages = chain()
    with RunFolder(tmp_path) as folder:
        runner = Runner(folder, Tools(folder))
        assert [status.state for status in planned(folder, stages).statuses] == ["open"] * 6
        for stage in stages[:3]:
            runner(stage)
        folder.partial("ab", stages[5].key).mkdir()
        found = [status.state for status in planned(folder, stages).statuses]
        assert found == ["done"] * 3 + ["open"] * 2 + ["resumed"]
        again = planned(folder, stages, lambda stage: stage.name == "b")
        assert [status.state for status in again.statuses][:3] == ["done", "done", "open"]
        for stage in stages:
            runner(stage)
        assert runner.read(stages[3]) == "xbc"
        assert {*(status.state for status in planned(folder, stages).statuses)} == {"done"}


def test_a_stage_that_is_done_and_then_read_is_planned_once(tmp_path: Path) -> None:
    x, b = Note("x", "x"), Note("b", "b")
    plan = Plan(RunFolder(tmp_path)).of(lambda do: do(x) and do(b) and do.read(x) and None)
    assert [status.stage.name for status in plan.statuses] == ["x", "b"]
    assert plan.later == ["then, by what x finds: what it asks for"]


def test_what_a_stage_reads_must_be_done(tmp_path: Path) -> None:
    """A stage cannot name another that is not among its fields; one that is not finished is refused."""
    x, _, b, *_ = chain()
    with RunFolder(tmp_path) as folder:
        runner = Runner(folder, Tools(folder))
        with pytest.raises(LookupError, match="stage a/x is not finished"):
            runner(b)
        runner(x)
        assert runner.read(b) == "xb"
        runner(Note("a/x", "other"))
        with pytest.raises(LookupError, match="stage a/x is not finished"):
            Tools(folder).read(x)


def test_what_no_result_depends_on_is_in_no_key() -> None:
    assert Note("a", "x", dies=True, done=["z"]).key == Note("a", "x").key
    assert len({Note("a", "x").key, Note("b", "x").key, Note("a", "y").key, Note("a", "x", (Note("b"),)).key}) == 4


def test_a_field_without_a_key_is_refused() -> None:
    class Opaque:
        pass

    with pytest.raises(TypeError, match="Opaque"):
        _ = Note("a", Opaque()).key  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="wrap it in a Source"):
        _ = Note("a", recipe().data["shown"]).key  # type: ignore[arg-type]


def other(value: Any) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, Mapping):
        return (
            {**value, "another": 1} if not value else {**dict([*value.items()][:-1]), "another": [*value.values()][-1]}
        )
    if isinstance(value, tuple):
        return value[:-1] if value else ("another",)
    if isinstance(value, Checkpoint):
        return replace(value, place=Note("another"))
    if isinstance(value, BaseModel):
        name, change = changed_options(value)
        return value.model_copy(update={name: change})
    return Note("another") if value is None else replace(value, **first_change(value))


def changed_options(value: BaseModel) -> tuple[str, Any]:
    """Return an option of a pydantic model that holds a number or a text, and another value of it."""
    fields = [name for name in type(value).model_fields if isinstance(getattr(value, name), int | float | str)]
    return fields[0], other(getattr(value, fields[0]))


def first_change(value: Any) -> dict[str, Any]:
    name = fields(value)[0].name
    return {name: other(getattr(value, name))}


def subclasses(of: type[Any]) -> set[type[Any]]:
    return {of, *(found for sub in of.__subclasses__() for found in subclasses(sub))}


def searched() -> list[Stage[Any]]:
    """Return the stages of a search; those behind its forecast are made here, from the recipe's own."""
    auto = recipe("steps.H-S.beta=auto", "merge=[]")
    first: dict[type[Any], Stage[Any]] = {type(s.stage): s.stage for s in plan(auto, runs="nowhere").statuses}
    answers, verdicts = ({"tuning": next(s for s in stages() if isinstance(s, kind))} for kind in (Answers, Verdicts))
    trial = Trial("H-S@0.2", auto.constraints, answers, verdicts, {}, "prompt", 0.2)  # type: ignore[arg-type]
    forecast = first[Forecast]
    assert isinstance(forecast, Forecast)
    drawn, data = first[Drawn], first[Data]
    assert isinstance(drawn, Drawn)
    assert isinstance(data, Data)
    head = HeadScores("H-S", drawn.tokenizer, auto.base, (data,), 64, "truncate", drawn)
    return [*first.values(), trial, Found("H-S", forecast, (trial,), None), head]


def test_every_counted_field_of_every_stage_changes_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each kind of stage one: each field is given another value, and its key must change."""
    monkeypatch.setattr("sacpo.pipeline.stages.harness.harness_version", lambda: "1")
    (tmp_path / "judged.jsonl").write_text('{"prompt": "a?", "chosen": "b", "rejected": "c"}\n')
    data = f"data.judged={{format: preference, path: {tmp_path / 'judged.jsonl'}, holdout: 0.5}}"
    learned = "evaluate.judges.learned={kind: reward-model, dataset: judged}"
    resample: dict[str, Any] = {"judge": {"helpfulness": 1.0, "harmlessness": 2.0}, "samples": 4}
    resample["learn"] = {"helpfulness": "judged"}
    rwr = {"name": "W", "criterion": "joint", "algorithm": "rwr", "beta": 0.2, "dataset": "asked", "resample": resample}
    sampled = stages(data, learned, steps=[*RECIPE["steps"], rwr])
    names = [stage.name for stage in sampled]
    # pairs that are too few to learn from are found before anything is sampled
    assert names.index("head/W/helpfulness") < names.index("samples/W") < names.index("bank/W")
    chosen = stages(data, learned, "steps.W.resample.factors={helpfulness: [1, 2]}", steps=[*RECIPE["steps"], rwr])
    kinds: dict[Any, Any] = {
        type(stage): stage
        for stage in (*stages("merge.0.q=auto"), *stages("merge.1.fidelity=true"), *chosen, *sampled, *searched())
    }
    kinds |= {type(stage): stage for stage in stages("certify={prompts: spare}")}
    race = kinds[Race] = next(stage for stage in stages("evaluate.race={}") if isinstance(stage, Race))
    for kind, raced in ((Answers, RacedAnswers), (Verdicts, RacedVerdicts)):
        kinds[raced] = raced(**{f.name: getattr(kinds[kind], f.name) for f in fields(kind)}, race=race)
    tested = {"H": kinds[Answers]}, {"H": kinds[Verdicts]}
    kinds[Labels] = Labels("H/spare", *(kinds[Verdicts].answers,) * 2, kinds[Verdicts].judges, 2, (Kind.RESTRICTED,), 1)
    kinds[Certificate] = Certificate(kinds[CertificatePlan], *tested, {"H": kinds[Labels]})
    kinds[FoundPath] = FoundPath("P", "linear", ("H", "H-S@0.1"), PathSpec(), ((0.0, kinds[Tried]),))
    (tmp_path / "judged.jsonlx").write_text("another file")
    kinds[FromGguf] = FromGguf(OneFile(str(tmp_path / "judged.jsonl")), "float32")
    for name in ("tasks", "tasksx"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "task.yaml").write_text(name)
    kinds[HarnessTasks] = HarnessTasks(HarnessSpec(tasks=("a",)), TaskFiles(str(tmp_path / "tasks")), None)
    kinds[Harness] = Harness("H", *(kinds[Answers].tokenizer,) * 2, kinds[HarnessTasks], kinds[Answers].base)
    implied = Implied("H", *(kinds[Answers].tokenizer,) * 2, 0.5, kinds[Answers].base, 64, "drop")
    kinds[Calibration] = Calibration(implied, (kinds[Data],))
    kinds[Scale] = Scale("W/harmlessness", kinds[Verdicts].judges[0], (kinds[Data],))
    asked = {**resample, "learn": {}, "batches": 2, "label": dict.fromkeys(resample["judge"], HELPFUL)}
    labelled = stages(steps=[*RECIPE["steps"], {**rwr, "from": "sft", "resample": asked}])
    kinds[Batch] = next(one for one in labelled if isinstance(one, Batch) and one.weigher is not None)
    own = {**asked, "batches": 1, "label": {name: {"judge": name} for name in resample["judge"]}}
    of_samples = (SamplePairs, SampleTraits, EnoughPrompts)
    owned = stages(steps=[*RECIPE["steps"], {**rwr, "from": "sft", "resample": own}])
    kinds |= {type(stage): stage for stage in owned if isinstance(stage, of_samples)}
    kinds[RedTeam] = RedTeam(("privacy",), 2, 0.8, 0)
    of_runs = {kind for kind in subclasses(Stage) if kind.__module__.startswith("sacpo.pipeline.stages.")}
    alone = {kind for kind in of_runs if kind.__module__.endswith(".single")}
    alone |= {JudgedAlone, JudgedByPanel, LabelledPairs, Reached, Training}
    assert {*kinds} == of_runs - alone
    seen = 0
    for stage in kinds.values():
        for f in fields(stage):
            if f.metadata.get("counted", True):
                changed = replace(stage, **{f.name: other(getattr(stage, f.name))})
                assert changed.key != stage.key, f"{type(stage).__name__}.{f.name}"
                seen += 1
    assert seen > 100


@dataclass(frozen=True)
class Added(Note):
    """A note with an option that came later."""

    option: float = field(default=0.5, metadata=UNSAID)


def test_an_option_that_is_added_leaves_the_keys_of_those_who_do_not_use_it() -> None:
    plain, used = Added("a", "text"), Added("a", "text", option=0.25)
    assert "option" not in plain.config and used.config["option"] == 0.25
    assert used.key != plain.key == Added("a", "text", option=0.5).key
    assert plain.config == {**Note("a", "text").config, "kind": "Added"}


@pytest.mark.parametrize("own", [False, True])
def test_a_recipes_surprise_reaches_who_reads_and_who_learns(tmp_path: Path, own: bool) -> None:
    (tmp_path / "judged.jsonl").write_text('{"prompt": "a?", "chosen": "b", "rejected": "c"}\n')
    data = f"data.judged={{format: preference, path: {tmp_path / 'judged.jsonl'}, holdout: 0.5}}"
    resample: dict[str, Any] = {"judge": {"helpfulness": 1.0, "harmlessness": 1.0}, "samples": 4, "surprise": 0.15}
    resample |= {"label": {"helpfulness": {"judge": "helpfulness"}}} if own else {"learn": {"helpfulness": "judged"}}
    rwr = {"name": "W", "criterion": "joint", "algorithm": "rwr", "beta": 0.2, "dataset": "asked", "resample": resample}
    found = stages(data, steps=[*RECIPE["steps"], {**rwr, "from": "sft"}])
    (head,) = (stage for stage in found if isinstance(stage, Head))
    assert head.surprise == 0.15 and head.reader.bounds == BOUNDS
    assert [stage.reader.bounds for stage in found if isinstance(stage, SampleTraits)] == [BOUNDS] * own


def test_a_stage_that_was_pickled_is_the_same_stage() -> None:
    for stage in stages():
        assert pickle.loads(pickle.dumps(stage)).key == stage.key


def test_a_loop_that_revisits_stages_resumes_in_its_iteration(tmp_path: Path) -> None:
    """Dual ascent in small: each iteration goes on from the last one's text; killed in the third, two are kept."""
    done: list[str] = []

    def loop(do: Do, dies_at: int | None = None) -> str:
        last: Note | None = None
        for i in range(3):
            parents = () if last is None else (last,)
            last = do(Note(f"train/{i}", str(i), parents, done, dies=i == dies_at))
        assert last is not None
        return do.read(last)

    with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path) as folder:
        loop(Runner(folder, Tools(folder)), dies_at=2)
    with RunFolder(tmp_path) as folder:
        assert loop(Runner(folder, Tools(folder))) == "012"
    assert done == ["train/0", "train/1", "train/2"]
