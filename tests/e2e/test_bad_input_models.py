"""Mistakes in models and trainings: exit 2, one message, no traceback, nothing half-written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bad_input_cases import FILES, check, lay_out, rows, sacpo
from bad_input_models import (
    DATA,
    LONG,
    OTHERWISE,
    RESUMED,
    ModelCase,
    broken_config,
    chat_template,
    garbage,
    holding,
    no_chat_template,
    no_config,
    no_end,
    no_tokenizer,
    no_weights,
    own_code,
    pickled,
    poisoned,
    prepare,
    settings,
    several_templates,
    truncated,
    whole_numbers,
)

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
        "shapes",
        edits={"base": settings("config.json", intermediate_size=40)},
        what="tensors have another shape than config.json says",
        where="base",
        value="model.layers.0.mlp.down_proj.weight: [",
        allowed=", 40]",
        do="of one model",
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

AHEAD = ("no-such-folder", "unreachable-hub-id", "pickle", "no-such-device", "quantised-without-cuda")
"""What is found before the first stage."""


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
