"""A changed recipe redoes what depends on the change and nothing else; corrupted files are named, never used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_run import RUN, Death, Process, artefacts, refused, run, stage, states

from sacpo.pipeline.run import plan
from sacpo.recipe import load_recipe

Again = Callable[..., Path]
MODELS = ("sft", "H", "K", "H-S@0.5", "H-S@0.1", "P@q0.25", "P@q0.75", "control", "mixed")
END = {"report", "chosen"}


def evaluation(*models: str) -> set[str]:
    """The stages that evaluate these models."""
    per_set = {
        f"{part}/{model}/{prompts}"
        for model in models
        for part in ("generate", "judge")
        for prompts in ("tuning", "report")
    }
    return per_set | {f"kl/{model}/report" for model in models} | {f"measure/{model}" for model in models}


def open_stages(folder: Path, *arguments: str) -> set[str]:
    """Return the stages that a plan says are not done."""
    plan = json.loads(Process(folder, "run", "tiny.yaml", "--dry-run", "--json", *arguments).wait())
    return {entry["name"] for entry in plan["stages"] if entry["state"] != "done"}


CHANGES = {
    "report.title=Another": END,
    "constraints.0.at_most=0.3": {"select", *END},
    "objective.criterion=harmlessness": {"select", *END},
    "theory.answers=5": {"theory", *END},
    "prompts.tuning.limit=20": {
        "prompts/tuning",
        "overlap",
        *(f"{part}/{model}/tuning" for part in ("generate", "judge") for model in MODELS),
        *(f"measure/{model}" for model in MODELS),
        "select",
        *END,
    },
    "evaluate.judges.learned.prompts=[report]": {
        *(f"judge/{model}/{prompts}" for model in MODELS for prompts in ("tuning", "report")),
        *(f"measure/{model}" for model in MODELS),
        "select",
        *END,
    },
    "evaluate.judges.learned.sign=-1": {
        *(f"judge/{model}/tuning" for model in MODELS),
        *(f"measure/{model}" for model in MODELS),
        "select",
        *END,
    },
    "merge.control.q=0.25": {"heldout/control", *evaluation("control"), "select", "theory", *END},
    "merge.control.scale=0.5": {"heldout/control", *evaluation("control"), "select", "theory", *END},
    "steps.K.beta=0.3": {"align/K", "heldout/K", *evaluation("K"), "select", "theory", *END},
    "steps.K.training.learning_rate=2.0e-3": {"align/K", "heldout/K", *evaluation("K"), "select", "theory", *END},
    "steps.H-S.beta=[0.5, 0.2]": {
        "align/H-S@0.2",
        *(f"heldout/{name}" for name in ("H-S@0.2", "P@q0.25", "P@q0.75")),
        *evaluation("H-S@0.2", "P@q0.25", "P@q0.75", "mixed"),
        "select",
        "theory",
        *END,
    },
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_redoes_what_depends_on_it(change: str, finished: Path) -> None:
    overrides = ["--set", change]
    if change.startswith("steps.H-S"):
        overrides += ["--set", "merge.P.models=[H, H-S@0.2]", "--set", "merge.mixed.models=[H, H-S@0.2]"]
    assert open_stages(finished, *overrides) == CHANGES[change]


def test_every_stage_depends_on_the_seed(finished: Path) -> None:
    every = {status.stage.name for status in plan(load_tiny(finished), runs=finished / "nowhere").statuses}
    assert open_stages(finished, "--set", "seed=4") == every
    assert len(every) == 82


def load_tiny(folder: Path, *overrides: str) -> Any:
    recipe = load_recipe(folder / "tiny.yaml", list(overrides))
    heldout = recipe.data["heldout"].model_copy(update={"path": str(folder / "pairs.jsonl")})
    return recipe.model_copy(update={"data": {**recipe.data, "heldout": heldout}})


def test_a_change_does_what_the_plan_says_and_keeps_all_else(again: Again) -> None:
    folder = again()
    before = artefacts(folder)
    change = ["--set", "steps.K.beta=0.3"]
    planned = open_stages(folder, *change)
    found = run(folder, *change)
    assert {*found["start"]} == planned == CHANGES[change[1]]
    assert found["resume"] == []
    after = artefacts(folder)
    changed = {name.removeprefix(f"{RUN}/stages/") for name in before if after.get(name) != before[name]}
    assert {name for name in planned if not any(path.startswith(f"{name}/") for path in changed)} == set()
    assert {path for path in changed if not any(path.startswith(f"{name}/") for name in planned)} == set()


def test_a_changed_data_file_redoes_what_reads_it(again: Again) -> None:
    folder = again()
    lines = (folder / "pairs.jsonl").read_text().splitlines()
    (folder / "pairs.jsonl").write_text("\n".join(lines[1:]) + "\n")
    scored = ("sft", "H", "K", "H-S@0.5", "H-S@0.1", "P@q0.25", "P@q0.75", "control")  # "mixed" has no weights
    assert open_stages(folder) == {
        "data/heldout",
        "overlap",
        "judge-model/learned",
        *(f"heldout/{name}" for name in scored),
        *(f"judge/{model}/tuning" for model in MODELS),
        *(f"measure/{model}" for model in MODELS),
        "select",
        *END,
    }


def test_a_finished_run_is_kept_as_a_whole(again: Again) -> None:
    folder = again()
    before = artefacts(folder)
    found = run(folder)
    assert (found["start"], found["resume"], len(found["kept"])) == ([], [], 82)
    assert artefacts(folder) == before


def test_from_redoes_a_stage_and_all_that_depend_on_it(again: Again) -> None:
    folder = again()
    assert open_stages(folder, "--from", "select") == {"select", *END}
    found = run(folder, "--from", "chosen")
    assert (found["start"], len(found["kept"])) == (["chosen"], 81)
    assert open_stages(folder, "--from", "align/K") == CHANGES["steps.K.beta=0.3"]
    assert "align/H" in refused(folder, "run", "tiny.yaml", "--from", "align/none")


def test_a_plan_writes_nothing_and_says_what_is_done(again: Again, tmp_path: Path) -> None:
    folder = again("align/K", "report")
    Process(folder, "run", "tiny.yaml", death=Death("sacpo.align.engine.checkpoints:publish", 2)).wait(-9)
    before = {path: path.lstat().st_mtime_ns for path in (folder / "runs").rglob("*")}
    plan = json.loads(Process(folder, "run", "tiny.yaml", "--dry-run", "--json").wait())
    states = {entry["name"]: entry["state"] for entry in plan["stages"]}
    assert {name: state for name, state in states.items() if state != "done"} == {
        "align/K": "resumed",
        "report": "open",
    }
    assert {path: path.lstat().st_mtime_ns for path in (folder / "runs").rglob("*")} == before
    said = Process(folder, "run", "tiny.yaml", "--dry-run", "--runs", "elsewhere").wait()
    assert "82 stages, 9 models" in said
    assert not (folder / "elsewhere").exists()
    trainings = {training["model"]: training for training in plan["trainings"]}
    assert (trainings["H"]["steps"], trainings["H"]["state"]) == (12, "done")  # 48 pairs, 4 a step
    assert (trainings["sft"]["steps"], trainings["sft"]["records"]) == (120, 320)  # 6 epochs of 320 / 16


def test_the_second_of_two_runs_on_one_folder_is_refused(again: Again) -> None:
    folder = again()
    hold = "import sys; from sacpo.system.runs import RunFolder; from pathlib import Path\n"
    hold += "with RunFolder(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(folder / RUN)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    before = artefacts(folder)
    assert "another process is working in this run folder" in refused(folder, "run", "tiny.yaml")
    assert open_stages(folder) == set()  # a plan needs no lock
    assert artefacts(folder) == before
    holder.communicate("")
    assert run(folder)["start"] == []


def test_a_killed_holder_leaves_no_lock(again: Again) -> None:
    folder = again("align/H")
    Process(folder, "run", "tiny.yaml", death=Death("sacpo.pipeline.stages.train:run_align")).wait(-9)
    assert run(folder)["resume"] == ["align/H"]


CORRUPTED = (
    "sft/model/model.safetensors",
    "base/model/tokenizer.json",
    "generate/K/report/answers.jsonl",
    "judge/H/tuning/verdicts.jsonl",
    "align/H/summary.json",
    "report/results.json",
    "align/K/manifest.json",
)


@pytest.mark.parametrize("name", CORRUPTED)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_one_flipped_bit_is_named_and_not_used(name: str, share: float, again: Again) -> None:
    folder = again()
    path = stage(folder, name)
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 1
    path.write_bytes(data)
    said = refused(folder, "run", "tiny.yaml")
    assert str(RUN / "stages" / name) in said
    assert f"delete {RUN / 'stages'}" in said


def test_a_deleted_corrupted_stage_is_done_again(again: Again, finished: Path) -> None:
    folder = again()
    path = stage(folder, "pairs/H") / "train.jsonl"
    path.write_text(path.read_text().replace("0.", "1.", 1))
    assert "pairs/H/train.jsonl" in refused(folder, "run", "tiny.yaml")
    path.unlink()
    assert "missing" in refused(folder, "run", "tiny.yaml")
    (path.parent / "manifest.json").unlink()
    found = run(folder)
    assert found["start"] == ["pairs/H"]
    assert artefacts(folder) == artefacts(finished)


def test_corrupted_reference_log_probs_are_named(again: Again) -> None:
    folder = again("align/H")
    (cached, *_) = sorted((folder / RUN / "cache").glob("*.safetensors"))
    for path in (folder / RUN / "cache").glob("*.safetensors"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    said = refused(folder, "run", "tiny.yaml")
    assert "reference log-probs are corrupted" in said
    assert str(cached.parent.relative_to(folder)) in said


def test_json_lines_tell_every_stage_once(finished: Path) -> None:
    lines = (finished / "done.json").read_text()
    found = states(lines)
    assert found["start"] == found["done"]
    assert len({*found["done"]}) == len(found["done"]) == 82
    last = json.loads(lines.splitlines()[-1])
    assert (last["event"], last["folder"]) == ("done", str(RUN))
