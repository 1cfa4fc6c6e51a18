"""The model card: front matter that the hub reads, figures on report prompts with intervals, limits."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from report_world import made_up

from sacpo.report.card import model_card
from sacpo.report.diagnosis import diagnose
from sacpo.report.results import Results, parse_results


def diagnosed(results: dict[str, Any]) -> Results:
    parsed = parse_results(results)
    return parsed.model_copy(update={"diagnosis": diagnose(parsed)})


def front_matter(card: str) -> dict[str, Any]:
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def with_base(model: str) -> dict[str, Any]:
    results = made_up()
    results["recipe"]["base"] = {"model": model}
    return results


def test_front_matter_of_a_step_and_of_a_merge() -> None:
    """A merge of two DPO models is tagged dpo and merge; K is a KTO model; a model from scratch has no base."""
    results = diagnosed(made_up())
    matter = front_matter(model_card(results, "H-S@0.25"))
    (index,) = matter.pop("model-index")
    assert [part["dataset"]["name"] for part in index["results"]] == ["report"]
    metrics = {metric["type"]: metric["value"] for metric in index["results"][0]["metrics"]}
    assert metrics["unsafe_rate"] == 0.04 and metrics["win_rate/helpfulness"] == 0.57  # not the tuning figures
    assert matter.pop("metrics")[:2] == ["win_rate", "unsafe_rate"]
    assert matter == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["sacpo", "alignment", "safety", "dpo"],
    }
    assert front_matter(model_card(results, "P@q0.5"))["tags"] == ["sacpo", "alignment", "safety", "dpo", "merge"]
    assert "kto" in front_matter(model_card(results, "K"))["tags"]


def test_a_hub_id_is_the_base_model_and_a_folder_is_not(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for model, expected in (
        ("some-org/some-model-7b", "some-org/some-model-7b"),
        ("models/mine", None),
        ("./models/mine", None),
        ("/somewhere/a/model", None),
    ):
        assert front_matter(model_card(diagnosed(with_base(model)), "H")).get("base_model") == expected


def test_figures_are_report_figures_with_intervals() -> None:
    card = model_card(diagnosed(made_up()), "H-S@0.25")
    assert "| helpfulness win rate against sft | 57.0 % | 53.0 to 61.0 % | 600 | report |" in card
    assert "| unsafe answers | 4.0 % | 1.3 to 6.7 % | 200 | report |" in card
    assert "| over-refusal | 14.0 % | 9.2 to 18.8 % | 200 | report |" in card
    assert "8 of 200 answers to restricted prompts were unsafe: at most 6.7 % (95 % interval)." in card
    assert "58.0 %" not in card  # the tuning figure


def test_says_how_it_was_made_and_chosen() -> None:
    card = model_card(diagnosed(made_up()), "H-S@0.25")
    assert "It was chosen for its helpfulness win rate among those with unsafe answers at most 6.0 %" in card
    assert "1. DPO for helpfulness, KL strength 0.5, starting from and regularised towards `sft`" in card
    assert (
        "2. DPO for harmlessness, KL strength 0.25, starting from and regularised towards `H` (epochs 1, steps 126"
        in card
    )
    assert "seed 0, sacpo 0.1.0, python 3.11.2" in card
    merge = model_card(diagnosed(made_up()), "P@q0.75")
    assert "Merged of `H` (A) and `H-S@0.1` (B). Its weights are (1 − q) A + q B" in merge
    assert "q = 0.75" in merge
    assert "it does not meet the run's bounds (unsafe answers at most 6.0 %)" in merge


def test_limits_name_what_was_diagnosed_in_this_model_only() -> None:
    results = diagnosed(made_up())
    assert "Diagnosed: exaggerated refusals." in model_card(results, "H-S@0.05")
    assert "Diagnosed" not in model_card(results, "H-S@0.25")
    assert "fresh phrasings of the world's 120 tasks, n = 600" in model_card(results, "H")


def test_an_unmeasured_model_is_not_called_safe() -> None:
    bare = {"name": "x", "recipe": {}, "seed": 0, "models": {"sft": {"kind": "base"}}}
    card = model_card(diagnosed(bare), "sft")
    assert "It was not measured on report prompts." in card
    assert "do not take it for safe" in card
    assert "Not measured, so it cannot be told: exaggerated refusals" in card


def test_markup_in_names_stays_text() -> None:
    results = made_up(name="run`<script>", command="a`b\n# c")
    results["prompts"]["report"]["population"] = "<img src=x> [link](x)\n## head"
    results["models"]["P@q0.5"]["method"] = "odd {q} {x} <b>"
    card = model_card(diagnosed(results), "P@q0.5")
    assert "run'<script>" in card  # inside a code span
    assert "<img" not in card and "<b>" not in card and "\n## head" not in card and "\n# c" not in card
    assert "\\[link](x)" in card
    assert "odd 0.5 {x} &lt;b>" in card
