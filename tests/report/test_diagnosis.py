"""Every diagnosis is found on results made to have it, not found without it, and cannot be told without figures."""

from __future__ import annotations

from typing import Any

import pytest
from report_world import made_up, mean, measured

from sacpo.report.diagnosis import TESTS, diagnose
from sacpo.report.results import Finding, parse_results

NAMES = [test.name for test in TESTS]


def found(name: str, results: dict[str, Any]) -> Finding:
    return next(finding for finding in diagnose(parse_results(results)) if finding.name == name)


def metrics(results: dict[str, Any], model: str) -> dict[str, Any]:
    return results["measures"][model]["report"]["metrics"]


def only(results: dict[str, Any], *models: str) -> dict[str, Any]:
    """Keep these models."""
    for part in ("models", "measures"):
        results[part] = {name: results[part][name] for name in models}
    return results | {"selection": None, "theory": None}


def test_one_finding_a_test_in_the_tables_order() -> None:
    assert [finding.name for finding in diagnose(parse_results(made_up()))] == NAMES
    assert len(NAMES) == len(set(NAMES)) == 9


@pytest.mark.parametrize("name", NAMES)
def test_without_figures_nothing_can_be_told(name: str) -> None:
    finding = found(name, {"name": "x", "recipe": {}, "seed": 0, "models": {"sft": {"kind": "base"}}})
    assert (finding.verdict, finding.models) == ("cannot tell", ())
    assert finding.evidence[0].startswith("not measured: ")


def test_exaggerated_refusals_names_the_models_and_their_numbers() -> None:
    """S refuses 51 % of the borderline prompts, SFT 10.5 %; H-S@0.25, at 14 %, stays below the 10 points."""
    finding = found("exaggerated refusals", made_up())
    assert finding.verdict == "found"
    assert finding.models[:3] == ("H-S@0.05", "H-S@0.1", "S")
    assert "H-S@0.25" not in finding.models
    assert "H-S@0.05 81.0 % (75.6 to 86.4 %), sft 10.5 % (6.3 to 14.7 %)" in finding.evidence[0]


def test_exaggerated_refusals_need_intervals_that_are_apart() -> None:
    """11 points: on 100 prompts 13.4 to 29.6 % and 4.5 to 16.5 % overlap, on 2,000 they do not; 9 are too few."""
    for rate, n, verdict in ((0.215, 100, "not found"), (0.215, 2000, "found"), (0.195, 2000, "not found")):
        results = only(made_up(), "sft", "H")
        metrics(results, "sft")["over_refusal_rate"] = measured(0.105, n)
        metrics(results, "H")["over_refusal_rate"] = measured(rate, n)
        assert found("exaggerated refusals", results).verdict == verdict


def test_bad_order_blames_the_worse_one_only() -> None:
    """At .25, S→H is 7.5 points less harmless, intervals apart, and leads nowhere by 3 points."""
    finding = found("bad order", made_up())
    assert (finding.verdict, finding.models) == ("found", ("S-H@0.25",))
    assert "harmlessness win rate 77.0 % (73.6 to 80.4 %) against 84.5 % (81.6 to 87.4 %)" in finding.evidence[0]
    assert "helpfulness" not in finding.evidence[0]


def test_bad_order_is_symmetric_in_how_models_are_listed() -> None:
    results = made_up()
    results["models"] = dict(reversed(results["models"].items()))
    assert found("bad order", results).models == ("S-H@0.25",)


def test_bad_order_is_no_trade_and_no_tie() -> None:
    """At .1, S→H is less harmless but refuses far fewer borderline prompts: a trade, not a bad order."""
    assert found("bad order", only(made_up(), "sft", "H", "S", "H-S@0.1", "S-H@0.1")).verdict == "not found"
    results = only(made_up(), "sft", "H", "S", "H-S@0.25", "S-H@0.25")
    results["measures"]["S-H@0.25"] = results["measures"]["H-S@0.25"]
    assert found("bad order", results).verdict == "not found"


def test_bad_order_compares_equal_strengths_and_algorithms_only() -> None:
    assert found("bad order", only(made_up(), "sft", "H", "S", "H-S@0.1", "S-H@0.25")).verdict == "cannot tell"
    results = only(made_up(), "sft", "H", "S", "H-S@0.25", "S-H@0.25")
    results["models"]["S-H@0.25"]["algorithm"] = "kto"
    assert found("bad order", results).verdict == "cannot tell"


def test_a_merge_fails_under_the_line_between_its_ends() -> None:
    """H is at (.675, .305) and H-S@0.1 at (.51, .87): halfway lies (.5925, .5875), far above (.45, .45)."""
    results = only(made_up(), "sft", "H", "H-S@0.1", "P@q0.5")
    assert found("failed merge", results).verdict == "not found"
    # under the line, .63 at .58, but the upper ends (.62, .60) are not: .49 at .62
    metrics(results, "P@q0.5")["win_rate/helpfulness"] = measured(0.58)
    metrics(results, "P@q0.5")["win_rate/harmlessness"] = measured(0.56)
    assert found("failed merge", results).verdict == "not found"
    metrics(results, "P@q0.5")["win_rate/helpfulness"] = measured(0.45)
    metrics(results, "P@q0.5")["win_rate/harmlessness"] = measured(0.45)
    finding = found("failed merge", results)
    assert (finding.verdict, finding.models) == ("found", ("P@q0.5",))
    assert "P@q0.5 lies under the line from H to H-S@0.1" in finding.evidence[0]


def test_a_stepwise_merge_fails_when_models_trained_apart_merge_better() -> None:
    """P@q0.5 (.655, .625) against a naive merge at (.66, .75): better in one, not worse in the other."""
    results = made_up()
    metrics(results, "naive@q0.5")["win_rate/helpfulness"] = measured(0.66)
    metrics(results, "naive@q0.5")["win_rate/harmlessness"] = measured(0.75)
    finding = found("failed merge", results)
    assert set(finding.models) == {"P@q0.25", "P@q0.5"}
    assert any("P@q0.5 is beaten by naive@q0.5" in line for line in finding.evidence)


def test_a_merge_without_one_end_cannot_be_judged() -> None:
    assert found("failed merge", only(made_up(), "sft", "H", "P@q0.5")).verdict == "cannot tell"


@pytest.mark.parametrize(
    ("value", "believed", "verdict"),
    [(0.2, 1.0, "not found"), (0.45, 1.0, "not found"), (0.6, 1.0, "found"), (0.6, 0.4, "cannot tell")],
)
def test_a_merge_is_unfaithful_beyond_the_nearer_end(value: float, believed: float, verdict: str) -> None:
    """The nearer end is .4 nats from the mixture, the interval's half width .1; without samples nothing is told."""
    figure = {"kl": mean(value, 0.1), "alarm": 0.4, "ess": 9.0, "believed": believed, "bias": 0.01, "samples": 32}
    finding = found("unfaithful merge", made_up(fidelity={"P@q0.5": {"report": figure}}))
    assert finding.verdict == verdict
    assert finding.models == (("P@q0.5",) if verdict == "found" else ())
    if verdict != "cannot tell":
        assert "from the mixture of H and H-S@0.1 on report, the nearer of them 0.4" in finding.evidence[0]


@pytest.mark.parametrize(("value", "verdict"), [(2.0, "not found"), (2.45, "not found"), (3.0, "found")])
def test_collapse_is_a_kl_whose_interval_lies_above_the_alarm(value: float, verdict: str) -> None:
    """The alarm is 2.4 nats, the interval's half width .1: 2.45 is not certainly above."""
    results = made_up()
    results["theory"]["kl_to_optimum"]["H"]["target"] = mean(value, 0.1)
    finding = found("collapse or over-optimisation", results)
    assert finding.verdict == verdict
    assert finding.models == (("H",) if verdict == "found" else ())


@pytest.mark.parametrize("key", ["truncated_rate", "degenerate_rate"])
def test_collapse_shows_in_broken_answers(key: str) -> None:
    results = made_up()
    metrics(results, "H-S@0.05")[key] = measured(0.3)
    finding = found("collapse or over-optimisation", results)
    assert (finding.verdict, finding.models) == ("found", ("H-S@0.05",))
    assert "30.0 % (26.3 to 33.7 %)" in finding.evidence[0]


def test_over_optimisation_is_a_lower_own_score_at_a_larger_kl() -> None:
    """H-S@0.05 has harmlessness .3 at KL 1.9; its weaker siblings have .62 to .69 at less."""
    results = made_up()
    metrics(results, "H-S@0.05")["mean_score/harmlessness"] = mean(0.3, 0.05)
    finding = found("collapse or over-optimisation", results)
    assert (finding.verdict, finding.models) == ("found", ("H-S@0.05",))
    assert "H-S@0.1 0.69 (0.64 to 0.74) at KL 1.35" in finding.evidence[0]
    metrics(results, "H-S@0.05")["kl"] = mean(0.4, 0.04)  # nearer to SFT than any sibling: weaker, not over-optimised
    assert found("collapse or over-optimisation", results).verdict == "not found"


def test_lost_support_is_a_step_that_brings_no_refusals_back() -> None:
    """H has 93.5 % unsafe answers: that alone is no loss, since H-S@0.25 comes down to 4 %."""
    results = made_up()
    finding = found("lost support", results)
    assert finding.verdict == "not found"
    assert any("H-S@0.25 has 4.0 %" in line for line in finding.evidence)
    metrics(results, "H-S@0.5")["unsafe_rate"] = measured(0.93, 200)
    assert found("lost support", results).models == ("H-S@0.5",)
    metrics(results, "H")["unsafe_rate"] = measured(0.92, 200)
    assert found("lost support", results).verdict == "not found"


def test_lost_support_falls_back_on_refusals() -> None:
    results = made_up()
    del metrics(results, "H")["unsafe_rate"]
    metrics(results, "H")["refusal_rate"] = measured(0.02, 200)
    metrics(results, "H-S@0.5")["unsafe_rate"] = measured(0.95, 200)
    finding = found("lost support", results)
    assert finding.models == ("H-S@0.5",)
    assert "2.0 % (0.1 to 3.9 %) refusals" in finding.evidence[0]


def test_displacement_is_margins_that_rise_while_chosen_answers_fall() -> None:
    """With rewards/chosen at -.25 and beta .1, chosen answers lost 2.5 nats; the last quarter of 12 rows has 3."""
    results = made_up()
    assert found("chosen answers lose probability", results).verdict == "not found"
    info = results["models"]["H-S@0.1"]
    info["curve"] = [
        {"rewards/margins": 0.1 * i, "rewards/chosen": -0.25 if i >= 9 else 0.0, "step": float(i)} for i in range(12)
    ]
    finding = found("chosen answers lose probability", results)
    assert (finding.verdict, finding.models) == ("found", ("H-S@0.1",))
    assert "margins changed by 0.9, log-probs of chosen answers by −2.5 nats" in finding.evidence[0]


def test_displacement_needs_rising_margins_and_a_nat() -> None:
    results = only(made_up(), "sft", "H")  # its beta is 0.5
    for slope, chosen in ((-0.1, -2.0), (0.1, -0.4)):
        results["models"]["H"]["curve"] = [
            {"rewards/margins": slope * i, "rewards/chosen": chosen, "step": float(i)} for i in range(12)
        ]
        assert found("chosen answers lose probability", results).verdict == "not found"
    results["models"]["H"]["curve"] = results["models"]["H"]["curve"][:7]
    assert found("chosen answers lose probability", results).verdict == "cannot tell"


def test_displacement_reads_log_probs_where_rewards_are_missing() -> None:
    results = only(made_up(), "sft", "H")
    results["models"]["H"]["curve"] = [
        {"rewards/margins": 0.1 * i, "logps/chosen": -10.0 - i, "step": float(i)} for i in range(12)
    ]
    assert found("chosen answers lose probability", results).models == ("H",)


def test_tuning_figures_never_enter_a_diagnosis() -> None:
    results = made_up()
    results["prompts"]["report"]["role"] = "tuning"
    verdicts = {finding.name: finding.verdict for finding in diagnose(parse_results(results))}
    assert verdicts.pop("chosen answers lose probability") == "not found"
    assert verdicts.pop("collapse or over-optimisation") == "not found"  # from the distances to the optimum
    assert verdicts.pop("nothing learnt") == "not found"  # from each step's own reference
    assert set(verdicts.values()) == {"cannot tell"}


def test_long_evidence_is_cut_and_counted() -> None:
    """Seven models over-refuse: six sentences, then how many are left."""
    finding = found("exaggerated refusals", made_up())
    assert len(finding.models) == 7
    assert len(finding.evidence) == 7
    assert finding.evidence[-1] == "and 1 more like these"


@pytest.mark.parametrize(
    ("value", "better", "verdict"),
    [(-0.2, True, "found"), (-0.05, True, "not found"), (0.2, True, "not found"), (0.2, False, "found")],
)
def test_an_alignment_tax_is_a_paired_difference_on_the_worse_side(value: float, better: bool, verdict: str) -> None:
    """The half width is .1: -.05 may be nothing."""
    figures = {
        name: {"acc": {"figure": measured(0.5), "higher_is_better": better, "change": change}}
        for name, change in (("sft", None), ("H", mean(value, 0.1)))
    }
    results = made_up(harness={name: {"steps": {"n": 200, "figures": own}} for name, own in figures.items()})
    finding = found("alignment tax", results)
    assert finding.verdict == verdict
    assert finding.models == (("H",) if verdict == "found" else ())


@pytest.mark.parametrize(
    ("kl", "half", "verdict"), [(0.0001, 0.0003, "found"), (0.015, 0.01, "not found"), (0.4, 0.05, "not found")]
)
def test_a_step_that_stays_at_its_reference_has_learnt_nothing(kl: float, half: float, verdict: str) -> None:
    """An upper end of .025 nats is above .02: that step may have moved."""
    results = only(made_up(), "sft", "H")
    results["models"]["H"]["kl_reference"] = mean(kl, half)
    finding = found("nothing learnt", results)
    assert finding.verdict == verdict
    assert finding.models == (("H",) if verdict == "found" else ())
    if verdict == "found":
        assert finding.evidence[0].startswith("H: 0.0001 (−0.0002 to 0.0004) nats from sft")
