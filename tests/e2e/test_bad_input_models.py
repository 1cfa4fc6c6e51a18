"""Mistakes in models, trainings and single stages: exit 2, one message, no traceback, nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_input_cases import ABSENT, FILES, RECIPE, Case, check, lay_out, rows, sacpo
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from sacpo.models.byte_level_bpe import byte_level_bpe
from sacpo.models.loading import build_model, save_model

Edit = Callable[[Path], None]
LONG = "one two three four five six seven eight nine ten " * 10
BASE = {**RECIPE["base"]["config"], "max_position_embeddings": 128}
OTHER_TEXTS = ["zzz zz zzzz zzzz zz zzzzz"] * 20
RESUMED: dict[str, Any] = {
    **{key: RECIPE[key] for key in ("name", "training", "prompts")},
    "base": {"model": "./base", "device": "cpu"},
    "data": {"pairs": RECIPE["data"]["pairs"]},
    "steps": RECIPE["steps"][:1],
    "evaluate": RECIPE["evaluate"],
}
"""An experiment that begins with a model's folder."""
OTHERWISE = "{{ 'a' if add_generation_prompt else 'b' }}{% for m in messages %}{{ m.content }}{% endfor %}"
DATA = ("data/pairs", "prompts/tuning", "prompts/report", "overlap")


@dataclass(frozen=True)
class ModelCase(Case):
    """A mistake beside or in a model's folder.

    Attributes:
        edits: Folder in the working folder: what is done to it.
    """

    edits: dict[str, Edit] = field(default_factory=dict)
    __hash__ = object.__hash__


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tiny models: `base`, `twin` (other weights), `wide` (another shape), `foreign` (another tokenizer)."""
    folder = tmp_path_factory.mktemp("shelf")
    texts = [line for text in FILES.values() for line in text.splitlines()]
    own, other = byte_level_bpe(texts, 300), byte_level_bpe(OTHER_TEXTS, 300)
    save_model(build_model(BASE, own, 0), own, folder / "base")
    save_model(build_model(BASE, own, 1), own, folder / "twin")
    save_model(build_model({**BASE, "hidden_size": 32}, own, 0), own, folder / "wide")
    size = {"vocab_size": len(own)}
    save_model(build_model({**BASE, **size}, other, 0), other, folder / "foreign")
    config = AutoConfig.for_model(**BASE, **size, num_labels=2, pad_token_id=own.pad_token_id)
    torch.manual_seed(0)
    save_model(AutoModelForSequenceClassification.from_config(config), own, folder / "two-logits")
    return folder


def settings(name: str, **changes: Any) -> Edit:
    """Change keys of a JSON file; ABSENT removes one."""

    def edit(folder: Path) -> None:
        path = folder / name
        data = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in data.items() if value is not ABSENT}))

    return edit


def no_end(folder: Path) -> None:
    settings("tokenizer_config.json", eos_token=None)(folder)


def no_chat_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def chat_template(text: str) -> Edit:
    """Replace the chat template."""

    def edit(folder: Path) -> None:
        (folder / "chat_template.jinja").write_text(text)

    return edit


def several_templates(folder: Path) -> None:
    """Two named templates and no default."""
    text = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "additional_chat_templates").mkdir()
    for name in ("rag", "tool_use"):
        (folder / "additional_chat_templates" / f"{name}.jinja").write_text(text)


def pickled(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not weights at all")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def poisoned(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def own_code(folder: Path) -> None:
    settings("config.json", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}, model_type="own")(
        folder
    )
    (folder / "own.py").write_text("raise SystemExit('code of the model ran')\n")


def whole_numbers(folder: Path) -> None:
    """Store the output head in whole numbers, as a quantised model's would be."""
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"].mul(100).int()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def holding(name: str, value: Any) -> Edit:
    """Let a JSON file hold something else."""
    return lambda folder: (folder / name).write_text(json.dumps(value)) and None


MERGE = ("merge", "base", "twin", "--q", "0.5", "--out", "out")
RUN_MODELS = [
    ModelCase(
        "no-such-folder",
        {"base.model": "./bas"},
        what="no such folder of a model",
        where="./bas",
        do="check the path",
        kept=(),
    ),
    ModelCase(
        "unreachable-hub-id",
        {"base.model": "no-such-owner/no-such-model"},
        what="the hub did not answer",
        where="no-such-owner/no-such-model",
        do="takes what is in the cache and asks nobody), or give a folder",
    ),
    ModelCase(
        "no-end-token",
        edits={"base": no_end},
        what="no end-of-sequence token",
        where="base",
        do="set eos_token",
    ),
    ModelCase(
        "no-chat-template",
        edits={"base": no_chat_template},
        what="no chat template",
        where="base.template",
        value="'chat'",
        allowed="'paper', 'plain'",
        do="set base.template",
    ),
    ModelCase(
        "several-chat-templates",
        edits={"base": several_templates},
        what="several chat templates",
        where="chat template of",
        value="tool_use",
        allowed="default",
        do="chat_template.jinja",
    ),
    ModelCase(
        "malformed-chat-template",
        edits={"base": chat_template("{% for m in messages %}{{ m.content }")},
        what="no valid Jinja template",
        where="line 1",
        do="correct it",
    ),
    ModelCase(
        "chat-template-that-refuses",
        edits={"base": chat_template("{{ raise_exception('Not today') }}")},
        what="refuses the dialogue: Not today",
        where="pairs.jsonl:1",
        do="another template",
    ),
    ModelCase(
        "chat-template-that-ignores-messages",
        edits={"base": chat_template("Hello.")},
        what="leaves out what a message of role 'user' says",
        where="pairs.jsonl:1",
        do="base.template",
    ),
    ModelCase(
        "chat-template-of-another-beginning",
        edits={"base": chat_template(OTHERWISE)},
        what="what follows the prompt cannot be found",
        where="pairs.jsonl:1",
        do="generation prompt",
    ),
    ModelCase(
        "remote-code",
        edits={"base": own_code},
        what="code of its own",
        where="base",
        do="base.trust_remote_code: true",
    ),
    ModelCase(
        "pickle",
        edits={"base": pickled},
        what="weights are pickles",
        where="base",
        value="'pytorch_model.bin'",
        allowed="safetensors",
        do="convert",
    ),
    ModelCase("truncated", edits={"base": truncated}, what="cannot be loaded", where="base", do="again"),
    ModelCase("garbage", edits={"base": garbage}, what="cannot be loaded", where="base", do="again"),
    ModelCase("no-weights", edits={"base": no_weights}, what="cannot be loaded", where="base", do="again"),
    ModelCase("no-config", edits={"base": no_config}, what="cannot be loaded", where="base", do="again"),
    ModelCase("broken-config", edits={"base": broken_config}, what="cannot be loaded", where="base", do="again"),
    ModelCase("no-tokenizer", edits={"base": no_tokenizer}, what="the tokenizer cannot", where="base", do="again"),
    ModelCase(
        "nan-weights",
        edits={"base": poisoned},
        what="not finite",
        where="base",
        value="model.norm.weight holds NaN",
        do="again",
    ),
    *(
        ModelCase(f"wrong-{name}", edits={"base": edit}, what=what, where="base", do="again")
        for name, edit, what in (
            ("config", holding("config.json", [1]), "cannot be loaded"),
            ("config-text", holding("config.json", "llama"), "cannot be loaded"),
            ("size", settings("config.json", hidden_size="wide"), "cannot be loaded"),
            ("no-size", settings("config.json", hidden_size=None), "cannot be loaded"),
            ("heads", settings("config.json", num_attention_heads=0, head_dim=None), "cannot be loaded"),
            ("rope", settings("config.json", rope_parameters=[3]), "cannot be loaded"),
            ("dtype", settings("config.json", dtype="float99"), "cannot be loaded"),
            ("kind", settings("config.json", model_type=7), "cannot be loaded"),
            ("generation", holding("generation_config.json", [1]), "cannot be loaded"),
            ("tokenizer", holding("tokenizer.json", [1]), "the tokenizer cannot"),
            ("tokenizer-model", settings("tokenizer.json", model=3), "the tokenizer cannot"),
            ("tokenizer-words", settings("tokenizer.json", added_tokens={"a": 1}), "the tokenizer cannot"),
            ("tokenizer-settings", holding("tokenizer_config.json", [1]), "the tokenizer cannot"),
            ("tokenizer-end", settings("tokenizer_config.json", eos_token=3), "the tokenizer cannot"),
        )
    ),
    ModelCase(
        "whole-numbers",
        edits={"base": whole_numbers},
        what="holds whole numbers",
        where="base",
        value="lm_head.weight: I32",
        allowed="floating-point",
        do="again",
    ),
    ModelCase(
        "no-such-device",
        {"base.device": "cuda:7"},
        what="no such device",
        where="base.device",
        value="'cuda:7'",
        allowed="auto, cpu",
        do="base.device",
    ),
    ModelCase(
        "attention",
        {"base.attn_implementation": "flash_attention_9"},
        what="attn_implementation",
        where="base",
        do="attn_implementation",
    ),
    ModelCase(
        "prompt-longer-than-max-length",
        {"steps.0.max_length": 64},
        {"pairs.jsonl": FILES["pairs.jsonl"] + rows({"prompt": LONG, "chosen": "a", "rejected": "b"})},
        what="leaves no room for a completion",
        where="pairs.jsonl:9",
        value="tokens",
        allowed="fewer than 64",
        do="raise max_length",
    ),
    ModelCase(
        "nothing-fits",
        {"steps.0.max_length": 4, "steps.0.too_long": "drop"},
        what="no records are left",
        where="H",
        value="longer than max_length",
        do="max_length",
    ),
    ModelCase(
        "scheduler",
        {"training.lr_scheduler_type": "nonsense"},
        what="training option is refused",
        where="training of H, lr_scheduler_type",
        value="'nonsense'",
        allowed="linear, cosine",
    ),
    ModelCase(
        "optimiser",
        {"training.optim": "nonsense"},
        what="training option is refused",
        where="training of H, optim",
        value="'nonsense'",
    ),
    ModelCase(
        "quantised-without-cuda",
        {"base.quantization": {"bits": 4}, "steps.0.lora": {}},
        what="a quantised base needs a CUDA device",
        where="base.quantization",
        value="device cpu",
        do="base.device: cuda",
    ),
    ModelCase(
        "optimiser-options",
        {"training.optim_args": "nonsense"},
        what="training option is refused",
        where="training of H",
        do="correct",
    ),
    ModelCase(
        "checkpointing-options",
        {"training.gradient_checkpointing": True, "training.gradient_checkpointing_kwargs": {"use_reentrantt": True}},
        what="training option is refused",
        where="training of H",
        do="correct",
    ),
    ModelCase(
        "scheduler-options",
        {"training.lr_scheduler_kwargs": {"cycles": 2}},
        what="unexpected keyword argument 'cycles'",
        where="training of H",
    ),
    ModelCase(
        "tracker",
        {"training.report_to": "wandbb"},
        what="wandbb is not supported",
        where="training of H, report_to",
        value="'wandbb'",
    ),
    ModelCase(
        "records-beyond-the-context",
        {"steps.0.max_length": 500},
        {"pairs.jsonl": rows({"prompt": LONG, "chosen": LONG, "rejected": "no"})},
        what="longer than the model's context",
        value="500 tokens",
        allowed="at most 128 tokens",
        do="max_length to 128",
    ),
    ModelCase(
        "lora-modules",
        {"steps.0.lora": {"target_modules": ["no_such_module"]}},
        what="no_such_module",
        where="lora",
        value="'target_modules': ['no_such_module']",
        allowed="k_proj",
        do="target_modules",
    ),
    ModelCase(
        "lora-module-among-others",
        {"steps.0.lora": {"target_modules": ["q_proj", "qproj"]}},
        what="matches no module",
        where="lora.target_modules",
        value="'qproj'",
        allowed="k_proj",
    ),
    ModelCase(
        "lora-modules-to-save",
        {"steps.0.lora": {"modules_to_save": ["classifier"]}},
        what="matches no module",
        where="lora.modules_to_save",
        value="'classifier'",
        allowed="lm_head",
        do="leave it out",
    ),
    ModelCase(
        "lora-expression",
        {"steps.0.lora": {"target_modules": "q_proj["}},
        what="peft refuses",
        where="lora",
        value="q_proj[",
        allowed="k_proj",
    ),
    ModelCase(
        "kto-of-one-class",
        {"steps.0.algorithm": "kto", "steps.0.undesirable_weight": "balanced", "data.pairs.format": "unpaired"},
        {"pairs.jsonl": rows(*({"prompt": f"what is {i}", "completion": "it", "label": True} for i in range(4)))},
        what="KTO needs desirable and undesirable completions",
        value="4 desirable, 0 undesirable",
        do="add completions with the other label",
    ),
]
CONFIGS = [
    ModelCase(
        "unknown-architecture",
        {"base.config.model_type": "lama"},
        what="unknown",
        where="base.config.model_type",
        value="'lama'",
        do="did you mean 'llama'?",
        kept=("data/demos", "data/pairs", "prompts/tuning", "prompts/report", "overlap"),
    ),
    ModelCase(
        "impossible-size",
        {"base.config.num_attention_heads": 3},
        what="cannot be built",
        where="base.config",
        do="correct",
        kept=("data/demos", "data/pairs", "prompts/tuning", "prompts/report", "overlap"),
    ),
    ModelCase(
        "no-heads",
        {"base.config.num_attention_heads": 0},
        what="cannot be built",
        where="base.config",
        do="correct",
        kept=("data/demos", "data/pairs", "prompts/tuning", "prompts/report", "overlap"),
    ),
    ModelCase(
        "size-of-a-wrong-type",
        {"base.config.hidden_size": [8]},
        what="cannot be built",
        where="base.config",
        do="correct",
        kept=("data/demos", "data/pairs", "prompts/tuning", "prompts/report", "overlap"),
    ),
    ModelCase(
        "dtype-of-a-configuration",
        {"base.config.dtype": "float99"},
        what="cannot be built",
        where="base.config",
        do="correct",
        kept=("data/demos", "data/pairs", "prompts/tuning", "prompts/report", "overlap"),
    ),
    ModelCase(
        "unknown-key-of-an-architecture",
        {"base.config.hiden_size": 8},
        what="unknown key 'hiden_size'",
        where="base.config",
        do="did you mean 'hidden_size'?",
        kept=("data/demos", "data/pairs", "prompts/tuning", "prompts/report", "overlap"),
    ),
]
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


AHEAD = ("no-such-folder", "unreachable-hub-id", "pickle", "no-such-device", "quantised-without-cuda")
"""What is found before the first stage."""


def prepare(case: ModelCase, recipe: dict[str, Any], shelf: Path) -> None:
    """Write a case's files, and the models that it names."""
    lay_out(case, recipe)
    for path in shelf.iterdir():
        shutil.copytree(path, path.name)
    for name, edit in case.edits.items():
        edit(Path(name))


@pytest.mark.parametrize("case", RUN_MODELS, ids=lambda case: case.name)
def test_a_mistake_in_a_model_or_a_training(
    case: ModelCase, shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(case, RESUMED, shelf)
    said = sacpo(case.argv, capsys, monkeypatch)
    check(case if case.name in AHEAD else replace(case, kept=DATA), said)


@pytest.mark.parametrize("case", CONFIGS, ids=lambda case: case.name)
def test_a_mistake_in_a_configuration(
    case: ModelCase, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(case)
    check(case, sacpo(case.argv, capsys, monkeypatch))


@pytest.mark.parametrize("case", [*MERGES, *VERBS, *JUDGES], ids=lambda case: case.name)
def test_a_mistake_in_a_single_stage(
    case: ModelCase, shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(case, RESUMED, shelf)
    check(case, sacpo(case.argv, capsys, monkeypatch))
    assert not Path("out").exists()
