"""What the tests of bad input share: a mistake as a row of a table, a small valid experiment, and the command line.

A mistake is made by changing one thing of an experiment that runs, so that nothing else can be what is refused.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from sacpo import cli

PARTS = ("where", "value", "allowed", "to do")
ABSENT = object()
"""As a change: the key is left out."""

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "base": {
        "config": {
            "model_type": "llama",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 256,
        },
        "tokenizer": {"kind": "bpe", "vocab_size": 300, "datasets": ["demos"]},
        "device": "cpu",
    },
    "data": {
        "demos": {"format": "demonstrations", "path": "demos.jsonl"},
        "pairs": {"format": "preference", "path": "pairs.jsonl"},
    },
    "training": {"per_device_train_batch_size": 4, "max_steps": 1},
    "sft": {"dataset": "demos", "max_length": 128},
    "steps": [
        {"name": "H", "criterion": "helpfulness", "dataset": "pairs", "beta": 0.1, "max_length": 128},
        {"name": "H-S", "criterion": "harmlessness", "dataset": "pairs", "beta": 0.1, "max_length": 128},
    ],
    "merge": [{"name": "P", "models": ["H", "H-S"], "q": [0.25, 0.5]}],
    "prompts": {
        "tuning": {"role": "tuning", "format": "prompts", "path": "tuning.jsonl"},
        "report": {"role": "report", "format": "prompts", "path": "report.jsonl"},
    },
    "evaluate": {
        "generation": {"max_new_tokens": 4},
        "kl_prompts": 0,
        "judges": {"refusal": {"kind": "refusal"}},
    },
    "constraints": [{"metric": "mean_tokens", "prompts": "tuning", "at_most": 10}],
}


@dataclass(frozen=True)
class Case:
    """One mistake and what must be said of it.

    Attributes:
        name: The test's name.
        changes: Dotted key of the recipe: its value, or ABSENT.
        files: File in the working folder: its content.
        argv: The command; `run recipe.yaml` by default.
        what: In the message's first line.
        where, value, allowed, do: In the parts of these names; "" where a part says nothing of use.
        kept: The stages that are finished all the same, and no other.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    argv: tuple[str, ...] = ("run", "recipe.yaml")
    what: str = ""
    where: str = ""
    value: str = ""
    allowed: str = ""
    do: str = ""
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Said:
    """What the command line said: its exit code, and the message in its parts."""

    code: int
    out: str
    err: str

    @property
    def what(self) -> str:
        """The first line, without `error: `."""
        return self.err.split("\n", 1)[0].removeprefix("error: ")

    def part(self, name: str) -> str:
        """The text of a part, "" where the message has none of this name."""
        found = [line for line in self.err.splitlines() if line.startswith(f"  {name}:")]
        assert len(found) <= 1, self.err
        return found[0].partition(":")[2].strip() if found else ""


def rows(*items: dict[str, Any]) -> str:
    """JSON lines."""
    return "".join(json.dumps(item) + "\n" for item in items)


DEMOS = [{"prompt": f"say the word {i}", "completion": f"the word is {i}"} for i in range(8)]
PAIRS = [{"prompt": f"what is {i}", "chosen": f"it is number {i}", "rejected": f"no idea {i}"} for i in range(8)]
FILES = {
    "demos.jsonl": rows(*DEMOS),
    "pairs.jsonl": rows(*PAIRS),
    "tuning.jsonl": rows({"prompt": "how are you"}, {"prompt": "who are you"}),
    "report.jsonl": rows({"prompt": "where are you"}, {"prompt": "when are you"}),
}


def changed(changes: Mapping[str, Any], recipe: Mapping[str, Any] = RECIPE) -> dict[str, Any]:
    """The experiment with some of its keys changed; a list's items go by their number."""
    result: Any = copy.deepcopy(dict(recipe))
    for key, value in changes.items():
        here = result
        *parents, last = key.split(".")
        for part in parents:
            here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
        if value is ABSENT:
            del here[last]
        elif isinstance(here, list):
            here[int(last)] = value
        else:
            here[last] = value
    return result


def lay_out(case: Case, recipe: Mapping[str, Any] = RECIPE) -> None:
    """Write a case's files into the working folder."""
    recipe_text = yaml.safe_dump(changed(case.changes, recipe), sort_keys=False)
    for name, content in {"recipe.yaml": recipe_text, **FILES, **case.files}.items():
        raw = content if isinstance(content, bytes) else content.encode()
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(raw)


def sacpo(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """Run the command line in this process."""
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["sacpo", *argv])
    monkeypatch.setattr("sacpo.system.plain_lines.HELD", 1e9)  # however slow the machine is
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return Said(code, out, err)


def check(case: Case, said: Said, run: Path = Path("runs/tiny")) -> None:
    """Assert that the message says what the case wants, that it is alone, and that no half-written artefact is left."""
    assert said.code == 2, said
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("error: ") == 1, said.err
    assert case.what in said.what, said.err
    wanted = dict(zip(PARTS, (case.where, case.value, case.allowed, case.do), strict=True))
    for part, text in wanted.items():
        assert text in said.part(part), f"{part}: {text!r} not in\n{said.err}"
    others = [line for line in said.err.splitlines()[1:] if not line.startswith(tuple(f"  {part}:" for part in PARTS))]
    assert others == [], said.err
    finished = {str(path.parent.relative_to(run / "stages")) for path in run.glob("stages/**/manifest.json")}
    assert finished == set(case.kept)
