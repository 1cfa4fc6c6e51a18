"""Mistakes in single stages: exit 2, one message, no traceback, no output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bad_input_cases import check, rows, sacpo
from bad_input_models import (
    RESUMED,
    ModelCase,
    no_config,
    pickled,
    poisoned,
    prepare,
    truncated,
    whole_numbers,
)

MERGE = ("merge", "base", "twin", "--q", "0.5", "--out", "out")
MERGES = [
    ModelCase(
        "merge-shapes", argv=("merge", "base", "wide", *MERGE[3:]), what="different", where="wide", do="merge mo"
    ),
    ModelCase(
        "merge-tokenizers",
        argv=("merge", "base", "foreign", *MERGE[3:]),
        what="tokenizers of the models to be merged differ in",
        where="base and foreign",
        do="merge models trained with one tokenizer",
    ),
    ModelCase(
        "merge-dtypes",
        argv=MERGE,
        edits={"twin": whole_numbers},
        what="no floating-point weights",
        where="lm_head.weight",
        do="before they are quantised",
    ),
    ModelCase(
        "merge-into-whole-numbers", argv=(*MERGE, "--dtype", "int8"), where="dtype", value="'int8'", allowed="bfloat16"
    ),
    ModelCase(
        "merge-nan",
        argv=MERGE,
        edits={"twin": poisoned},
        what="not finite",
        where="model.norm.weight",
        value="twin/",
        do="NaN",
    ),
    ModelCase("merge-truncated", argv=MERGE, edits={"twin": truncated}, what="intact", where="twin", do="copy"),
    ModelCase("merge-pickle", argv=MERGE, edits={"twin": pickled}, what="pickles", where="twin", allowed="safetensors"),
    ModelCase("merge-missing", argv=("merge", "base", "twn", *MERGE[3:]), what="no such folder", where="twn", do="id"),
    ModelCase("merge-no-config", argv=MERGE, edits={"twin": no_config}, what="no config.json", where="twin", do="copy"),
    ModelCase("merge-q", argv=(*MERGE[:4], "1.5", *MERGE[5:]), what="outside its range", where="q", allowed="0 to 1"),
    ModelCase("merge-q-nan", argv=(*MERGE[:4], "nan", *MERGE[5:]), what="outside its range", where="q", value="nan"),
    ModelCase(
        "merge-method", argv=(*MERGE, "--method", "slerp"), what="no such method", value="'slerp'", allowed="linear"
    ),
    ModelCase(
        "merge-no-origin", argv=(*MERGE, "--method", "task-vectors"), what="needs the model", where="base", do="--from"
    ),
    ModelCase("merge-q-twice", argv=(*MERGE[:5], "--q", "0.5", *MERGE[5:]), what="given twice", where="q", do="remove"),
    ModelCase("merge-scale", argv=(*MERGE, "--scale", "3"), what="'linear' takes none", where="scale", value="3.0"),
    ModelCase("merge-into-a-full-folder", argv=(*MERGE[:-1], "base"), what="holds files already", where="base"),
]
GENERATE = ("generate", "base", "--prompts", "tuning.jsonl", "--out", "out")
ALIGN = ("align", "base", "--data", "pairs.jsonl", "--out", "out")
ESTIMATE = {"value": 1.0, "ci95": [0.5, 1.5], "n": 9, "clusters": 9, "unparsed": 0, "method": "cluster t"}
VERBS = [
    ModelCase(
        "align-dropout", argv=(*ALIGN, "--lora", "lora_dropout=1"), where="lora_dropout", value="1", allowed="below 1"
    ),
    ModelCase("generate-nothing", argv=GENERATE, files={"tuning.jsonl": "\n"}, what="file is empty", do="row"),
    ModelCase("generate-option", argv=(*GENERATE, "--generation", "max_tokens=4"), what="unknown key 'max_tokens'"),
    ModelCase("generate-value", argv=(*GENERATE, "--generation", "max_new_tokens=0"), where="max_new_tokens"),
    ModelCase("generate-no-sign", argv=(*GENERATE, "--generation", "max_new_tokens"), what="an option is NAME=VALUE"),
    ModelCase(
        "align-format", argv=(*ALIGN, "--format", "pairs"), where="format", value="'pairs'", allowed="preference"
    ),
    ModelCase("generate-seed", argv=(*GENERATE, "--seed", "-1"), what="cannot be negative", value="-1", do="correct"),
    ModelCase("generate-samples", argv=(*GENERATE, "--samples", "0"), what="too few samples", value="0", do="correct"),
    ModelCase("generate-greedy-samples", argv=(*GENERATE, "--samples", "2"), where="samples", do="do_sample=true"),
    ModelCase(
        "align-seed", argv=(*ALIGN, "--seed", "-1"), what="range", where="seed", value="-1", allowed="at least 0"
    ),
    ModelCase(
        "align-value", argv=(*ALIGN, "--training", "max_steps=" + "9" * 5000), what="not valid YAML", where="--training"
    ),
    ModelCase("align-beta", argv=(*ALIGN, "--beta", "-1"), what="outside", where="beta", value="-1", allowed="above 0"),
    ModelCase("align-algorithm", argv=(*ALIGN, "--algorithm", "ppo"), where="algorithm", allowed="dpo, ipo, kto"),
    ModelCase("align-training", argv=(*ALIGN, "--training", "learning_rte=1"), what="unknown key 'learning_rte'"),
    ModelCase("align-too-long", argv=(*ALIGN, "--too-long", "cut"), where="too_long", value="'cut'"),
    ModelCase("align-label", argv=(*ALIGN, "--label", "best"), what="no such label", allowed="better, safer"),
    ModelCase(
        "align-on-demonstrations",
        argv=("align", "base", "--data", "demos.jsonl", "--format", "demonstrations", "--out", "out"),
        what="DPO cannot learn from this kind of record",
        value="Demonstration",
        allowed="pairs",
        do="give pairs",
    ),
    ModelCase(
        "sft-on-prompts",
        argv=("sft", "base", "--data", "tuning.jsonl", "--format", "prompts", "--out", "out"),
        what="holds prompts",
        value="as: demonstrations",
        do="choose a source",
    ),
    ModelCase(
        "align-yaml", argv=(*ALIGN, "--training", "optim={"), what="not valid YAML", where="--training", do="quo"
    ),
    ModelCase(
        "judge-nothing", argv=("judge", "nowhere", "--criterion", "refusal", "--out", "out"), what="no such file of an"
    ),
    ModelCase(
        "judge-something-else",
        argv=("judge", "words.jsonl", "--criterion", "refusal", "--out", "out"),
        files={"words.jsonl": rows({"words": "no prompt"})},
        what="no answer to a prompt",
        where="words.jsonl, line 1",
        allowed="completion",
    ),
    ModelCase("select-nothing", argv=("select", "base"), what="no measures in this folder", where="base", do="'judge'"),
    ModelCase(
        "select-damaged", argv=("select", "."), files={"measures.json": "[]"}, what="not the measures", do="again"
    ),
    ModelCase(
        "select-unmeasured",
        argv=("select", ".", "--objective", "mean_score/helpfulnes"),
        files={"measures.json": json.dumps({"H": {"metrics": {"mean_score/helpfulness": ESTIMATE}}})},
        what="no folder measures 'mean_score/helpfulnes'",
        where="objective",
        allowed="mean_score/helpfulness",
        do="did you mean 'mean_score/helpfulness'?",
    ),
    ModelCase("select-bound", argv=("select", "base", "--at-most", "x"), what="a bound is METRIC=NUMBER", value="'x'"),
    ModelCase(
        "report-nothing", argv=("report", "base", "--out", "out"), what="no results here", where="base", do="run"
    ),
    ModelCase("report-null", argv=("report", "r.json", "--out", "out"), files={"r.json": "null"}, what="not results"),
    ModelCase("report-garbage", argv=("report", "demos.jsonl", "--out", "out"), what="not JSON", where="demos.jsonl"),
    ModelCase(
        "report-of-another-schema",
        files={"results.json": "{}"},
        argv=("report", "results.json", "--out", "out"),
        what="not results of format",
        where="name",
        do="give results.json",
    ),
]
ANSWER = {"prompt": {"messages": [{"role": "user", "content": "how"}]}, "model": "m", "text": "so"}
JUDGES = [
    ModelCase(
        "judge-not-text",
        argv=("judge", "answers.jsonl", "--criterion", "refusal", "--out", "out"),
        files={"answers.jsonl": rows({**ANSWER, "text": 3})},
        what="3 stands where a text is to be",
        where="answers.jsonl, line 1",
    ),
    ModelCase(
        "judge-not-utf-8",
        argv=("judge", "answers.jsonl", "--criterion", "refusal", "--out", "out"),
        files={"answers.jsonl": b"\xff\xfe"},
        what="not UTF-8",
        where="answers.jsonl, line 1",
    ),
    ModelCase(
        "judge-criterion",
        argv=("judge", "answers.jsonl", "--criterion", "a/b", "--model", "base", "--out", "out"),
        files={"answers.jsonl": rows(ANSWER)},
        what="a name is not valid",
        where="criterion",
    ),
    ModelCase(
        "judge-cost-without-a-model",
        argv=("judge", "answers.jsonl", "--criterion", "refusal", "--cost", "--out", "out"),
        files={"answers.jsonl": rows(ANSWER)},
        what="only a reward or cost model",
        where="sign",
    ),
    ModelCase(
        "judge-of-two-logits",
        argv=("judge", "answers.jsonl", "--criterion", "x", "--model", "two-logits", "--out", "out"),
        files={"answers.jsonl": rows(ANSWER)},
        what="a reward model has one logit",
        where="two-logits",
        value="2 logits",
        do="num_labels 1",
    ),
    ModelCase(
        "judge-without-a-head",
        argv=("judge", "answers.jsonl", "--criterion", "x", "--model", "base", "--out", "out"),
        files={"answers.jsonl": rows(ANSWER)},
        what="no sequence classifier",
        where="base",
        allowed="LlamaForSequenceClassification",
        do="name a reward model",
    ),
    ModelCase(
        "judge-of-other-prompts",
        argv=("judge", "answers.jsonl", "--criterion", "refusal", "--baseline", "other.jsonl", "--out", "out"),
        files={
            "answers.jsonl": rows(ANSWER),
            "other.jsonl": rows({**ANSWER, "prompt": {"messages": [{"role": "user", "content": "why"}]}}),
        },
        what="baseline",
        do="same prompts",
    ),
]


@pytest.mark.parametrize("case", [*MERGES, *VERBS, *JUDGES], ids=lambda case: case.name)
def test_a_mistake_in_a_single_stage(
    case: ModelCase, shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(case, RESUMED, shelf)
    check(case, sacpo(case.argv, capsys, monkeypatch))
    assert not Path("out").exists()
