"""Every class of mistake in a recipe: exit 2, one message with its parts, no traceback, and no run folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_input_cases import ABSENT, RECIPE, Case, check, lay_out, sacpo

STEP = RECIPE["steps"][0]
SAMPLED = {"prompts": "demos", "judge": "refusal"}
UNPARSED = [
    Case("missing", argv=("run", "nowhere.yaml"), what="no such recipe file", where="nowhere.yaml", do="YAML"),
    Case("folder", argv=("run", "."), what="cannot be read", where=".", do="YAML file"),
    Case("below-a-file", argv=("run", "demos.jsonl/x.yaml"), what="no such recipe", where="demos.jsonl/x.yaml"),
    Case(
        "binary",
        files={"recipe.yaml": b"\x7fELF\x02\x01\x00\xff\xfe\x00"},
        what="the recipe file is not text",
        where="recipe.yaml",
        do="UTF-8",
    ),
    Case("control-character", files={"recipe.yaml": b"name: a\x00b"}, what="not valid YAML", where="recipe.yaml"),
    Case(
        "empty",
        files={"recipe.yaml": ""},
        what="is a mapping",
        where="recipe.yaml",
        allowed="name, seed",
        do="KEY: VALUE",
    ),
    Case("list", files={"recipe.yaml": "- a\n- b\n"}, what="is a mapping of sections", value="['a', 'b']"),
    Case(
        "yaml",
        files={"recipe.yaml": "name: a\nbase: {model: x\n"},
        what="not valid YAML",
        where="recipe.yaml, line 3",
        value="expected ',' or '}'",
        do="line",
    ),
    Case(
        "duplicate-key",
        files={"recipe.yaml": "name: a\nname: b\n"},
        what="not valid YAML",
        where="recipe.yaml, line 2, column 1",
        value="key 'name' is given twice",
    ),
    Case(
        "two-documents",
        files={"recipe.yaml": "name: a\n---\nname: b\n"},
        what="not valid YAML",
        where="recipe.yaml",
    ),
    Case(
        "python-object",
        files={"recipe.yaml": "name: !!python/object/apply:os.system [ls]\n"},
        what="not valid YAML",
        where="line 1",
        value="python/object/apply:os.system",
    ),
    Case("number-without-end", files={"recipe.yaml": "seed: " + "9" * 5000}, what="not valid YAML", value="digits"),
    Case("number-tag", files={"recipe.yaml": "seed: !!int abc\n"}, what="not valid YAML", value="abc"),
    Case("nested-too-deep", files={"recipe.yaml": "name: " + "[" * 2000}, what="not valid YAML", value="too deep"),
    Case("endless-alias", files={"recipe.yaml": "name: a\nbase: &a {model: *a}\n"}, what="refers to itself"),
]
KEYS = [
    Case(
        "unknown-key",
        {"step": []},
        what="unknown key 'step'",
        where="recipe.yaml, step",
        allowed="steps",
        do="did you mean 'steps'?",
    ),
    Case(
        "unknown-key-deep",
        {"steps.1.training": {"learning_rte": 1e-4}},
        what="unknown key 'learning_rte'",
        where="recipe.yaml, steps.1.training.learning_rte",
        allowed="learning_rate",
        do="did you mean 'learning_rate'?",
    ),
    Case(
        "unknown-key-alias",
        {"steps.0.form": "sft"},
        what="unknown key 'form'",
        where="steps.0.form",
        do="did you mean 'from'?",
    ),
    Case(
        "unknown-key-in-a-dictionary",
        {"evaluate.judges.refusal.knd": "x"},
        what="unknown key 'knd'",
        where="evaluate.judges.refusal.knd",
        allowed="kind, model",
        do="did you mean 'kind'?",
    ),
    Case(
        "unknown-key-in-sampled-pairs",
        {"steps.0.dataset": {**SAMPLED, "juge": "x"}},
        what="unknown key 'juge'",
        where="steps.0.dataset.juge",
        do="did you mean 'judge'?",
    ),
    Case(
        "key-not-a-text",
        files={"recipe.yaml": "name: a\nbase: {model: x}\n3: 4\n"},
        what="unknown key '3'",
        where="recipe.yaml, 3",
    ),
    Case(
        "missing-key",
        {"steps.0.beta": ABSENT},
        what="the key 'beta' is missing",
        where="recipe.yaml, steps.0.beta",
        do="add 'beta'",
    ),
    Case("no-base", {"base": ABSENT}, what="the key 'base' is missing", where="recipe.yaml, base", do="add 'base'"),
    Case(
        "wrong-type",
        {"steps.0.max_length": "long"},
        what="wrong kind",
        where="steps.0.max_length",
        value="'long'",
        allowed="a whole number",
        do="correct 'max_length'",
    ),
    Case(
        "list-for-mapping",
        {"data": ["pairs"]},
        what="wrong kind",
        where="recipe.yaml, data",
        value="['pairs']",
        allowed="mapping",
    ),
    Case("true-for-a-number", {"steps.0.beta": True}, what="true and false", where="steps.0.beta", do="correct 'beta'"),
    Case("true-in-a-list", {"steps.0.beta": [0.1, True]}, what="true and false", where="steps.0.beta"),
    Case("true-for-a-seed", {"seed": True}, what="true and false", where="seed", value="True"),
    Case(
        "no-name-in-a-list", {"steps.0.dataset": []}, what="wrong kind", where="steps.0.dataset", allowed="at least 1"
    ),
    Case("no-path", {"data.pairs.path": " "}, what="needs a 'path'", where="data.pairs"),
    Case("no-steps", {"training.max_steps": 0}, what="train nothing", where="training.max_steps", do="max_steps"),
    Case("fewer-than-no-steps", {"training.max_steps": -5}, what="range", value="-5", allowed="at least -1"),
    Case("adam", {"training.adam_beta1": 1.5}, what="range", where="training.adam_beta1", allowed="below 1"),
    Case("seed-of-a-training", {"training.seed": -1}, what="range", where="training.seed", allowed="at least 0"),
    Case("named-twice", {"steps.0.dataset": ["pairs", "pairs"]}, what="given twice", where="steps.0", value="pairs"),
    Case("evaluated-twice", {"evaluate.models": ["H", "H"]}, what="given twice", where="evaluate.models", value="H"),
    Case("merge-of-one", {"merge.0.models": ["H"]}, what="two models", where="merge.0.models", do="models"),
    Case("merge-with-itself", {"merge.0.models": ["H", "H"]}, what="two models", where="merge.0.models"),
    Case(
        "merge-named-as-a-step", {"merge.0.name": "H"}, what="same name", where="merge.0.name", value="H", do="rename"
    ),
    Case("ignored-scale", {"merge.0.scale": 2}, what="'scale' is for method 'task-vectors'", where="merge.0"),
    Case("ignored-weight", {"steps.0.desirable_weight": 2}, what="are KTO's", where="steps.0"),
    Case(
        "ignored-weight-of-ipo",
        {"steps.0.algorithm": "ipo", "steps.0.undesirable_weight": "balanced"},
        what="IPO would ignore them",
        where="steps.0",
    ),
    Case(
        "ignored-rounding",
        {"steps.0.algorithm": "kto", "steps.0.soft_labels": False},
        what="'soft_labels' is DPO's, IPO's, robust DPO's, chi-PO's and BSO's: KTO would ignore it",
        where="steps.0",
    ),
    Case(
        "headline-of-tuning-prompts",
        {"report.prompts": {"unsafe_rate": "tuning"}},
        what="unknown prompt set of role report",
        where="report.prompts.unsafe_rate",
        allowed="report",
    ),
    Case(
        "headline-of-no-metric",
        {"report.prompts": {"unsafe": "report"}},
        what="unknown metric",
        where="report.prompts.unsafe",
        do="unsafe_rate",
    ),
    Case("axis-nobody-judges", {"report.x": "safety"}, what="unknown judge", where="report.x", allowed="refusal"),
    Case("all-held-out", {"data.pairs.holdout": 1}, what="held out", where="data.pairs.holdout", do="lower"),
    Case("two-bounds", {"constraints.0.at_least": 1}, what="exactly one of", where="constraints.0", do="constraints.0"),
    Case(
        "from-nothing", argv=("run", "recipe.yaml", "--from", ""), what="no such stage", where="--from", allowed="sft"
    ),
    Case("mapping-for-list", {"steps": STEP}, what="wrong kind", where="recipe.yaml, steps", allowed="a list"),
    Case(
        "text-for-mapping",
        {"sft": "demos"},
        what="wrong kind",
        where="recipe.yaml, sft",
        value="'demos'",
        allowed="mapping",
    ),
    Case("null", {"name": None}, what="no value", where="recipe.yaml, name", allowed="a text", do="correct 'name'"),
    Case("name-with-a-slash", {"name": "../up"}, what="name", where="recipe.yaml, name", value="'../up'"),
    Case(
        "choice",
        {"steps.0.algorithm": "ppo"},
        what="no such choice",
        where="steps.0.algorithm",
        value="'ppo'",
        allowed="dpo, ipo, kto",
    ),
    Case(
        "format-nearly-right",
        {"data.pairs.format": "preferences"},
        where="data.pairs.format",
        value="'preferences'",
        do="did you mean 'preference'?",
    ),
    Case("unset-variable", {"base.device": "${NO_SUCH_VARIABLE}"}, where="base.device", do="export NO_SUCH_VARIABLE="),
]
VALUES = [
    Case(
        "q-above-1", {"merge.0.q": 1.5}, what="outside its range", where="merge.0.q", value="1.5", allowed="at most 1"
    ),
    Case(
        "q-below-0", {"merge.0.q": [0.5, -0.1]}, what="outside", where="merge.0.q.1", value="-0.1", allowed="at least 0"
    ),
    Case(
        "q-text",
        {"merge.0.q": "half"},
        what="wrong kind",
        where="merge.0.q",
        value="'half'",
        allowed="a number, or a list",
    ),
    Case("q-nan", {"merge.0.q": float("nan")}, where="merge.0.q", value="nan"),
    Case("beta-0", {"steps.0.beta": 0}, what="outside", where="steps.0.beta", value="0", allowed="a number above 0"),
    Case(
        "beta-below-0",
        {"steps.0.beta": [0.1, -1]},
        what="outside",
        where="steps.0.beta.1",
        value="-1",
        allowed="a number above 0",
    ),
    Case(
        "beta-infinite",
        {"steps.0.beta": float("inf")},
        what="outside",
        where="steps.0.beta",
        value="inf",
        allowed="a finite number",
    ),
    Case("beta-nan", {"steps.0.beta": float("nan")}, where="steps.0.beta", value="nan"),
    Case("no-beta", {"steps.0.beta": []}, where="steps.0.beta", value="[]", allowed="a list of at least 1"),
    Case(
        "holdout", {"data.pairs.holdout": 2}, what="outside", where="data.pairs.holdout", value="2", allowed="at most 1"
    ),
    Case("two-bases", {"base.model": "x"}, what="exactly one of 'model' and 'config'", where="recipe.yaml, base"),
    Case("no-model-type", {"base.config": {"hidden_size": 8}}, what="'model_type'", where="recipe.yaml, base"),
    Case("template", {"base.template": "no place"}, what="{prompt}", where="base.template", value="'no place'"),
    Case("path-missing", {"data.pairs.path": ABSENT}, what="needs a 'path'", where="data.pairs"),
    Case(
        "both-bounds",
        {"constraints.0.at_least": 1},
        what="exactly one of 'at_most' and 'at_least'",
        where="constraints.0",
    ),
    Case("shares", {"steps.0.dataset": {**SAMPLED, "sample_from": {"sft": 0.4}}}, what="add up to 1", where="sample_"),
    Case(
        "unknown-metric",
        {"constraints.0.metric": "unsafe"},
        where="constraints.0.metric",
        value="'unsafe'",
        allowed="unsafe_rate",
        do="did you mean 'unsafe_rate'?",
    ),
]
COMMAND = [
    Case("set-without-value", argv=("run", "recipe.yaml", "--set", "seed"), where="--set", value="'seed'"),
    Case("set-unknown-key", argv=("run", "recipe.yaml", "--set", "sead=1"), what="unknown key", do="'seed'?"),
    Case(
        "set-wrong-type", argv=("run", "recipe.yaml", "--set", "seed=x"), what="wrong kind", where="seed", value="'x'"
    ),
    Case(
        "set-no-such-item",
        argv=("run", "recipe.yaml", "--set", "steps.Q.beta=1"),
        what="no item of this list",
        where="--set",
        allowed="H, H-S",
    ),
    Case("set-through-a-value", argv=("run", "recipe.yaml", "--set", "name.x=1"), what="plain value", where="--set"),
    Case("set-through-an-item", argv=("run", "recipe.yaml", "--set", "merge.P.models.0.x=1"), what="plain value"),
    Case("set-bad-yaml", argv=("run", "recipe.yaml", "--set", "seed={"), what="not valid YAML", where="--set"),
    Case(
        "from-unknown-stage",
        argv=("run", "recipe.yaml", "--from", "aling/H"),
        what="no such stage",
        where="--from",
        value="'aling/H'",
        allowed="align/H",
        do="did you mean 'align/H'?",
    ),
    Case("schema", argv=("schema", "reciep"), what="no such schema", value="'reciep'", allowed="recipe, results"),
]


@pytest.mark.parametrize("case", [*UNPARSED, *KEYS, *VALUES, *COMMAND], ids=lambda case: case.name)
def test_a_mistake_in_the_recipe(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(case)
    check(case, sacpo(case.argv, capsys, monkeypatch))
    assert not [path for path in Path("runs").rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize("argv", [("validate", "recipe.yaml"), ("run", "recipe.yaml", "--dry-run")])
def test_constraints_without_an_objective_are_told(
    argv: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(Case("none"))
    said = sacpo(argv, capsys, monkeypatch)
    assert said.code == 0
    assert "constraints without an objective choose nothing" in said.out


def test_the_experiment_is_valid_before_it_is_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(Case("none"))
    assert sacpo(("validate", "recipe.yaml"), capsys, monkeypatch).code == 0
