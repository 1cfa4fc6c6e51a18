"""What a finished run shows: results at the top of its folder, what to do next, and no warning nobody can act on."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import typer.main
from tiny_run import RUN, Process, command, results, stage
from transformers import AutoModelForCausalLM

from sacpo.api import generate
from sacpo.chat import setting_of_run
from sacpo.cli import app
from sacpo.cli.next_steps import next_steps


def parses(line: str) -> dict[str, object]:
    """A command line's parameters, as the command line itself parses them."""
    program, verb, *rest = shlex.split(line)
    assert program == "sacpo"
    found = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    return found.make_context(verb, rest).params


def test_results_stand_at_the_top_of_the_runs_folder(finished: Path) -> None:
    top = finished / RUN
    assert (top / "results.json").read_bytes() == results(finished)
    assert (top / "report.html").samefile(stage(finished, "report") / "report.html")
    assert (top / "model").samefile(stage(finished, "chosen") / "model")
    assert 'src="' not in (top / "report.html").read_text()  # it needs nothing beside it
    assert AutoModelForCausalLM.from_pretrained(top / "model").config.model_type == "llama"
    (done,) = (
        event
        for line in (finished / "done.json").read_text().splitlines()
        if (event := json.loads(line))["event"] == "done"
    )
    assert (done["report"], done["model"]) == ("runs/tiny/report.html", "runs/tiny/model")


def test_a_finished_run_says_what_to_do_next_and_nothing_else(again: Callable[..., Path]) -> None:
    """The places come back when they are gone; a run without anything to do says nothing on standard error."""
    folder = again()
    for name in ("report.html", "results.json", "model"):
        (folder / RUN / name).unlink()
    process = Process(folder, "run", "tiny.yaml")
    said = process.wait().splitlines()
    assert process.err.read_text() == ""
    at = said.index("report:  runs/tiny/report.html")
    assert said[at + 1] == "model:   runs/tiny/model"
    assert at > 1 and all(line.startswith("  ") for line in said[1:at])  # a figure a line, under the answer
    steps = dict(line.strip().split("  ", 1) for line in said[said.index("next:") + 1 :])
    page = steps["open the report"].strip()
    assert page == (folder / RUN / "report.html").as_uri()
    assert (folder / RUN / "report.html").is_file()
    chosen = json.loads(results(folder))["selection"]["chosen"]
    for line in (steps["judge its answers yourself"], steps["or with a language model"]):
        asked = parses(line.strip())
        assert Path(str(asked["answers"])) == RUN / "stages" / "generate" / chosen / "report"
        assert Path(str(asked["baseline"])) == RUN / "stages" / "generate" / "sft" / "report"
        assert (folder / str(asked["answers"]) / "answers.jsonl").is_file()
        assert (folder / str(asked["baseline"]) / "answers.jsonl").is_file()
    assert setting_of_run(folder / parses(steps["talk to its models"].strip())["models"][0]).moves
    asked = parses(steps["let it answer your prompts"].strip())
    (folder / "prompts.jsonl").write_text('{"prompt": "how should i feed the owl."}\n')
    made = generate(folder / str(asked["model"]), str(folder / "prompts.jsonl"), folder / str(asked["out"]))
    assert "owl" in made.read_text()


def test_a_run_without_a_choice_offers_the_report_and_a_talk() -> None:
    said = next_steps(Path("runs/a b/report.html"), None, None, None)
    assert said == (
        f"next:\n  {'open the report':30} {Path('runs/a b/report.html').absolute().as_uri()}\n"
        f"  {'talk to its models':30} sacpo chat 'runs/a b'\n"
    )
    model = next_steps(Path("runs/a b/report.html"), Path("runs/a b/model"), Path("runs/a b/x"), None)
    assert "judge" not in model  # the baseline itself was chosen: there is nothing to compare it with
    assert "certif" not in model  # without a bound there is nothing to certify
    push, generate_line = model.splitlines()[-1], model.splitlines()[-2]
    assert parses(generate_line.split("prompts ", 1)[1].strip())["model"] == "runs/a b/model"
    asked = parses(push.split("would send", 1)[1].strip())
    assert (str(asked["place"]), asked["dry_run"]) == ("runs/a b", True)


def test_a_run_with_a_bound_says_how_to_certify_it_or_to_check_its_certificate(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    page, model = tmp_path / "r" / "report.html", tmp_path / "r" / "model"
    assert "sacpo certify --power unsafe_rate=0.1\n" in next_steps(page, model, None, None, "unsafe_rate=0.1")
    assert "certif" not in next_steps(page, None, None, None, "unsafe_rate=0.1")  # nothing was chosen
    (tmp_path / "r" / "certificate.json").touch()
    said = next_steps(page, model, None, None, "unsafe_rate=0.1")
    assert f"sacpo certify --verify {tmp_path / 'r' / 'certificate.json'}\n" in said and "--power" not in said


def test_no_warning_that_nobody_can_act_on(finished: Path, tmp_path: Path) -> None:
    """transformers renamed gradient checkpointing, and warned at every training; peft still asks by the old name."""
    shutil.copyfile(finished / "pairs.jsonl", tmp_path / "pairs.jsonl")
    words = ["--training", "gradient_checkpointing=true", "--training", "max_steps=1", "--lora", "r=2", "--quiet"]
    start = finished / RUN / "model"
    done = command(tmp_path, "align", str(start), "--data", "pairs.jsonl", "--out", "H", *words)
    said = "align: 32 of 32 records hold words that the tokenizer does not know: the model cannot learn them\n"
    assert (done.returncode, done.stderr) == (0, said)  # those pairs are not of the run's world
    made = json.loads((tmp_path / "H" / "summary.json").read_text())
    assert made["training"]["gradient_checkpointing"] is True


def test_events_and_silence_are_not_asked_for_together(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").touch()
    process = Process(tmp_path, "align", "model", "--data", "pairs.jsonl", "--out", "H", "--json", "--quiet")
    process.wait(2)
    assert process.err.read_text().startswith(
        "error: --json tells of progress and --quiet does not\n  where:   --quiet"
    )
