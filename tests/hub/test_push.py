"""`sacpo push` against a stand-in of the hub: what is sent, what stays, what is refused, and going on after a death."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hub.hub_toys import hub, requests, sacpo, write_adapter, write_model, write_run
from hub.standin import TOKEN
from huggingface_hub import ModelCard, parse_eval_result_entries

from sacpo.api import push
from sacpo.errors import DataError, ModelError, RecipeError, RunError, UserError
from sacpo.system.runs import RunFolder

SENT = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def test_a_run_is_pushed_privately_with_its_card_and_recipe(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with hub(tmp_path / "hub") as env:
        done = sacpo("push", run, "ada/safe-one", "--license", "apache-2.0", env=env)
        assert done.returncode == 0, done.stderr
        again = sacpo("push", run, "ada/safe-one", "--public", env=env)
    assert f"address: {env['HF_ENDPOINT']}/ada/safe-one" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    there = tmp_path / "hub" / "repositories" / "models" / "ada" / "safe-one"
    assert json.loads((there / ".repository").read_text()) == {"private": True}
    assert sorted(file.name for file in there.iterdir() if file.name[0] != ".") == sorted([*SENT, "recipe.yaml"])
    weights = run / "stages" / "chosen" / "model" / "model.safetensors"
    assert (there / "model.safetensors").read_bytes() == weights.read_bytes()
    card = ModelCard((there / "README.md").read_text())
    assert card.data.license == "apache-2.0" and card.data.library_name == "transformers"
    figures = {figure.metric_type: figure.metric_value for figure in card.data.eval_results or ()}
    assert figures["win_rate/helpfulness"] == pytest.approx(0.57) and figures["unsafe_rate"] == pytest.approx(0.04)
    assert "Over-refusal: it refuses 14.0 % (9.2 to 18.8 %)" in card.text
    assert again.returncode == 2 and "the repository is private" in again.stderr


@pytest.mark.slow
def test_a_push_that_broke_off_sends_the_rest_only(tmp_path: Path) -> None:
    """The hub dies in the middle of the second of three large files: nothing is committed, and one file stays."""
    model = write_model(tmp_path / "model", shards=3)
    with hub(tmp_path / "hub", die_in=2) as env:
        broken = sacpo("push", model, "ada/big", env={**env, "HF_HUB_DISABLE_PROGRESS_BARS": "1"})
    assert broken.returncode == 2 and "files that have arrived are not sent again" in broken.stderr
    there = tmp_path / "hub" / "repositories" / "models" / "ada" / "big"
    assert [file.name for file in there.iterdir()] == [".repository"]
    arrived = {file.name for file in (tmp_path / "hub" / "large").iterdir()}
    before = len(requests(tmp_path / "hub"))
    with hub(tmp_path / "hub") as env:
        done = sacpo("push", model, "ada/big", env=env)
    assert done.returncode == 0, done.stderr
    sent = [request[1] for request in requests(tmp_path / "hub")[before:] if request[0] == "PUT"]
    assert arrived and len(sent) == 3 - len(arrived) and not arrived & {*sent}
    assert len([*there.glob("*.safetensors")]) == 3


def test_a_dry_run_says_what_stays_and_contacts_nobody(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    found = push(model, "ada/m", dry_run=True)
    assert list(found["files"]) == SENT
    assert {*found["left"]} == {
        *("pytorch_model.bin", "optimizer.pt", "training_args.bin", "store.sqlite", "train.log"),
        *("trainer_state.json", "checkpoint-1/model.safetensors"),
    }
    assert found["private"] and "address" not in found
    assert any("licence is unknown" in said for said in found["said"])
    done = sacpo("push", model, "ada/m", "--dry-run", env=None)
    assert done.returncode == 0 and "would push 5 files to the private model ada/m" in done.stdout


def test_an_adapter_names_its_base(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", "org/base-1b")
    matter = yaml.safe_load(push(adapter, "ada/a", dry_run=True)["card"].split("---\n")[1])
    assert (matter["base_model"], matter["base_model_relation"]) == ("org/base-1b", "adapter")
    assert matter["library_name"] == "peft"
    local = write_adapter(tmp_path / "other", str(tmp_path))
    with pytest.raises(ModelError, match="the adapter's base is no model of the hub"):
        push(local, "ada/a", dry_run=True)
    with hub(tmp_path / "hub") as env:
        done = sacpo("push", local, "ada/a", "--base", "org/base-2b", "--public", "--json", env=env)
    assert json.loads(done.stdout)["private"] is False, done.stderr
    there = tmp_path / "hub" / "repositories" / "models" / "ada" / "a"
    assert json.loads((there / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/base-2b"
    assert json.loads((there / ".repository").read_text()) == {"private": False}


def test_relation_and_data_sets_are_the_models_own(tmp_path: Path) -> None:
    recipe = {
        "base": {"model": "org/base-1b"},
        "data": {"h": {"path": "org/helpful:default"}, "s": {"path": ["org/safe/part", "own.jsonl"]}},
        "steps": [{"name": "H", "dataset": "h"}, {"name": "H-S", "dataset": {"prompts": "s"}}],
    }
    expected = {
        "H": ("finetune", ["org/helpful"]),
        "H-S@0.25": ("finetune", ["org/helpful", "org/safe"]),
        "P@q0.5": ("merge", ["org/helpful", "org/safe"]),
    }
    for model, facts in expected.items():
        run = write_run(tmp_path / model, model, recipe=recipe)
        matter = yaml.safe_load(push(run, "ada/m", dry_run=True)["card"].split("---\n")[1])
        assert (matter["base_model_relation"], matter["datasets"]) == facts
        assert matter["base_model"] == "org/base-1b"


def test_a_figure_becomes_a_benchmarks_result(tmp_path: Path) -> None:
    from sacpo.hub.gather import Wish, gather
    from sacpo.hub.names import benchmark_task

    task = benchmark_task("unsafe_rate=org/harm:default")
    content = gather(write_run(tmp_path / "run"), Wish("ada/m", benchmarks=[task])).files[
        ".eval_results/unsafe_rate.yaml"
    ]
    assert isinstance(content, bytes)
    (entry,) = parse_eval_result_entries(yaml.safe_load(content))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("org/harm", "default", pytest.approx(0.04))
    assert "n = 200" in str(entry.notes)
    with pytest.raises(RecipeError, match="no such figure"):
        push(tmp_path / "run", "ada/m", dry_run=True, benchmarks=["bleu=org/harm:default"])


def test_the_runs_certificate_is_pushed_as_it_is(tmp_path: Path) -> None:
    said = {
        "certified": "H-S@0.25",
        "sentence": "At most 6 % are unsafe.",
        "confidence": 0.95,
        "all_certified": ["H-S@0.25"],
    }
    run = write_run(tmp_path / "run", certificate=said)
    with RunFolder(run) as folder:
        folder.do("certify/certificate", {}, {}, lambda out: (out / "certificate.json").write_text("{}\n") and None)
    found = push(run, "ada/m", dry_run=True)
    assert found["files"]["certificate.json"] == 3
    assert "At most 6 % are unsafe." in found["card"]


def test_data_are_pushed_with_their_card(tmp_path: Path) -> None:
    folder = tmp_path / "collected"
    (folder / "votes").mkdir(parents=True)
    (folder / "pairs.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (folder / "votes" / "raw.jsonl").write_text("{}\n")
    (folder / "labels.db").write_text("x")
    with hub(tmp_path / "hub") as env:
        done = sacpo("push", folder, "ada/votes", "--data", "--license", "cc-by-4.0", env=env)
    assert done.returncode == 0, done.stderr
    assert "stays here: labels.db" in done.stdout
    there = tmp_path / "hub" / "repositories" / "datasets" / "ada" / "votes"
    assert "| `pairs.jsonl` | 2 |" in (there / "README.md").read_text()
    assert (there / "votes" / "raw.jsonl").is_file() and not (there / "labels.db").exists()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Ours\n")
    card = push(folder, "ada/votes", data=True, dry_run=True)["card"]
    assert "license: mit" in card and "# Ours" in card
    (folder / "README.md").write_text("---\n: [\n---\n# Ours\n")
    with pytest.raises(DataError, match="front matter"):
        push(folder, "ada/votes", data=True, dry_run=True)


@pytest.mark.parametrize("name", ["ada", "ada/", "/m", "ada/m/x", "ada/-m", "ada/m--x", "a b/m", "ada/m..x", "ada/m."])
def test_names_that_are_no_repository(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="named by its owner and its name"):
        push(write_model(tmp_path / "model"), name, dry_run=True)


def test_what_cannot_be_pushed_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_text("x")
    cases: list[tuple[Path, dict[str, object], type[UserError], str]] = [
        (tmp_path / "none", {}, ModelError, "no such folder"),
        (tmp_path, {}, ModelError, "no model in this folder"),
        (pickled, {}, ModelError, "no weights as safetensors"),
        (model, {"license": "apache2"}, RecipeError, "did you mean 'apache-2.0'"),
        (model, {"license": "other"}, RecipeError, "a licence 'other' has a name"),
        (model, {"license_name": "mine"}, RecipeError, "belong to 'other'"),
        (model, {"base": "./here"}, RecipeError, "named by its hub id"),
        (model, {"benchmarks": ["unsafe_rate=org/x:y"]}, RecipeError, "only a run has results"),
        (model, {"benchmarks": ["unsafe_rate"]}, RecipeError, "METRIC=USER/DATA:TASK"),
        (model, {"data": True, "base": "org/x"}, RecipeError, "belongs to a model"),
        (pickled.parent / "pickled", {"data": True}, DataError, "no data in this folder"),
        (write_run(tmp_path / "run", None), {}, RunError, "no chosen model"),
    ]
    (pickled / "config.json").rename(pickled / "config.jsonx")
    for place, options, kind, words in cases:
        if place == pickled and not options:
            (pickled / "config.jsonx").rename(pickled / "config.json")
        if options.get("data") and place == pickled:
            (pickled / "config.json").unlink()
        with pytest.raises(kind, match=words):
            push(place, "ada/m", dry_run=True, **options)  # type: ignore[arg-type]


def test_a_changed_model_of_a_run_is_not_pushed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "stages" / "chosen" / "model" / "config.json").write_text('{"other": 1}')
    with pytest.raises(RunError, match="corrupted"):
        push(run, "ada/m", dry_run=True)


def test_without_a_token_or_with_a_wrong_one(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    with hub(tmp_path / "hub") as env:
        wrong = sacpo("push", model, "ada/m", env={**env, "HF_TOKEN": "hf_wrong"})
        none = sacpo("push", model, "ada/m", env={name: value for name, value in env.items() if name != "HF_TOKEN"})
    gone = sacpo("push", model, "ada/m", env=env)
    assert (wrong.returncode, none.returncode, gone.returncode) == (2, 2, 2)
    assert "the hub refuses this token" in wrong.stderr and "hf_wrong" not in wrong.stderr
    assert "no token of the hub" in none.stderr
    assert "the upload broke off" in gone.stderr
