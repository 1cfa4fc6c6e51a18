"""Parts of a recipe that do not fit together: exit 2, one message with its parts, no traceback, and no run folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_input_cases import ABSENT, RECIPE, Case, check, lay_out, sacpo

STEP = RECIPE["steps"][0]
SAMPLED = {"prompts": "demos", "judge": "refusal"}
REFERENCES = [
    Case(
        "unknown-data",
        {"steps.0.dataset": "pair"},
        what="unknown data source",
        where="steps.0.dataset",
        value="'pair'",
        allowed="demos, pairs",
        do="did you mean 'pairs'?",
    ),
    Case(
        "sft-on-pairs",
        {"sft.dataset": "pairs"},
        what="SFT learns from demonstrations",
        where="recipe.yaml, sft.dataset",
        value="pairs (holds pairs)",
        allowed="demos",
        do="as: demonstrations",
    ),
    Case(
        "dpo-on-demonstrations",
        {"steps.0.dataset": ["pairs", "demos"]},
        what="DPO learns from pairs",
        where="steps.0.dataset",
        value="demos (holds demonstrations)",
        allowed="pairs",
    ),
    Case(
        "kto-on-prompts",
        {"steps.0.algorithm": "kto", "data.pairs.format": "prompts"},
        what="KTO learns from pairs or from unpaired records",
        where="steps.0.dataset",
        value="pairs (holds prompts)",
        allowed="none is defined",
    ),
    Case(
        "kto-on-two-kinds",
        {
            "steps.0.algorithm": "kto",
            "steps.0.dataset": ["pairs", "more"],
            "data.more": {"format": "unpaired", "path": "more.jsonl"},
        },
        what="several kinds",
        where="steps.0.dataset",
        value="pairs (holds pairs), more (holds unpaired)",
        do="as",
    ),
    Case(
        "reward-model-on-demonstrations",
        {"evaluate.judges.x": {"kind": "reward-model", "dataset": "demos"}},
        what="a reward model learns from pairs",
        where="evaluate.judges.x.dataset",
        allowed="pairs",
    ),
    Case("sft-unknown-data", {"sft.dataset": "nothing"}, what="unknown data source", where="sft.dataset", do="define"),
    Case("tokenizer-unknown-data", {"base.tokenizer.datasets": ["demo"]}, where="base.tokenizer.datasets", do="demos"),
    Case(
        "quantised-without-lora",
        {"base.quantization": {"bits": 4}, "sft": ABSENT, "steps.0.lora": {"r": 4}},
        what="only plain LoRA",
        where="steps.1.lora",
        do="without use_dora",
    ),
    Case(
        "quantised-dora",
        {
            "base.quantization": {"bits": 4},
            "sft.lora": {"r": 4, "use_dora": True},
            "steps.0.lora": {},
            "steps.1.lora": {},
        },
        what="only plain LoRA",
        where="sft.lora",
        value="'use_dora': True",
    ),
    Case("bpe-of-nothing", {"base.tokenizer.datasets": []}, what="trained on", where="base.tokenizer.datasets"),
    Case(
        "from-unknown",
        {"steps.1.from": "HH"},
        what="no such model",
        where="steps.1.from",
        value="'HH'",
        allowed="sft, H",
        do="did you mean 'H'?",
    ),
    Case("cycle", {"steps.0.from": "H-S"}, what="cycle", where="steps.", value="H -> H-S -> H", do="sft"),
    Case("from-itself", {"steps.0.from": "H"}, what="cycle", where="steps.0.from", value="H -> H"),
    Case("from-a-merge", {"steps.1.from": "P@q0.5"}, what="merge", where="steps.1.from", value="'P@q0.5'"),
    Case("two-steps-of-one-name", {"steps.1.name": "H"}, what="same name", where="steps", value="'H'", do="rename"),
    Case("step-named-sft", {"steps.0.name": "sft"}, what="same name", where="steps.0", value="'sft'", do="rename"),
    Case("merge-named-as-step", {"merge.0.name": "H", "merge.0.q": 0.5}, what="same name", value="'H'", do="rename"),
    Case(
        "merge-unknown",
        {"merge.0.models": ["H", "S"]},
        what="no such model",
        where="merge.0.models",
        value="'S'",
        allowed="sft, H, H-S",
    ),
    Case(
        "merge-a-sweep",
        {"steps.1.beta": [0.1, 0.2]},
        what="stands for several models",
        where="merge.0.models",
        allowed="H-S@0.1, H-S@0.2",
        do="name one",
    ),
    Case(
        "merge-a-merge",
        {"merge": [*RECIPE["merge"], {"name": "PP", "models": ["H", "P@q0.5"], "q": 0.5}]},
        what="not between merged ones",
        where="merge.1.models",
        value="'P@q0.5'",
        allowed="sft, H, H-S",
    ),
    Case("baseline", {"evaluate.baseline": "sftt"}, what="unknown model", where="evaluate.baseline", do="'sft'?"),
    Case("evaluated", {"evaluate.models": ["H", "G"]}, what="unknown model", where="evaluate.models", value="'G'"),
    Case(
        "prompt-set",
        {"constraints.0.prompts": "tunning"},
        what="unknown prompt set",
        where="constraints.0.prompts",
        allowed="tuning, report",
        do="did you mean 'tuning'?",
    ),
    Case(
        "constraint-on-report",
        {"constraints.0.prompts": "report"},
        what="tuning prompts only",
        where="constraints.0.prompts",
        value="report (role report)",
        allowed="tuning",
        do="role",
    ),
    Case(
        "objective-on-report",
        {"objective": {"criterion": "refusal", "prompts": "report"}},
        what="tuning prompts only",
        where="objective.prompts",
    ),
    Case(
        "constraint-without-criterion",
        {"constraints.0.metric": "win_rate"},
        what="needs a criterion",
        where="constraints.0.criterion",
        allowed="refusal",
        do="criterion",
    ),
    Case(
        "constraint-without-judge",
        {"constraints.0": {"metric": "win_rate", "criterion": "harmless", "prompts": "tuning", "at_least": 0.5}},
        what="unknown judge",
        where="constraints.0.criterion",
        value="'harmless'",
        do="define the judge",
    ),
    Case(
        "unsafe-rate-nobody-measures",
        {"constraints.0": {"metric": "unsafe_rate", "prompts": "tuning", "at_most": 0.1}},
        what="unsafe_rate",
        where="constraints.0.metric",
        do="judge",
    ),
    Case(
        "judge-skips-the-prompts",
        {
            "evaluate.judges.helpfulness": {"kind": "reward-model", "model": "x", "prompts": ["report"]},
            "objective": {"criterion": "helpfulness", "prompts": "tuning"},
        },
        what="not judged",
        where="recipe.yaml, objective.prompts",
        value="tuning",
        allowed="report",
        do="add 'tuning' to evaluate.judges.helpfulness.prompts",
    ),
    Case(
        "judge-of-unknown-prompts",
        {"evaluate.judges.refusal.prompts": ["reprt"]},
        what="unknown prompt set",
        where="evaluate.judges.refusal.prompts",
        do="did you mean 'report'?",
    ),
    Case(
        "objective-of-a-label-judge",
        {"objective": {"metric": "mean_score", "criterion": "refusal", "prompts": "tuning"}},
        what="gives labels, not scores",
        where="objective",
        value="'refusal'",
    ),
    Case(
        "kl-without-samples",
        {"constraints.0": {"metric": "kl", "prompts": "tuning", "at_most": 1}},
        what="kl",
        where="constraints.0.metric",
        do="evaluate.kl_prompts",
    ),
    Case(
        "oracle-without-world",
        {"evaluate.judges.harmlessness": {"kind": "oracle"}},
        what="an oracle needs a world",
        where="evaluate.judges.harmlessness.kind",
        do="add a 'world' section",
    ),
    Case(
        "oracle-of-unknown",
        {"evaluate.judges.kindness": {"kind": "oracle"}, "world": {}},
        what="knows no such criterion",
        where="evaluate.judges.kindness",
        allowed="helpfulness, harmlessness, over_refusal, politeness, brevity, refusal",
    ),
    Case("judge-without-model", {"evaluate.judges.x": {"kind": "reward-model"}}, what="exactly one of 'model' and"),
    Case(
        "sampled-from-refusal",
        {"steps.0.dataset": SAMPLED},
        what="labels, not scores",
        where="steps.0.dataset.judge",
        do="reward-model judge",
    ),
    Case(
        "sampled-from-oracle-refusal",
        {"steps.0.dataset": SAMPLED, "world": {}, "evaluate.judges.refusal": {"kind": "oracle"}},
        what="labels, not scores",
        where="steps.0.dataset.judge",
    ),
    Case(
        "world-data-without-world",
        {"data.more": {"format": "world", "split": "pairs", "limit": 5}},
        what="needs a 'world' section",
        where="data.more.format",
        do="world",
    ),
    Case("world-tokenizer-without-world", {"base.tokenizer": {"kind": "world"}}, where="base.tokenizer", do="world"),
    Case(
        "theory-prompts",
        {"theory": {"prompts": "repot", "beta": 0.5, "target": 1}},
        what="unknown prompt set",
        where="theory.prompts",
    ),
    Case(
        "theory-without-world",
        {"theory": {"prompts": "report", "beta": 0.5, "target": 1, "reward": "refusal", "safety": "refusal"}},
        what="world",
        where="theory",
    ),
]


@pytest.mark.parametrize("case", REFERENCES, ids=lambda case: case.name)
def test_parts_of_a_recipe_that_do_not_fit(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(case)
    check(case, sacpo(case.argv, capsys, monkeypatch))
    assert not [path for path in Path("runs").rglob("*") if path.is_file() and path.name != ".lock"]
