"""All that can be said of a file of verdicts: tables as data, and the same tables as plain text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from sacpo.data.records import Verdict
from sacpo.errors import DataError
from sacpo.stats.rates import RateTable, over_refusal_tables, unsafe_tables
from sacpo.stats.ratings import bradley_terry, comparisons_of
from sacpo.stats.tests import difference_sd, holm, minimum_detectable_difference, sign_flip_test, sign_test
from sacpo.stats.verdicts import Group, PromptValue, prompt_values, summarise, unique

VERSION = 1
FEWEST_PROMPTS = 2


def stats_tables(
    verdicts: Sequence[Verdict],
    baseline: str | None = None,
    *,
    lengths: Mapping[str, int] | None = None,
    tie_model: str = "davidson",
    draws: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute every table of a set of verdicts; the records' order and duplicates change nothing.

    Args:
        verdicts: Pairwise, pointwise or both.
        baseline: The model that ratings are anchored at and that paired tests compare against; None if the verdicts
            name only one.
        lengths: Each answer's length by its hash, for the length bias.
        tie_model: "davidson" or "rao-kupper".
        draws: Bootstrap resamples of the ratings.
        seed: Of bootstraps and permutations.

    Returns:
        JSON-ready: `win_rates`, `scores`, `tests` (paired, Holm-adjusted over the table), `ratings`, `unsafe`,
        `over_refusal`, `reliability` and `findings`.

    Raises:
        DataError: No verdicts; several baselines and none chosen; an unknown one; contradictory verdicts.
    """
    distinct = unique(verdicts)
    if not distinct:
        raise DataError("there are no verdicts", allowed="at least one record")
    anchor = _baseline(distinct, baseline)
    values = prompt_values(distinct)
    summary = summarise(distinct, lengths)
    ratings, refusals = _ratings(distinct, anchor, tie_model, draws, seed)
    return {
        "version": VERSION,
        "baseline": anchor,
        **{name: summary[name] for name in ("win_rates", "scores")},
        "tests": _tests({group: prompts for group, prompts in values.items() if group.baseline == anchor}, seed),
        "ratings": ratings,
        "unsafe": rates_json(unsafe_tables(distinct)),
        "over_refusal": rates_json(over_refusal_tables(distinct)),
        "reliability": summary["reliability"],
        "findings": summary["findings"] + refusals,
    }


def render(tables: Mapping[str, Any]) -> str:
    """Return the tables as plain text for a terminal or a file."""
    sections = [
        _section(
            f"Win rate against {tables['baseline']} (ties half; prompts count when every order was read)",
            ["model", "criterion", "judge", "win rate", "95 %", "prompts", "unparsed", "worst case"],
            [_win_cells(row) for row in tables["win_rates"]],
        ),
        _section(
            "Mean scores",
            ["model", "criterion", "judge", "mean", "95 %", "prompts", "unparsed"],
            [_score_cells(row) for row in tables["scores"]],
        ),
        _section(
            "Two models on the same prompts (sign-flip test; Holm over the table)",
            ["first", "second", "criterion", "judge", "difference", "95 %", "p", "p Holm", "detectable"],
            [_test_cells(row) for row in tables["tests"]],
        ),
        *(_rating_section(table) for table in tables["ratings"]),
        _rate_section("Safety", tables["unsafe"]),
        _rate_section("Over-refusal", tables["over_refusal"]),
        _section(
            "Judges",
            ["judge", "criterion", "first shown wins", "flips with order", "repeats agree", "ties", "unparsed"],
            [_judge_cells(row) for row in tables["reliability"]],
        ),
        "\n".join(["Findings", *(f"- {finding}" for finding in tables["findings"])]) if tables["findings"] else "",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _baseline(verdicts: Sequence[Verdict], chosen: str | None) -> str:
    named = sorted({verdict.baseline for verdict in verdicts if verdict.baseline})
    if chosen is None:
        if len(named) > 1:
            raise DataError("several baselines and none chosen", value=named, do="name the baseline to anchor at")
        return named[0] if named else ""
    known = sorted({*named, *(verdict.model for verdict in verdicts)})
    if chosen not in known:
        raise DataError("no verdict names this baseline", value=chosen, allowed=known)
    return chosen


def _tests(values: Mapping[Group, Sequence[PromptValue]], seed: int) -> list[dict[str, Any]]:
    """Compare every two models of a criterion and judge on the prompts that count for both."""
    tables: dict[tuple[str, str], dict[str, dict[str, PromptValue]]] = defaultdict(dict)
    for group, prompts in values.items():
        counted = {prompt.prompt_id: prompt for prompt in prompts if prompt.value is not None}
        tables[group.criterion, group.judge][group.model] = counted
    rows = [
        _test(first, second, criterion, judge, (models[first], models[second]), seed)
        for (criterion, judge), models in sorted(tables.items())
        for first, second in combinations(sorted(models), 2)
        if len(models[first].keys() & models[second].keys()) >= FEWEST_PROMPTS
    ]
    adjusted = holm([row["p_sign_flip"] for row in rows])
    return [{**row, "p_holm": p} for row, p in zip(rows, adjusted, strict=True)]


def _test(
    first: str,
    second: str,
    criterion: str,
    judge: str,
    prompts: tuple[Mapping[str, PromptValue], Mapping[str, PromptValue]],
    seed: int,
) -> dict[str, Any]:
    shared = sorted(prompts[0].keys() & prompts[1].keys())
    ours, theirs = ([values[prompt].value or 0.0 for prompt in shared] for values in prompts)
    clusters = [prompts[0][prompt].cluster for prompt in shared]
    flip, sign = sign_flip_test(ours, theirs, clusters, seed=seed), sign_test(ours, theirs, clusters)
    m = flip.difference.clusters
    return {
        "first": first,
        "second": second,
        "criterion": criterion,
        "judge": judge,
        "difference": flip.difference.to_json(),
        "p_sign_flip": flip.p_value,
        "p_sign": sign.p_value,
        "better_worse_equal": [flip.better, flip.worse, flip.equal],
        "method": flip.method,
        "minimum_detectable_difference": None
        if m < FEWEST_PROMPTS
        else minimum_detectable_difference(m, sd=difference_sd(ours, theirs, clusters)),
    }


def _ratings(
    verdicts: Sequence[Verdict], baseline: str, tie_model: str, draws: int, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rate the models of every criterion and judge; what cannot be rated is a finding."""
    groups: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.model != verdict.baseline:  # a model against itself says nothing
            groups[verdict.criterion, verdict.judge].append(verdict)
    rated, findings = [], []
    for (criterion, judge), members in sorted(groups.items()):
        games = comparisons_of(members)
        if not games:
            continue
        try:
            ratings = bradley_terry(games, baseline, tie_model=tie_model, regularise=True, draws=draws, seed=seed)
        except DataError as error:
            findings.append(f"no ratings for {criterion} by {judge}: {error.what}")
            continue
        rated.append({"criterion": criterion, "judge": judge, **ratings.to_json()})
        if ratings.regularised:
            findings.append(f"ratings for {criterion} by {judge} are regularised: some model only wins or only loses")
    return rated, findings


def rates_json(tables: Mapping[tuple[str, str, str], RateTable]) -> list[dict[str, Any]]:
    """Return rate tables by (model, judge, criterion) as JSON-ready rows."""
    return [
        {"model": model, "judge": judge, "criterion": criterion, **table.to_json()}
        for (model, judge, criterion), table in tables.items()
    ]


def _win_cells(row: Mapping[str, Any]) -> list[str]:
    low, high = row["worst_case"]
    name = row["model"] if not row["baseline"] else f"{row['model']} v {row['baseline']}"
    return [name, row["criterion"], row["judge"], *_cells(row["win_rate"]), f"{low:.3f} to {high:.3f}"]


def _score_cells(row: Mapping[str, Any]) -> list[str]:
    return [row["model"], row["criterion"], row["judge"], *_cells(row["mean_score"])]


def _test_cells(row: Mapping[str, Any]) -> list[str]:
    value, ends, _, _ = _cells(row["difference"])
    least = row["minimum_detectable_difference"]
    return [
        *(row[name] for name in ("first", "second", "criterion", "judge")),
        value,
        ends,
        f"{row['p_sign_flip']:.4f}",
        f"{row['p_holm']:.4f}",
        "-" if least is None else f"{least:.3f}",
    ]


def _judge_cells(row: Mapping[str, Any]) -> list[str]:
    names = ("first_share", "flip_rate", "repeat_agreement", "tie_rate", "unparsed_rate")
    return [row["judge"], row["criterion"], *(" ".join(_cells(row[name])[:2]) for name in names)]


def _rating_section(table: Mapping[str, Any]) -> str:
    note = "; regularised" if table["regularised"] else ""
    return _section(
        f"Bradley-Terry ratings, {table['criterion']} by {table['judge']} "
        f"({table['tie_model']} ties, {table['baseline']} = 1000{note})",
        ["model", "rating", "95 %", "verdicts"],
        [[model, *_cells(rating, 0)[:3]] for model, rating in table["ratings"].items()],
    )


def _rate_section(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"{row['model']} ({row['judge']}): {row['text']}" for row in rows]
    return "\n".join([title, *lines]) if lines else ""


def _cells(estimate: Mapping[str, Any], digits: int = 3) -> list[str]:
    low, high = estimate["ci95"]
    value = "-" if estimate["value"] is None else f"{estimate['value']:.{digits}f}"
    ends = "-" if low is None or high is None else f"[{low:.{digits}f}, {high:.{digits}f}]"
    return [value, ends, str(estimate["n"]), str(estimate["unparsed"])]


def _section(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    return "\n".join([title, *(line.rstrip() for line in lines)])
