"""Certificates of scores: their mean, and the mean of the lowest of them, within a declared range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sacpo.certify import certify, prompts_for, verify_certificate
from sacpo.certify.terms import bounds_of
from sacpo.data.records import Verdict, write_jsonl
from sacpo.errors import DataError, RecipeError, UserError
from sacpo.recipe.metrics import CERTIFIABLE
from sacpo.system.files import write_json

MEAN = {"metric": "mean_score", "criterion": "helpfulness", "at_least": 0.0, "range": [-10.0, 10.0]}
TAIL = {"metric": "cvar_score", "criterion": "helpfulness", "at_least": -5.0, "range": [-10.0, 10.0], "tail": 0.2}


def scored(folder: Path, scores: Sequence[float | None], prompts: str = "c", samples: int = 1) -> Path:
    """Write a judged folder with one prompt a score."""
    found = [
        Verdict(f"{prompts}{i}", f"{prompts}{i}", "m", "helpfulness", "toy", f"{prompts}{i} {sample}",
                score=score, sample=sample)
        for i, score in enumerate(scores) for sample in range(samples)
    ]  # fmt: skip
    folder.mkdir(parents=True)
    write_jsonl(folder / "verdicts.jsonl", found)
    write_json(folder / "measures.json", {})
    return folder


def look(root: Path, scores: Sequence[float | None], constraint: dict[str, Any], **more: Any) -> dict[str, Any]:
    tuning = [scored(root / "t", [2.0] * 200, "t")]
    return certify(tuning, [scored(root / "c", scores)], root / "out", constraints=[constraint], **more)


def test_a_mean_score_is_certified_within_its_range(tmp_path: Path) -> None:
    found = look(tmp_path, [4.0, 2.0] * 100, MEAN)
    (check,) = found["tests"]["candidates"][0]["checks"]
    assert (found["certified"], check["test"], check["value"]) == ("m", "betting on cluster means", 3.0)
    assert 2.0 < check["limit"] < 3.0  # Hoeffding's bound is 3 - 20 sqrt(ln 20 / 400) = 1.27
    assert "m has a mean helpfulness score of at least 0 (seen: 3 on 200 prompts), on" in found["sentence"]
    assert any("helpfulness: -10 to 10" in text for text in found["assumptions"])
    assert verify_certificate(tmp_path / "out" / "certificate.json") == found


def test_a_score_that_was_not_read_is_the_worst_one(tmp_path: Path) -> None:
    """Of 200 scores of 4 a half unread: (4 - 10) / 2 = -3."""
    found = look(tmp_path, [4.0, None] * 100, MEAN)
    (check,) = found["tests"]["candidates"][0]["checks"]
    assert (found["certified"], check["value"], check["unread"]) == (None, pytest.approx(-3.0), 100)
    assert "a model with this mean is not certified by any number of prompts" in found["sentence"]


def test_the_lowest_scores_are_certified(tmp_path: Path) -> None:
    """A tenth of 1000 scores is -4, the rest 2: the lowest fifth has a mean of -1.

    The band moves eps = sqrt(ln 20 / 2000) = .0387 to -10: (.0387 * -10 + .1 * -4 + .0613 * 2) / .2 = -3.32.
    """
    found = look(tmp_path, [-4.0] * 100 + [2.0] * 900, TAIL)
    (check,) = found["tests"]["candidates"][0]["checks"]
    eps = math.sqrt(math.log(20) / 2000)
    assert check["value"] == pytest.approx(-1.0)
    assert check["limit"] == pytest.approx((eps * -10 - 0.4 + (0.1 - eps) * 2) / 0.2, abs=1e-6)
    assert "a mean of at least -5 in the lowest 20 % of helpfulness scores (seen: -1 on 1000 prompts)" in str(found)
    verify_certificate(tmp_path / "out" / "certificate.json")


def test_a_good_mean_with_a_bad_tail_is_not_certified(tmp_path: Path) -> None:
    found = look(tmp_path, [-9.0] * 150 + [2.0] * 850, TAIL)
    assert found["certified"] is None
    assert "in the lowest 20 % of helpfulness scores: -6.25 on 1000 prompts" in found["sentence"]


@pytest.mark.parametrize(("score", "message"), [("11.0", "1 of 200 scores lie outside"), ("NaN", "are no numbers")])
def test_scores_outside_their_range_are_refused_before_a_look(tmp_path: Path, score: str, message: str) -> None:
    folders = scored(tmp_path / "t", [2.0] * 200, "t"), scored(tmp_path / "c", [2.0] * 200)
    file = folders[1] / "verdicts.jsonl"
    file.write_text(file.read_text().replace('"score":2.0', f'"score":{score}', 1).replace(": 2.0", f": {score}", 1))
    with pytest.raises(DataError, match=message):
        certify([folders[0]], [folders[1]], tmp_path / "out", constraints=[MEAN])
    assert not (tmp_path / "out").exists()


def test_a_tail_needs_more_prompts_than_there_are(tmp_path: Path) -> None:
    """With every score at 10 the band leaves 10 - 20 eps / .2 >= -5, so eps <= .15 and n >= ln 20 / .045 = 66.6."""
    with pytest.raises(DataError, match=r"66 independent prompts are too few[\s\S]*67 or more"):
        look(tmp_path, [10.0] * 66, TAIL)
    assert look(tmp_path / "more", [10.0] * 67, TAIL)["certified"] == "m"


def test_a_tail_of_several_answers_a_prompt_is_refused(tmp_path: Path) -> None:
    folders = [scored(tmp_path / "t", [2.0] * 200, "t")], [scored(tmp_path / "c", [2.0] * 200, samples=2)]
    with pytest.raises(DataError, match="every independent prompt has one judged answer"):
        certify(*folders, tmp_path / "out", constraints=[TAIL])


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ({k: v for k, v in MEAN.items() if k != "range"}, "within a range that is declared"),
        (MEAN | {"range": [1.0, -1.0]}, "the lower first"),
        (MEAN | {"at_least": 10.0}, "a bound lies inside the declared range"),
        ({k: v for k, v in TAIL.items() if k != "tail"}, "tail"),
        ({"metric": "unsafe_rate", "at_most": 0.1, "range": [0.0, 1.0]}, "only scores have a range"),
    ],
)
def test_bounds_that_are_none(tmp_path: Path, constraint: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        look(tmp_path, [2.0], constraint)


def test_no_power_of_scores() -> None:
    with pytest.raises(RecipeError, match="depends on how they spread"):
        prompts_for([MEAN])


@pytest.mark.parametrize("metric", ["foo", "kl", "refusal_rate"])
def test_messages_list_the_metrics_that_are_taken(metric: str) -> None:
    """Certificates take all that follows from verdicts; of scores no power is told, and `kl` no verdict says."""
    bound = {"metric": metric, "at_most": 0.1}
    with pytest.raises(RecipeError, match="no such metric" if metric == "foo" else "cannot be certified") as caught:
        bounds_of([bound])
    assert tuple(caught.value.allowed) == CERTIFIABLE and "cvar_score" in CERTIFIABLE
    with pytest.raises(RecipeError) as caught:
        prompts_for([bound])
    assert caught.value.allowed == ["unsafe_rate", "over_refusal_rate", "win_rate"]


def test_every_metric_of_the_list_is_taken() -> None:
    for metric, criterion in (("unsafe_rate", None), ("over_refusal_rate", None), ("win_rate", "helpfulness")):
        assert prompts_for([{"metric": metric, "criterion": criterion, "at_most": 0.1}])[0]["clean"] > 0
