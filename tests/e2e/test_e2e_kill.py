"""kill -9 at any moment, then the same command: finished work is kept, the rest resumes, the results are the same."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_run import RUN, Death, Process, artefacts, begun, results, run, stage, states, write_workplace

Again = Callable[..., Path]

MOMENTS = {
    "a training, between two checkpoints": ("align/H", "sacpo.align.trainer:AlignTrainer.compute_loss", 5),
    "a checkpoint written, not in place": ("align/H", "sacpo.align.engine.checkpoints:publish", 2),
    "weights saved, optimizer not": ("align/K", "sacpo.align.trainer:AlignTrainer._save_optimizer_and_scheduler", 2),
    "trained, no model saved": ("align/H-S@0.1", "sacpo.align.outcome:write_policy", 1),
    "fine-tuning": ("sft", "sacpo.align.trainer:AlignTrainer.compute_loss", 50),
    "a judge's checkpoint": ("judge-model/learned", "sacpo.align.engine.checkpoints:publish", 2),
    "reading data": ("data/heldout", "sacpo.pipeline.stages.data:data_report", 1),
    "answers half generated": ("generate/P@q0.25/tuning", "sacpo.answer.generate:_Kept.add", 3),
    "answers generated, not in order": ("generate/mixed/report", "sacpo.answer.generate:write_jsonl", 1),
    "pairs sampled, not labelled": ("pairs/H+H-S", "sacpo.pipeline.stages.pairs:label_pairs", 1),
    "KL half scored": ("kl/H-S@0.5/report", "sacpo.pipeline.stages.answers:score_answers", 2),
    "theory sampled": ("theory", "sacpo.pipeline.stages.optimum:make_bank", 1),
    "a figure half written": ("report", "sacpo.system.files:os.fsync", 3),
    "a merged model half written": ("chosen", "sacpo.merge.streamed:write_all", 4),
    "all written, no manifest": ("measure/sft", "sacpo.system.runs:_complete", 1),
    "complete, not in place": ("heldout/H", "sacpo.system.runs:RunFolder._publish", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_stage_ends_up_as_if_nobody_had_killed_it(moment: str, again: Again, finished: Path) -> None:
    name, target, when = MOMENTS[moment]
    folder = again(name)
    killed = Process(folder, "run", "tiny.yaml", "--json", death=Death(target, when))
    assert states(killed.wait(-signal.SIGKILL))["start"] == [name]
    assert begun(folder, name).is_dir()
    assert not stage(folder, name).exists()
    found = run(folder)
    assert (found["resume"], found["start"]) == ([name], [])
    assert artefacts(folder) == artefacts(finished)
    assert not [*(folder / RUN / "partial").iterdir()]


def test_training_goes_on_from_its_checkpoint(again: Again) -> None:
    """48 pairs, 4 a step: killed in step 8 of 12, behind the checkpoint of step 6, there are 6 losses left to take."""
    folder = again("align/H")
    Process(folder, "run", "tiny.yaml", death=Death("sacpo.align.trainer:AlignTrainer.compute_loss", 8)).wait(-9)
    left = sorted(path.name for path in (begun(folder, "align/H") / "checkpoints").glob("checkpoint-*"))
    assert left[-1] == "checkpoint-6"
    # a death at the 7th loss after the resume never comes when the training goes on behind step 6: it takes 6
    Process(folder, "run", "tiny.yaml", death=Death("sacpo.align.trainer:AlignTrainer.compute_loss", 7)).wait(0)


def test_generation_goes_on_behind_its_answers(again: Again) -> None:
    """24 prompts in pieces of four batches of 2: killed before the third is kept, 16 answers are there."""
    name = "generate/K/report"
    folder = again(name)
    Process(folder, "run", "tiny.yaml", death=Death("sacpo.answer.generate:_Kept.add", 3)).wait(-9)
    assert len((begun(folder, name) / "answers.jsonl").read_text().splitlines()) == 16
    Process(folder, "run", "tiny.yaml", death=Death("sacpo.answer.generate:_Kept.add", 2)).wait(0)


def test_a_complete_stage_is_put_in_place_without_doing_it_again(again: Again) -> None:
    folder = again("align/K")
    Process(folder, "run", "tiny.yaml", death=Death("sacpo.system.runs:RunFolder._publish")).wait(-9)
    seconds = json.loads((begun(folder, "align/K") / "manifest.json").read_text())["seconds"]
    Process(folder, "run", "tiny.yaml", death=Death("sacpo.pipeline.stages.train:run_align")).wait(0)
    assert json.loads((stage(folder, "align/K") / "manifest.json").read_text())["seconds"] == seconds


@pytest.mark.parametrize("when", [1, 2])
def test_killed_while_a_finished_stage_is_replaced(when: int, again: Again, finished: Path) -> None:
    """Replacing is two renamings; killed before the second, the old stage is out of the way and the new one waits."""
    folder = again()
    Process(folder, "run", "tiny.yaml", "--from", "select", death=Death("pathlib:Path.rename", when)).wait(-9)
    assert stage(folder, "select").exists() == (when == 1)
    run(folder)
    assert artefacts(folder) == artefacts(finished)
    assert not [*(folder / RUN / "partial").iterdir()]


def test_a_killed_from_goes_on_where_it_was(again: Again, finished: Path) -> None:
    folder = again()
    arguments = ("run", "tiny.yaml", "--json", "--from", "theory")
    killed = states(Process(folder, *arguments, death=Death("sacpo.report.build:write_atomic", 2)).wait(-9))
    assert (killed["done"], killed["start"]) == (["theory"], ["theory", "report"])
    after = states(Process(folder, *arguments).wait())
    assert (after["resume"], after["start"]) == (["report"], ["chosen"])
    assert results(folder) == results(finished)
    anew = states(Process(folder, *arguments, death=Death("sacpo.report.build:write_atomic", 1)).wait(-9))
    assert anew["start"] == ["theory", "report"]


def manifests(folder: Path) -> dict[str, Path]:
    root = folder / RUN / "stages"
    return {str(path.relative_to(root)): path for path in sorted(root.rglob("manifest.json"))}


def test_a_run_killed_again_and_again_gives_the_same_results(tmp_path: Path, finished: Path) -> None:
    """Killed from outside: when a stage has started, when a checkpoint or answers are on the disk, in the report."""
    folder = write_workplace(tmp_path / "work")
    partial = folder / RUN / "partial"

    def started(name: str) -> Callable[[Process], Callable[[], Any]]:
        return lambda process: lambda: f'"{name}", "state": "start"' in process.out.read_text()

    def there(pattern: str) -> Callable[[Process], Callable[[], Any]]:
        return lambda process: lambda: [*partial.glob(pattern)]

    moments = [
        started("data/prompts-H"),
        started("base"),
        there("sft-*/checkpoints/checkpoint-40"),
        there("judge-model~learned-*/checkpoints/unfinished/*/*"),
        there("pairs~H-*/answers-sft/answers.jsonl"),
        there("align~H-*/checkpoints/checkpoint-3"),
        there("align~K-*/checkpoints/unfinished/*/*"),
        started("align/H-S@0.1"),
        started("heldout/K"),
        there("generate~sft~report-*/answers.jsonl"),
        started("judge/control/tuning"),
        there("theory-*/answers.jsonl"),
        there("report-*/figures/*.svg"),
        started("chosen"),
    ]
    before: dict[str, int] = {}
    for moment in moments:
        process = Process(folder, "run", "tiny.yaml", "--json")
        process.kill_once(moment(process))
        kept = {name: path.stat().st_mtime_ns for name, path in manifests(folder).items()}
        assert not before.keys() - kept.keys()
        assert {name: kept[name] for name in before} == before  # finished work was not touched
        before = kept
    run(folder)
    assert results(folder) == results(finished)
    assert artefacts(folder) == artefacts(finished)
