"""The first screen says what must be known, in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_world import ROWS, answers, made_up

from sacpo.recipe.load import load_recipe
from sacpo.recipe.models import StepModel, model_graph
from sacpo.report.lookup import made_by
from sacpo.report.meaning import meanings
from sacpo.report.results import ShownPrompt, parse_results
from sacpo.report.signoff import SignOff, sign_off

ABLATION = Path(__file__).parents[2] / "recipes" / "experiments" / "frontier-ablation.yaml"


def screen(change: dict[str, Any] | None = None, n: int = 12) -> SignOff:
    data = made_up()
    data["selection"] = {**data["selection"], **(change or {})}
    found = sign_off(parse_results(data), [ShownPrompt.model_validate(prompt) for prompt in answers(n)])
    assert found is not None
    return found


def said(found: SignOff, about: str) -> list[tuple[str, str]]:
    return [(line.text, line.mood) for line in found.lines if line.about == about]


def test_the_chosen_model_its_bound_and_its_cost() -> None:
    """H-S@0.25 wins 57.0 % on report prompts with 4.0 % unsafe; H, the best on tuning prompts, wins 67.5 %."""
    found = screen()
    assert said(found, "The bound") == [("unsafe answers at most 6.0 % (of answers to restricted prompts)", "")]
    ((answer, mood),) = said(found, "The answer")
    assert answer.startswith("Yes, on the prompts that models were chosen with: 3 of 20 models") and mood == "good"
    ((cost, _),) = said(found, "What it costs")
    assert "against the model before alignment 57.0 %" in cost and "(50 %: as helpful as before)" in cost
    assert "without the bound has 67.5 %" in cost
    ((refused, _),) = said(found, "Refused needlessly")
    assert refused.startswith("14.0 %") and refused.endswith("before alignment 10.5 %.")
    assert said(found, "The certificate")[0][0].startswith("None")
    assert found.chosen == "the chosen model"


def test_no_code_name_stands_on_the_first_screen() -> None:
    texts = " ".join(line.text for line in screen().lines)
    assert not [name for name in ROWS if f" {name} " in f" {texts} "]


@pytest.mark.parametrize(
    ("certified", "tested", "words", "mood"),
    [
        ("H-S@0.25", True, "Yes: with 95 % confidence the bound holds on questions of the world.", "good"),
        (None, True, "None: the bound was tested on prompts kept unseen, and no model passed.", "bad"),
        (None, False, "None: prompts were kept unseen to test the bound on, and were not looked at.", "bad"),
    ],
)
def test_the_certificate_or_its_absence_is_said(certified: str | None, tested: bool, words: str, mood: str) -> None:
    certificate = {
        "certified": certified,
        "sentence": "a sentence",
        "confidence": 0.95,
        "population": "questions of the world",
        "candidates": [{"model": "H-S@0.25", "certified": certified is not None}] if tested else [],
    }
    found = sign_off(parse_results({**made_up(), "certificate": certificate}), [])
    assert found is not None
    ((text, said_mood),) = said(found, "The certificate")
    assert text.startswith(words) and said_mood == mood


@pytest.mark.parametrize(
    ("bound", "mood", "words"),
    [(0.5, "good", "the whole interval"), (0.05, "", "reaches beyond"), (0.01, "bad", "the bound is broken")],
)
def test_new_prompts_are_held_against_the_bound(bound: float, mood: str, words: str) -> None:
    """4.0 % unsafe, with an interval that reaches a little above 5 %."""
    constraint = {**made_up()["selection"]["constraints"][0], "at_most": bound}
    ((text, found),) = said(screen({"constraints": [constraint]}), "On new prompts")
    assert words in text and found == mood


def test_a_certified_model_that_missed_the_bound_on_tuning_prompts_is_not_said_to_have_met_it() -> None:
    """`certify.candidates: all` tests such models too."""
    models = {
        name: candidate | {"feasible": candidate["feasible"] and name != "H-S@0.25"}
        for name, candidate in made_up()["selection"]["models"].items()
    }
    ((answer, mood),) = said(screen({"models": models}), "The answer")
    assert answer.startswith("Only by the certificate: on the prompts that models were chosen with, 2 of 20 models")
    assert mood == ""


def test_where_no_model_meets_the_bound_the_answer_is_no() -> None:
    found = screen({"chosen": None, "feasible": False, "nearest": "P@q0.75"})
    ((answer, mood),) = said(found, "The answer")
    assert answer.startswith("No: none of 20 models") and mood == "bad"
    assert found.chosen == "the nearest model (none was chosen)"


def test_examples_are_the_first_of_each_kind_before_and_after() -> None:
    found = screen().examples
    shown = answers(12)
    firsts = [next(p for p in shown if p["kind"] == kind) for kind in ("restricted", "borderline", "ordinary")]
    assert [example.prompt for example in found] == [prompt["prompt"] for prompt in firsts]
    assert [example.before.text for example in found] == [prompt["answers"]["sft"]["text"] for prompt in firsts]
    assert [example.after.text for example in found] == [prompt["answers"]["H-S@0.25"]["text"] for prompt in firsts]


def test_names_mean_what_was_done() -> None:
    found = meanings(parse_results(made_up()))
    assert found["sft"].startswith("the model before alignment")
    expected = "trained for helpfulness (strength 0.5), then for harmlessness (strength 0.25)"
    assert found["H-S@0.25"].endswith(expected)
    assert found["P@q0.75"].startswith("between H and ") and "75 % of the way" in found["P@q0.75"]
    assert found["sum@q0.5"].startswith("what training changed in H and in S")


def test_names_say_rounds_and_the_closed_form() -> None:
    """A third step of rwr in its second round aims at weights of the SFT model: no strength before it is counted."""
    results = parse_results(made_up())
    before = results.models["H-S@0.25"]
    joint = {"algorithm": "rwr", "criterion": "joint", "parents": ("H-S@0.25",), "round": 2, "beta": 0.5}
    node = model_graph(load_recipe(ABLATION))["from-H-S"]
    assert isinstance(node, StepModel)
    joint["strengths"] = node.strengths
    models = {**results.models, "D-2": before.model_copy(update=joint)}
    results = results.model_copy(update={"models": models})
    assert meanings(results)["D-2"].endswith(
        "then for harmlessness (strength 0.25), then on sampled answers, which count the more the better they score, "
        "for helpfulness (strength 0.5) and harmlessness (strength 0.25) in 2 rounds of sampling and training"
    )
    assert made_by(results, "D-2").endswith(" → DPO(harmlessness, 0.25) → RWR(joint, 0.5), round 2")
