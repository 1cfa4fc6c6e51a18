"""What a finished run leaves: the report, results.json, the chosen model, and that they tell the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import RUN, Process, command, results, stage
from transformers import AutoModelForCausalLM, AutoTokenizer

from sacpo.data.records import Answer, Prompt, Verdict, read_jsonl
from sacpo.measure.measures import measure
from sacpo.recipe import load_recipe
from sacpo.report.results import parse_results
from sacpo.select import select_model

MODELS = ["sft", "H", "K", "H-S@0.5", "H-S@0.1", "P@q0.25", "P@q0.75", "control", "mixed"]


@pytest.fixture(scope="module")
def found(finished: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(results(finished))
    return data


def test_results_are_of_their_schema_and_of_every_model(found: dict[str, Any]) -> None:
    parsed = parse_results(found)
    assert [*parsed.models] == [*parsed.measures] == MODELS
    assert parsed.command == "sacpo run tiny.yaml"
    assert {name: [*sets] for name, sets in found["measures"].items()} == {m: ["tuning", "report"] for m in MODELS}
    assert [*found["data"]] == ["demonstrations", "prompts-H", "prompts-S", "heldout", "pairs/H", "pairs/H+H-S"]
    assert found["models"]["mixed"]["method"] == "token-level"
    assert found["models"]["H-S@0.1"]["strengths"] == [["helpfulness", 0.5], ["harmlessness", 0.1]]
    assert {"seconds", "time", "date"}.isdisjoint(re.findall(r'"(\w+)":', json.dumps(found)))


def test_the_learned_judge_and_the_kl_are_where_the_recipe_wants_them(found: dict[str, Any]) -> None:
    metrics = found["measures"]["H"]
    assert "win_rate/learned" in metrics["tuning"]["metrics"]
    assert "win_rate/learned" not in metrics["report"]["metrics"]
    assert metrics["report"]["metrics"]["kl"]["n"] == 12
    assert "kl" not in metrics["tuning"]["metrics"]
    assert found["measures"]["sft"]["report"]["metrics"]["kl"]["value"] == 0
    assert found["models"]["H"]["kl_reference"]["value"] == metrics["report"]["metrics"]["kl"]["value"]
    from_sft = found["measures"]["H-S@0.1"]["report"]["metrics"]["kl"]["value"]
    assert found["models"]["H-S@0.1"]["kl_reference"]["value"] != from_sft  # its reference is H


def test_measures_follow_from_answers_and_verdicts(finished: Path, found: dict[str, Any]) -> None:
    for name in ("sft", "K", "control"):
        answers = read_jsonl(stage(finished, f"generate/{name}/tuning") / "answers.jsonl", Answer)
        verdicts = read_jsonl(stage(finished, f"judge/{name}/tuning") / "verdicts.jsonl", Verdict)
        again = parse_results({**found, "measures": {name: {"tuning": measure(answers, verdicts)}}})
        assert again.measures[name]["tuning"] == parse_results(found).measures[name]["tuning"]
        assert {answer.model for answer in answers} == {name}


def test_the_choice_is_the_best_that_meets_the_constraint(found: dict[str, Any]) -> None:
    """Computed here by hand: the greatest win rate on tuning prompts among models with at most 10 % unsafe answers."""
    tuning = {name: sets["tuning"]["metrics"] for name, sets in found["measures"].items()}
    feasible = {name for name, metrics in tuning.items() if metrics["unsafe_rate"]["value"] <= 0.1}
    best = max(tuning[name]["win_rate/helpfulness"]["value"] for name in feasible)
    assert {name for name, model in found["selection"]["models"].items() if model["feasible"]} == feasible
    assert found["selection"]["chosen"] in feasible
    assert tuning[found["selection"]["chosen"]]["win_rate/helpfulness"]["value"] == best
    assert 0 < len(feasible) < len(MODELS)  # else the constraint would decide nothing here


def test_the_selection_is_what_the_rule_says_of_the_measures(finished: Path, found: dict[str, Any]) -> None:
    recipe = load_recipe(finished / "tiny.yaml")
    assert recipe.objective is not None
    roles = {name: spec.role for name, spec in recipe.prompts.items()}
    again = select_model(found["measures"], recipe.constraints, recipe.objective, roles=roles)
    assert parse_results({**found, "selection": again}).selection == parse_results(found).selection


def test_prompt_sets_share_no_prompt(finished: Path) -> None:
    sets = {
        name: read_jsonl(stage(finished, f"prompts/{name}") / "prompts.jsonl", Prompt) for name in ("tuning", "report")
    }
    texts = {name: {prompt.messages[0].content for prompt in prompts} for name, prompts in sets.items()}
    assert len(texts["tuning"]) == len(texts["report"]) == 24
    assert not texts["tuning"] & texts["report"]


def test_the_report_shows_report_prompts_only(finished: Path, found: dict[str, Any]) -> None:
    page = (stage(finished, "report") / "report.html").read_text()
    tuning = read_jsonl(stage(finished, "prompts/tuning") / "prompts.jsonl", Prompt)
    reported = read_jsonl(stage(finished, "prompts/report") / "prompts.jsonl", Prompt)
    assert not [prompt.id for prompt in tuning if prompt.messages[0].content in page]
    assert len([prompt for prompt in reported if prompt.messages[0].content in page]) == 6  # report.max_answers
    rate = found["measures"][found["selection"]["chosen"]]["report"]["metrics"]["win_rate/helpfulness"]["value"]
    assert f"{100 * rate:.1f}" in page


def test_figures_do_not_change_with_tuning_figures(finished: Path, found: dict[str, Any]) -> None:
    """The frontier is drawn from report prompts: other numbers on tuning prompts leave it as it is, byte for byte."""
    from sacpo.report.figures import all_drawings
    from sacpo.report.style import file_bytes

    changed = json.loads(json.dumps(found))
    for sets in changed["measures"].values():
        for metric in sets["tuning"]["metrics"].values():
            metric["value"], metric["ci95"] = 0.123, [0.1, 0.2]
    before, after = all_drawings(parse_results(found)), all_drawings(parse_results(changed))
    assert [*before] == [*after]
    for name in before:
        assert file_bytes(before[name], "svg") == file_bytes(after[name], "svg"), name


def test_the_report_has_every_figure_in_every_kind(finished: Path) -> None:
    figures = [*(stage(finished, "report") / "figures").iterdir()]
    stems = {path.stem for path in figures}
    assert len(stems) >= 3
    assert {path.name for path in figures} == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg", "pdf")}
    assert all(path.stat().st_size > 500 for path in figures)


def test_the_chosen_model_loads_and_answers_as_it_was_judged(finished: Path, found: dict[str, Any]) -> None:
    """The chosen model is a merge: its folder holds the weights that were merged in memory for its answers."""
    name = found["selection"]["chosen"]
    folder = stage(finished, "chosen") / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    answer = read_jsonl(stage(finished, f"kl/{name}/report") / "samples.jsonl", _Sample)[0]
    prompt = tokenizer.apply_chat_template(
        [{"role": m["role"], "content": m["content"]} for m in answer.answer["prompt"]["messages"]],
        add_generation_prompt=True,
        return_dict=False,
    )
    tokens = answer.answer["tokens"]
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    own = float(torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens)[:, None]).sum())
    sft = AutoModelForCausalLM.from_pretrained(stage(finished, "sft") / "model")
    with torch.no_grad():
        logits = sft(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    base = float(torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens)[:, None]).sum())
    assert own - base == pytest.approx(answer.sft, abs=1e-4)
    assert name in (folder / "README.md").read_text()


class _Sample:
    def __init__(self, **row: Any) -> None:
        self.answer, self.sft = row["answer"], row["sft"]

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> _Sample:
        return cls(**row)


@pytest.mark.parametrize("name", ["sft", "align/H", "align/K", "align/H-S@0.1"])
def test_every_trained_model_is_a_standard_folder(name: str, finished: Path) -> None:
    folder = stage(finished, name) / "model"
    assert AutoModelForCausalLM.from_pretrained(folder).config.hidden_size == 32
    assert AutoTokenizer.from_pretrained(folder).eos_token is not None
    assert not (stage(finished, name) / "checkpoints").exists()


def test_nothing_half_done_is_left(finished: Path) -> None:
    assert not [*(finished / RUN / "partial").iterdir()]
    assert not [path for path in (finished / RUN).rglob("*") if path.name.endswith(".tmp")]
    assert (finished / RUN / "recipe.yaml").is_file()
    assert load_recipe(finished / RUN / "recipe.yaml") == load_recipe(finished / "tiny.yaml")


def test_the_command_line_says_what_was_found(again: Callable[..., Path], found: dict[str, Any]) -> None:
    said = Process(again(), "run", "tiny.yaml").wait()
    assert found["selection"]["chosen"] in said
    assert str(RUN / "report.html") in said
    assert str(RUN / "model") in said


def test_a_recipe_that_no_model_can_meet_chooses_none(again: Callable[..., Path]) -> None:
    folder = again()
    done = Process(folder, "run", "tiny.yaml", "--json", "--set", "constraints.0.at_most=-1").wait()
    assert json.loads(done.splitlines()[-1])["chosen"] is None
    assert not (stage(folder, "chosen") / "model").exists()
    assert not (folder / RUN / "model").is_symlink()
    assert (folder / RUN / "report.html").is_file()
    selection = json.loads(results(folder))["selection"]
    assert (selection["feasible"], selection["chosen"]) == (False, None)
    assert selection["nearest"] in MODELS


def test_help_and_checks_work_in_a_fresh_interpreter(finished: Path) -> None:
    assert "RECIPE" in command(finished, "run", "--help").stdout
    checked = command(finished, "validate", "tiny.yaml", "--json")
    assert json.loads(checked.stdout) == {
        "name": "tiny",
        "models": MODELS,
        "valid": True,
        "notices": [],
        "not_checked": [],
    }
