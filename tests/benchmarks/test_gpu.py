"""The benchmark of one GPU, with the CPU in the GPU's place and toy sizes: that it runs, and how its lines are read."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import agreement, emit, forks, kernels, lines, merging, plan, runner, shapes, training, wheels
from benchmarks.gpu.plan import Part, Section

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> str:
    """Return what the command says."""
    line = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120).stdout


def test_sections_run_and_the_table_is_made_from_their_lines(tmp_path: Path) -> None:
    """Two cheap sections; greedy tokens are those of transformers, and the file alone gives the same table again.

    Tokens that are drawn from 90 % of the probability are likelier than those that are drawn evenly.
    """
    file = tmp_path / "gpu.jsonl"
    said = command("--toy", "--device", "cpu", "--out", str(file), "generation", "machine")
    found = lines.read(file)
    assert [line["section"] for line in found if line["part"] == "begun"] == ["machine", "generation"]
    assert [line["part"] for line in found if line["part"] == "failed"] == []
    rates = [line["tflops"] for line in found if line["part"] == "matmul"]
    assert len(rates) == 3 and min(rates) > 0
    assert next(line["share"] for line in found if line["part"] == "same") == 1.0
    assert [line["tokens"] for line in found if line["part"] == "generated"] == [4 * 8] * 5
    sampled = [line["mean"] for line in found if line["part"] == "sampled"]
    assert len(sampled) == 2 and min(sampled) > -math.log(shapes.WORDS) and abs(sampled[0] - sampled[1]) < 0.6
    table = command("--table", str(file))
    assert "(CPU)" in table.splitlines()[0] and said.endswith(table)


def part_here(self: runner.Runner, section: str, part: Part, budget: float) -> list[dict[str, Any]]:
    """Do a part in this process, however long: its libraries are imported once, not once a part."""
    module, _, function = part.call.partition(".")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        clock = emit.Clock(self.device, self.until)
        getattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)(clock, **part.options)
    records: list[dict[str, Any]] = []
    for record in [*map(emit.parsed, out.getvalue().splitlines()), {"part": "done"}]:
        if record is not None:
            self._keep(section, part, record, records)
    return records


@pytest.mark.slow
def test_both_sides_train_on_the_same_batches_and_a_resumed_training_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trl")
    monkeypatch.setattr(runner.Runner, "part", part_here)
    file = tmp_path / "gpu.jsonl"
    runner.Runner(file, 600, "cpu", tmp_path, small=True).run(plan.chosen(["full-1.5b", "resume"], small=True))
    assert capsys.readouterr().out.count(" times the pairs/s, ") == 2
    found = lines.read(file)
    assert [line["label"] for line in found if line["part"] == "side"] == [plan.OURS, plan.DEFAULTS, plan.TUNED]
    references = [line["reference_batches"] for line in found if line["part"] == "side"]
    assert references == [4, 0, 4]  # the peer's defaults compute it in their steps
    pairs = lines.compared(found)
    assert [pair["theirs"]["label"] for pair in pairs] == [plan.DEFAULTS, plan.TUNED]
    for pair in pairs:
        assert pair["ours"]["steps"] == 4 and len(pair["theirs"]["losses"]) == 4
        assert pair["ours"]["losses"][0] == pytest.approx(0.693147, abs=1e-5)
        assert abs(pair["ours"]["losses"][-1] - 0.693147) > 1e-4  # something is learned
        assert pair["apart"] < 1e-4
    resumed = next(line for line in found if line["part"] == "resumed")
    assert resumed["apart"] == 0 and resumed["moved"] > 1e-4
    assert lines.said(resumed).startswith("[resume] resumed: 2 losses equal; they have moved by up to 0.")


def test_merging_and_kernels_tell_what_they_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """In this process; two checkpoints of 2 layers, and one step of a training whose kernels all have a kind."""
    clock = emit.Clock("cpu", time.time() + 600)
    ballast = bytearray(2**30)  # which the merge, a process of its own, does not hold
    merging.run(clock, shape="toy")
    del ballast
    toy_step = {"steps": 4, "batch": 4, "lengths": "toy", "dtype": "float32"}
    kernels.run(clock, shape="toy", **toy_step)
    told = [record for record in map(emit.parsed, capsys.readouterr().out.splitlines()) if record]
    merged = next(record for record in told if record["part"] == "merged")
    assert merged["layers"] == 2 and merged["seconds"] > 0 and 0 < merged["peak_gib"] < 1
    step = next(record for record in told if record["part"] == "kernels")
    assert 0 < step["by_kind"]["products"] < step["step_ms"]
    assert kernels.kind_of("fmha_cutlassB_bf16_aligned_128x128") == "attention"
    assert kernels.kind_of("nvjet_sm90_tst_256x160") == "products"


def test_kernels_count_once() -> None:
    """Of 3 ms 1 is an optimiser's kernel and 2 a product; neither a named block around one nor a launch is more."""

    def event(key: str, device: str, ms: float, named: bool = False) -> Any:
        times = {"self_device_time_total": 1e3 * ms, "self_cpu_time_total": 0}
        return SimpleNamespace(key=key, device_type=f"DeviceType.{device}", is_user_annotation=named, **times)

    events = [
        event("Optimizer.step#AdamW.step", "CUDA", 1.5, named=True),
        event("multi_tensor_apply_kernel<FusedAdam>", "CUDA", 1),
        event("nvjet_sm90_tst_256x160", "CUDA", 2),
        event("cudaLaunchKernel", "CPU", 2),
    ]
    found = kernels.by_kind(events, "cuda")
    assert {kind: ms for kind, ms in found.items() if ms} == {"element by element": 1, "products": 2}


def side(label: str, rate: float, peak: float, losses: list[float], section: str = "lora-7b") -> dict[str, Any]:
    about = {"step_seconds": 0.5, "reference_seconds": 1.0, "steps": len(losses), "whole_seconds": 9.0, "share": 0.4}
    told = {"section": section, "label": label, "part": "side", "pairs_per_second": rate, "peak_gb": peak}
    return {**told, **about, "losses": losses}


def test_a_table_compares_the_steps_that_both_sides_did() -> None:
    """9 against 3 pairs/s is 3.00, 20 against 40 GB is 0.50; the third loss, which one side has, does not count."""
    found = lines.table([side(plan.OURS, 9, 20, [0.7, 0.6, 0.1]), side(plan.DEFAULTS, 3, 40, [0.7, 0.58])])
    row = next(line for line in found.splitlines() if line.startswith("| DPO"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == [
        plan.OURS,
        plan.DEFAULTS,
        "9.00, 3.00",
        "3.00",
        "20.0 GB, 40.0 GB",
        "0.50",
        "40%, 40%",
        "2.0e-02",
    ]
    assert "unknown card" in found  # whose environment line was lost


def test_a_file_that_was_cut_off_is_read_up_to_there(tmp_path: Path) -> None:
    file = tmp_path / "cut.jsonl"
    file.write_text(json.dumps(side(plan.OURS, 1, 1, [0.7])) + '\n{"section": "lora-7b", "par')
    assert [line["label"] for line in lines.read(file)] == [plan.OURS]
    assert emit.parsed("a warning of some library") is None
    assert emit.parsed(emit.MARK + '{"part": "done"}') == {"part": "done"}
    assert emit.parsed(emit.MARK + '{"part": "do') is None


def told(out: Path) -> list[tuple[str, str]]:
    return [(line["part"], line.get("error", line.get("reason", ""))) for line in lines.read(out)]


def test_a_part_that_hangs_or_crashes_loses_no_other(tmp_path: Path) -> None:
    """One ends at once with an error, one is ended when its time is up, and the last one is run."""
    parts = (
        Part("nothing.run", 60, "crash"),
        Part("machine.describe", -runner.GRACE, "hangs"),
        Part("machine.describe", 60, "runs"),
    )
    out = tmp_path / "gpu.jsonl"
    runner.Runner(out, 120, "cpu", tmp_path, small=True).run([Section("test", "a test", parts)])
    found = told(out)
    assert found[:2] == [("begun", ""), ("failed", "exit status 1")]
    assert found[2] == ("failed", "ended after 0 s")
    assert found[-1] == ("done", "")


def test_parts_are_forks_of_one_process_and_end_without_it(tmp_path: Path) -> None:
    """The second of three is ended when it begins to tell; the others end by themselves; their parent stays."""
    parent = forks.Forks({**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, tmp_path / "errors")
    found, parents = [], set()
    try:
        for whole in (True, False, True):
            parent.begin("machine.describe", {"device": "cpu", "until": 0.0}, str(tmp_path))
            told: list[str] = []
            until = time.time() + 60
            while parent.status is None and time.time() < until and (whole or not told):
                told += [record["part"]] if (record := parent.told(0.5)) else []
            parent.end()
            found.append((told[-1], parent.status, parent.part))
            parents.add(parent.process.pid)
    finally:
        parent.close()
    assert [end[:2] for end in found] == [("done", 0), ("environment", -9), ("done", 0)]
    assert len({part for *_, part in found} | parents) == 4


def test_a_fork_of_a_process_that_began_cuda_is_a_new_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Left(Exception):
        """What stands for the program that takes the process's place."""

    def left(program: str, line: list[str]) -> None:
        raise Left(*line[1:])

    for name in ("dup2", "setpgid"):
        monkeypatch.setattr(forks.os, name, lambda *a: None)
    monkeypatch.setattr(forks.os, "execv", left)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    for name in ("HF_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(forks.tempfile, "tempdir", None)
    assert not forks.spoiled()
    monkeypatch.setattr("torch.cuda._is_in_bad_fork", lambda: True)
    with pytest.raises(Left) as line:
        forks.become("machine.describe", {"until": 1}, str(tmp_path))
    assert line.value.args == ("-m", "benchmarks.gpu.section", "machine.describe", '{"until": 1}')


def test_behind_the_deadline_sections_are_told_as_not_run(tmp_path: Path) -> None:
    out = tmp_path / "gpu.jsonl"
    runner.Runner(out, 0, "cpu", tmp_path).run(plan.chosen(["merge", "resume"], small=True))
    assert told(out) == [("begun", ""), ("not run", "out of time")] * 2


def test_memory_that_runs_out_leads_to_the_smaller_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The full training of 1.5B gives way to the one of 0.17B, which is not in the plan otherwise."""
    seen = []

    def part(self: runner.Runner, section: str, part: Part, budget: float) -> list[dict[str, Any]]:
        seen.append((section, part.label))
        short = section == "full-1.5b" and part.label == plan.OURS
        return [{"part": "failed", "memory": True}] if short else [{"part": "done"}]

    monkeypatch.setattr(runner.Runner, "part", part)
    runner.Runner(tmp_path / "gpu.jsonl", 120, "cpu", tmp_path).run(plan.chosen(["full-1.5b", "merge"], small=False))
    assert seen[0] == ("full-1.5b", plan.OURS)  # after which the others of that size are not tried
    assert [*dict.fromkeys(name for name, _ in seen[1:])] == ["full-small", "merge"]
    error = RuntimeError("CUDA error: out of memory")
    assert emit.out_of_memory(error) and not emit.out_of_memory(RuntimeError("device-side assert"))


def test_the_plan_begins_with_what_matters_most_and_fits_its_time() -> None:
    names = [section.name for section in plan.SECTIONS]
    assert names[:3] == ["machine", "agreement", "lora-7b"]
    labels = {section.name: [part.label for part in section.parts] for section in (*plan.SECTIONS, *plan.SPARE)}
    for section in (*plan.SECTIONS, *plan.SPARE):
        assert {label for pair in section.pairs for label in pair} <= {*labels[section.name]}
        assert section.smaller is None or section.smaller in labels
    for section in plan.SECTIONS:
        if section.name.startswith("agreement"):  # a kind that breaks the device takes no other with it
            assert [part.options["kind"] for part in section.parts] == [*agreement.KINDS] == [*labels[section.name]]
    first = plan.budgets(plan.chosen(names[:6], small=False))
    assert first == plan.budgets([*plan.SECTIONS[:6]]) and sum(first.values()) < gpu.DEADLINE - runner.GRACE
    text = lines.said({"section": "plan", "label": "", "part": "plan", "budgets": {"a": 45.0, "b": 60.0}, "left": 100})
    assert text == "[plan] seconds at most, in this order: a 45, b 60; in all 105, of which 100 are there"
    with pytest.raises(ValueError, match="no such section: lora-8b"):
        plan.chosen(["lora-8b"], small=False)


@pytest.mark.parametrize(("kind", "prompt", "completion"), [("pku", 14, 70), ("hh", 79, 33)])
def test_lengths_have_the_medians_of_real_pairs(
    kind: str, prompt: int, completion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The medians of docs/performance.md; 4000 draws miss them by a few percent."""
    monkeypatch.delenv("SACPO_DATA", raising=False)
    found, source = shapes.lengths(kind, 4000)
    assert source == "lengths drawn from quantiles"
    assert median(p for p, _, _ in found) == pytest.approx(prompt, rel=0.1)
    assert median(c for _, *both in found for c in both) == pytest.approx(completion, rel=0.1)
    assert max(p + max(both) for p, *both in found) < shapes.LONGEST
    assert found[:10] == shapes.lengths(kind, 4000)[0][:10]


def test_rows_have_a_token_a_word() -> None:
    tokenizer = shapes.tokenizer()
    for row, (prompt, chosen, rejected) in zip(shapes.rows("toy", 8), shapes.lengths("toy", 8)[0], strict=True):
        assert len(tokenizer(row["prompt"])["input_ids"]) == prompt
        assert len(tokenizer(row["prompt"] + row["chosen"])["input_ids"]) == prompt + chosen
        assert len(tokenizer(row["prompt"] + row["rejected"] + "</s>")["input_ids"]) == prompt + rejected + 1
        assert tokenizer.unk_token_id not in tokenizer(row["prompt"])["input_ids"]


def test_operations_needed() -> None:
    """One pair, prompt 3, completions of 1 and 2 tokens and their ends; hidden 2, inner 5, 1 layer, 7 words.

    Weights: 4 x 4 + 3 x 2 x 5 = 46. Tokens: 3 + 2 + 3 = 8, so 2 x 46 x 8 = 736. Attended: 9/2 + (6 + 2) + (9 + 4.5)
    = 26, so 4 x 2 x 26 = 208. Head: 2 x 2 x 7 x 5 = 140. Forward: 1084; a step and the reference: 4 x, with LoRA 3 x.
    """
    config = shapes.config_of(
        "toy", hidden_size=2, intermediate_size=5, num_hidden_layers=1, num_attention_heads=1, vocab_size=7
    )
    assert shapes.needed(config, [(3, 1, 2)], lora=False) == pytest.approx(4 * 1084)
    assert shapes.needed(config, [(3, 1, 2)], lora=True) == pytest.approx(3 * 1084)


def test_rates_leave_the_warm_up_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Steps of 9, 9, 2, 2 seconds and .25 s of reference a pair: 8 pairs in 4 + 2 s; its first batch of 7 s compiles.

    The fourth step says so at once, for a part that is ended later tells nothing else.
    """
    clock = emit.Clock("cpu", 1e12)
    reference = training.Reference(clock)
    steps = training.Steps(clock, 4, reference)
    steps.seconds, steps.losses = [9.0, 9.0, 2.0, 2.0], [0.7] * 4
    reference.add(4, 7.0)
    reference.add(4, 1.0)
    case = training.Case("sacpo", "toy", False, lengths="toy", batch=4, steps=4)
    found = training.summary(case, shapes.config_of("toy"), steps, reference, 0.5)
    assert found["pairs_per_second"] == pytest.approx(8 / 6)
    assert found["reference_seconds"] == 8.0
    assert found["share"] == pytest.approx(found["needed_tflops"] / 0.5)
    steps.tell()
    steps.losses.append(0.6)
    steps.tell()
    fourth, fifth = (
        {"section": "s", "label": "", **(emit.parsed(x) or {})} for x in capsys.readouterr().out.split("\n")[:2]
    )
    assert lines.said(fourth) == "[s] step 4: 1.33 pairs/s so far, losses 0.70000 0.70000 0.70000 0.70000"
    assert lines.said(fifth) == "" and fifth["loss"] == 0.6


def test_a_training_without_a_matrix_rate_measures_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU there is none; on CUDA the section `machine` has measured it, or the part does."""

    class Measured(Exception):
        """What stands for the rate."""

    def rate(clock: emit.Clock) -> float:
        raise Measured

    monkeypatch.setattr(training, "bf16_rate", rate)
    monkeypatch.setattr(training.shapes, "tokenizer", lambda: 1 / 0)  # the next thing that is done
    case = {"peer": "sacpo", "shape": "toy", "lora": True}
    with pytest.raises(Measured):
        training.run(emit.Clock("cuda", 0), **case)
    for known, device in ((700.0, "cuda"), (None, "cpu")):
        with pytest.raises(ZeroDivisionError):
            training.run(emit.Clock(device, 0), bf16_tflops=known, **case)


def test_the_tuned_peer_is_free_of_plans_for_each_shape_too() -> None:
    """TRL in its defaults keeps what torch chooses; ours leaves cuDNN's attention out by itself."""
    import torch

    found = {}
    for peer in ("trl-tuned", "trl"):
        with training.attention_of(training.Case(peer, "toy", False)):
            found[peer] = torch.backends.cuda.cudnn_sdp_enabled()
    assert found == {"trl-tuned": False, "trl": True} and torch.backends.cuda.cudnn_sdp_enabled()


def test_what_flex_attention_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert agreement.obstacle("cpu") == "it has no backward pass on a CPU"
    monkeypatch.setattr(agreement.shutil, "which", lambda name: None)
    assert agreement.obstacle("cuda") == "torch.compile finds no C compiler"


def test_wheels_are_unpacked_for_what_is_missing_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pip refuses a wheel (this one names no version of its format), it is unpacked as the archive that it is."""
    monkeypatch.setattr(wheels, "MODULES", {"sacpo-nowhere": "sacpo_nowhere", "PyYAML": "yaml", "none": "sacpo_none"})
    monkeypatch.setattr(wheels, "LARGE", {})
    monkeypatch.setattr(wheels, "EXACT", {})
    with zipfile.ZipFile(tmp_path / "sacpo_nowhere-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("sacpo_nowhere.py", "answer = 42")
    installed, absent = wheels.install(tmp_path, tmp_path / "site")
    assert (installed, absent) == (["sacpo_nowhere-1.0-py3-none-any.whl"], ["none"])
    assert (tmp_path / "site" / "sacpo_nowhere.py").is_file()


def test_what_is_installed_first_takes_of_the_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1 second .2 are left out of the runner's; what stands for it is given the rest."""
    given = []

    def install(folder: Path, target: Path) -> tuple[list[str], list[str]]:
        time.sleep(0.2)
        return [], []

    class Runner(runner.Runner):
        def run(self, sections: list[Section]) -> None:
            given.append(self.until - time.time())

    monkeypatch.setattr(wheels, "install", install)
    monkeypatch.setattr(gpu, "Runner", Runner)
    monkeypatch.setattr(sys, "argv", ["gpu", "--deadline", "1", "--wheels", ".", "--out", str(tmp_path / "gpu.jsonl")])
    gpu.main()
    assert given[0] <= 0.8


def test_every_package_to_carry_is_pinned() -> None:
    assert {*wheels.MODULES, *wheels.LARGE} <= {*wheels.pins()}
