"""Each verb by itself on files: what it leaves, kept when called again, resumed when killed, refused elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import Death, Process, refused, states
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from sacpo.data.records import Answer, read_jsonl
from sacpo.models.byte_level_bpe import byte_level_bpe
from sacpo.models.loading import build_model, save_model
from sacpo.system.files import file_hash

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
}
TRAINING = (
    "num_train_epochs=1",
    "per_device_train_batch_size=4",
    "gradient_accumulation_steps=1",
    "save_steps=2",
    "learning_rate=1e-2",
)
OPTIONS = (
    "--base",
    "device=cpu",
    "--max-length",
    "96",
    *(part for option in TRAINING for part in ("--training", option)),
)
QUESTIONS = [f"how do i mend chair number {i}?" for i in range(16)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models, a classifier, and a file of every kind of data."""
    folder = tmp_path_factory.mktemp("verbs")
    tokenizer = byte_level_bpe([*QUESTIONS, "glue the leg and wait a day", "no"], 320)
    for name, seed in (("base", 0), ("other", 1)):
        save_model(build_model(LLAMA, tokenizer, seed), tokenizer, folder / name)
    torch.manual_seed(5)
    classifier = AutoModelForSequenceClassification.from_pretrained(folder / "base", num_labels=1)
    classifier.config.pad_token_id = tokenizer.pad_token_id
    save_model(classifier, tokenizer, folder / "judge")
    rows: dict[str, list[dict[str, Any]]] = {
        "demonstrations": [{"prompt": q, "completion": f"glue leg {i} and wait"} for i, q in enumerate(QUESTIONS)],
        "pairs": [{"prompt": q, "chosen": f"glue leg {i}", "rejected": "no"} for i, q in enumerate(QUESTIONS)],
        "unpaired": [{"prompt": q, "completion": f"leg {i}", "label": i % 2 == 0} for i, q in enumerate(QUESTIONS)],
        "prompts": [{"prompt": f"{q} please"} for q in QUESTIONS],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


VERBS: dict[str, tuple[str, ...]] = {
    "sft": ("sft", "base", "--data", "demonstrations.jsonl", *OPTIONS),
    "dpo": ("align", "base", "--data", "pairs.jsonl", "--beta", "0.3", *OPTIONS),
    "kto": ("align", "base", "--data", "unpaired.jsonl", "--format", "unpaired", "--algorithm", "kto", *OPTIONS),
    "merge": ("merge", "base", "other", "--q", "0.25", "--q", "1"),
    "generate": (
        *("generate", "base", "--prompts", "prompts.jsonl", "--name", "me", "--base", "device=cpu"),
        *("--generation", "max_new_tokens=12", "--generation", "do_sample=true", "--generation", "batch_size=1"),
    ),
    "judge": ("judge", "answers", "--model", "judge", "--criterion", "helpfulness", "--base", "device=cpu"),
}
DEATHS = {
    "sft": Death("sacpo.align.engine.checkpoints:publish", 1),
    "dpo": Death("sacpo.align.trainer:AlignTrainer.compute_loss", 4),
    "kto": Death("sacpo.align.outcome:write_jsonl", 1),
    "merge": Death("sacpo.merge.streamed:write_all", 5),
    "generate": Death("sacpo.answer.generate:_Kept.add", 3),
    "judge": Death("sacpo.pipeline.stages.verdicts:write_json", 1),
}
CHANGED = {
    "sft": ("--seed", "1"),
    "dpo": ("--beta", "0.4"),
    "kto": ("--beta", "0.4"),
    "merge": ("--q", "0.5"),
    "generate": ("--seed", "1"),
    "judge": ("--cost",),
}


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): file_hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / "manifest.json"
    }


@pytest.fixture(scope="module")
def whole(files: Path) -> Path:
    """The same folder, with what every verb makes of it in `whole-VERB`."""
    for name in ("generate", "sft", "dpo", "kto", "merge"):
        Process(files, *VERBS[name], "--out", f"whole-{name}").wait()
    (files / "answers").mkdir()
    (files / "answers" / "answers.jsonl").write_bytes((files / "whole-generate" / "answers.jsonl").read_bytes())
    Process(files, *VERBS["judge"], "--out", "whole-judge").wait()
    return files


@pytest.mark.parametrize("name", VERBS)
def test_killed_resumed_kept_and_refused(name: str, whole: Path) -> None:
    out = f"killed-{name}"
    arguments = (*VERBS[name], "--out", out)
    Process(whole, *arguments, death=DEATHS[name]).wait(-9)
    assert not (whole / out).exists()  # it appears when it is complete
    assert states(Process(whole, *arguments, "--json").wait())["resume"] == [VERBS[name][0]]
    assert contents(whole / out) == contents(whole / f"whole-{name}")
    before = {path: path.stat().st_mtime_ns for path in (whole / out).rglob("*")}
    Process(whole, *arguments).wait()
    assert {path: path.stat().st_mtime_ns for path in (whole / out).rglob("*")} == before
    said = refused(whole, *arguments, *CHANGED[name])
    assert "the output folder holds another stage's result already" in said
    assert out in said
    assert {path: path.stat().st_mtime_ns for path in (whole / out).rglob("*")} == before
    assert not [path.name for path in whole.iterdir() if path.name.startswith(f".{out}")]


def test_trained_models_load_and_have_moved(whole: Path) -> None:
    base = load_file(whole / "base" / "model.safetensors")
    for name in ("sft", "dpo", "kto"):
        model = AutoModelForCausalLM.from_pretrained(whole / f"whole-{name}" / "model")
        assert AutoTokenizer.from_pretrained(whole / f"whole-{name}" / "model").chat_template is not None
        assert not torch.equal(model.model.norm.weight.detach(), base["model.norm.weight"])
        summary = json.loads((whole / f"whole-{name}" / "summary.json").read_text())
        assert summary["steps"] == 4  # 16 records, 4 a step
    losses = [json.loads((whole / f"whole-{name}" / "summary.json").read_text()) for name in ("dpo", "kto")]
    assert losses[0]["first_loss"] == pytest.approx(0.693147, abs=1e-4)  # ln 2 where the policy is its reference
    assert losses[1]["first_loss"] == pytest.approx(0.5, abs=1e-4)


def test_merged_models_are_the_weighted_mean(whole: Path) -> None:
    first, later = (load_file(whole / name / "model.safetensors") for name in ("base", "other"))
    quarter = load_file(whole / "whole-merge" / "q0.25" / "model.safetensors")
    for name, tensor in quarter.items():
        torch.testing.assert_close(tensor, 0.75 * first[name] + 0.25 * later[name])
    end = load_file(whole / "whole-merge" / "q1" / "model.safetensors")
    assert all(torch.equal(tensor, later[name]) for name, tensor in end.items())
    assert AutoModelForCausalLM.from_pretrained(whole / "whole-merge" / "q0.25").config.hidden_size == 32


def test_task_vectors_from_another_base_are_another_merge(whole: Path) -> None:
    """From `base` itself q = 0.5 gives the mean; from `other`, whose task vector is zero, it gives `base`."""
    line = ("merge", "base", "other", "--q", "0.5", "--method", "task-vectors", "--out", "vectors")
    Process(whole, *line, "--from", "base").wait()
    refused(whole, *line, "--from", "other")
    Process(whole, *line[:-1], "vectors-other", "--from", "other").wait()
    first, later = (load_file(whole / name / "model.safetensors") for name in ("base", "other"))
    mean = load_file(whole / "vectors" / "q0.5" / "model.safetensors")
    same = load_file(whole / "vectors-other" / "q0.5" / "model.safetensors")
    for name in first:
        torch.testing.assert_close(mean[name], (first[name] + later[name]) / 2)
        torch.testing.assert_close(same[name], first[name])


def test_answers_and_verdicts(whole: Path) -> None:
    answers = read_jsonl(whole / "whole-generate" / "answers.jsonl", Answer)
    assert [answer.prompt.messages[0].content for answer in answers] == [f"{q} please" for q in QUESTIONS]
    assert {answer.model for answer in answers} == {"me"}
    assert max(answer.n_tokens for answer in answers) <= 12
    measures = json.loads((whole / "whole-judge" / "measures.json").read_text())
    score = measures["me"]["metrics"]["mean_score/helpfulness"]
    verdicts = [json.loads(line) for line in (whole / "whole-judge" / "verdicts.jsonl").read_text().splitlines()]
    assert score["n"] == len(verdicts) == 16
    assert score["value"] == pytest.approx(sum(verdict["score"] for verdict in verdicts) / 16)


def test_select_takes_the_best_of_the_judged(whole: Path) -> None:
    """A model judged by itself and by the opposite sign: its better mean is chosen, unless a bound forbids it."""
    own = ("judge", "--criterion", "helpfulness", "--model", "judge", "--base", "device=cpu")
    answers = [json.loads(line) for line in (whole / "whole-generate" / "answers.jsonl").read_text().splitlines()]
    scores = {}
    for name, text in (("short", "no"), ("long", "glue the leg and wait a day")):
        (whole / f"of-{name}").mkdir()
        lines = [json.dumps({**answer, "model": name, "text": text}) + "\n" for answer in answers]
        (whole / f"of-{name}" / "answers.jsonl").write_text("".join(lines))
        Process(whole, *own, f"of-{name}", "--out", f"judged-{name}").wait()
        measured = json.loads((whole / f"judged-{name}" / "measures.json").read_text())
        scores[name] = measured[name]["metrics"]["mean_score/helpfulness"]["value"]
    better, worse = sorted(scores, key=lambda name: -scores[name])
    line = ("select", "judged-short", "judged-long", "--objective", "mean_score/helpfulness")
    assert Process(whole, *line).wait().strip() == better
    between = (scores[better] + scores[worse]) / 2
    assert Process(whole, *line, "--at-most", f"mean_score/helpfulness={between}").wait().strip() == worse
    low = min(scores.values()) - 1
    none = Process(whole, *line, "--at-most", f"mean_score/helpfulness={low}")
    assert none.wait(2) == "" and "no model meets" in none.err.read_text()


def test_report_of_a_finished_run(finished: Path, tmp_path: Path) -> None:
    run = str(finished / "runs" / "tiny")
    line = ("report", run, "--out", "page")
    Process(tmp_path, *line, death=Death("sacpo.report.build:write_atomic", 5)).wait(-9)
    assert not (tmp_path / "page").exists()
    Process(tmp_path, *line).wait()
    own = finished / "runs" / "tiny" / "stages" / "report"
    assert (tmp_path / "page" / "results.json").read_bytes() == (own / "results.json").read_bytes()
    assert {path.name for path in (tmp_path / "page" / "figures").iterdir()} == {
        path.name for path in (own / "figures").iterdir()
    }
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "page").rglob("*")}
    Process(tmp_path, *line).wait()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "page").rglob("*")} == before


def test_an_empty_folder_may_be_given_and_a_full_one_not(whole: Path) -> None:
    (whole / "empty").mkdir()
    Process(whole, *VERBS["merge"], "--out", "empty").wait()
    assert (whole / "empty" / "q0.25" / "model.safetensors").is_file()
    (whole / "full").mkdir()
    (whole / "full" / "mine.txt").write_text("mine")
    assert "holds files already" in refused(whole, *VERBS["merge"], "--out", "full")
    assert [path.name for path in (whole / "full").iterdir()] == ["mine.txt"]
    assert "holds files already" in refused(whole, *VERBS["merge"], "--out", "prompts.jsonl")


def test_a_corrupted_output_is_named(whole: Path) -> None:
    line = (*VERBS["merge"], "--out", "flipped")
    Process(whole, *line).wait()
    path = whole / "flipped" / "q1" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    assert "flipped/q1/model.safetensors" in refused(whole, *line)
