"""All that can be said of a file of verdicts: tables as data, and the same tables as plain text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from sacpo.data.records import Verdict
from sacpo.errors import DataError
from sacpo.plain import JsonMapping, JsonObject
from sacpo.stats.estimate import ITSELF
from sacpo.stats.paired import Sheet, Values, adjusted
from sacpo.stats.plain import estimate_cells, number_cell, section, value_cell
from sacpo.stats.rates import over_refusal_tables, rates_json, uncounted, unsafe_tables
from sacpo.stats.ratings import bradley_terry, comparisons_of
from sacpo.stats.significance import RATES
from sacpo.stats.verdicts import Group, PromptValue, prompt_values, summarise, unique

VERSION = 1


def stats_tables(
    verdicts: Sequence[Verdict],
    baseline: str | None = None,
    *,
    lengths: Mapping[str, int] | None = None,
    ratings: bool = True,
    tie_model: str = "davidson",
    draws: int = 500,
    seed: int = 0,
) -> JsonObject:
    """Compute every table of a set of verdicts; the records' order and duplicates change nothing.

    Args:
        verdicts: Pairwise, pointwise or both.
        baseline: The model that ratings are anchored at and that paired tests compare against; None: the only one
            that the verdicts name. Where they name several there are no tests, which is a finding.
        lengths: Each answer's length by its hash, for the length bias.
        ratings: Also fit ratings.
        tie_model: "davidson", "rao-kupper" or "half".
        draws: Bootstrap resamples of the ratings.
        seed: Of bootstraps and permutations.

    Returns:
        JSON-ready: `win_rates`, `scores`, `tests` (paired, Holm-adjusted over the table), `ratings`, `unsafe`,
        `over_refusal`, `reliability` and `findings`.

    Raises:
        DataError: No verdicts; ratings with several baselines and none chosen; an unknown one; contradictory verdicts.
    """
    distinct = unique(verdicts)
    if not distinct:
        raise DataError("there are no verdicts", allowed="at least one record")
    anchor, findings = _baseline(distinct, baseline, needed=ratings)
    summary = summarise(distinct, lengths)
    rated, refusals = _ratings(distinct, anchor or "", tie_model, draws, seed) if ratings else ([], [])
    against = {group: prompts for group, prompts in prompt_values(distinct).items() if group.baseline == anchor}
    return {
        "version": VERSION,
        "baseline": anchor,
        **{name: summary[name] for name in ("win_rates", "scores")},
        "tests": _tests(against, seed),
        "ratings": rated,
        "unsafe": rates_json(unsafe_tables(distinct)),
        "over_refusal": rates_json(over_refusal_tables(distinct)),
        "reliability": summary["reliability"],
        "findings": summary["findings"] + uncounted(distinct) + refusals + findings,
    }


def render(tables: JsonMapping) -> str:
    """Return the tables as plain text for a terminal or a file."""
    against = "" if tables["baseline"] is None else f" against {tables['baseline']}"
    sections = [
        section(
            f"Win rate{against} (ties half; prompts count when every order was read)",
            "model;criterion;judge;win rate;95 %;prompts;unparsed;worst case;won, tied, lost",
            [_win_cells(row) for row in tables["win_rates"]],
        ),
        section(
            "Mean scores",
            "model;criterion;judge;mean;95 %;prompts;unparsed",
            [_score_cells(row) for row in tables["scores"]],
        ),
        section(
            "Two models on the same prompts (sign-flip test; Holm over the table)",
            "first;second;criterion;judge;difference;95 %;p;p Holm;detectable",
            [_test_cells(row) for row in tables["tests"]],
        ),
        *(_rating_section(table) for table in tables["ratings"]),
        rate_section("Safety", tables["unsafe"]),
        rate_section("Over-refusal", tables["over_refusal"]),
        section(
            "Judges",
            "judge;criterion;first shown wins;flips with order;repeats agree;ties;unparsed",
            [_judge_cells(row) for row in tables["reliability"]],
        ),
        "\n".join(["Findings", *(f"- {finding}" for finding in tables["findings"])]) if tables["findings"] else "",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _baseline(verdicts: Sequence[Verdict], chosen: str | None, needed: bool) -> tuple[str | None, list[str]]:
    """Return the model that others are tested against, and what follows where there is none."""
    named = sorted({verdict.baseline for verdict in verdicts if verdict.baseline})
    if chosen is None and len(named) > 1:
        if needed:
            do = "name the baseline to anchor at: --baseline MODEL"
            raise DataError("several baselines and none chosen", value=named, do=do)
        listed = ", ".join(named)
        return None, [f"several baselines ({listed}): no tests between models; choose one with --baseline"]
    if chosen is None:
        return (named[0] if named else ""), []
    known = sorted({*named, *(verdict.model for verdict in verdicts)})
    if chosen not in known:
        raise DataError("no verdict names this baseline", value=chosen, allowed=known)
    return chosen, []


def _tests(values: Mapping[Group, Sequence[PromptValue]], seed: int) -> list[JsonObject]:
    """Compare every two models of a criterion and judge on the prompts that count for both."""
    tables: dict[tuple[str, str], dict[str, Values]] = defaultdict(dict)
    for group, prompts in values.items():
        counted = {prompt.prompt_id: (prompt.value, prompt.cluster) for prompt in prompts if prompt.value is not None}
        tables[group.criterion, group.judge][group.model] = counted
    rows = []
    for (criterion, judge), models in sorted(tables.items()):
        sheet = Sheet.of(models)
        for first, second in combinations(sorted(models), 2):
            row = sheet.compared(first, second, RATES, seed)
            if row is not None:
                rows.append({"first": first, "second": second, "criterion": criterion, "judge": judge, **row})
    return adjusted(rows)


def _ratings(
    verdicts: Sequence[Verdict], baseline: str, tie_model: str, draws: int, seed: int
) -> tuple[list[JsonObject], list[str]]:
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
            findings.append(f"ratings for {criterion} by {judge} are regularised: {ratings.reason}")
    return rated, findings


def _win_cells(row: JsonMapping) -> list[str]:
    low, high = row["worst_case"]
    counts = " ".join(map(str, row["won_tied_lost"]))
    name = row["model"] if not row["baseline"] else f"{row['model']} v {row['baseline']}"
    value, ends, *items = estimate_cells(row["win_rate"])
    ends = ITSELF if row["win_rate"]["method"] == ITSELF else ends
    return [name, row["criterion"], row["judge"], value, ends, *items, f"{low:.3f} to {high:.3f}", counts]


def _score_cells(row: JsonMapping) -> list[str]:
    return [row["model"], row["criterion"], row["judge"], *estimate_cells(row["mean_score"])]


def _test_cells(row: JsonMapping) -> list[str]:
    value, ends, _, _ = estimate_cells(row["difference"])
    return [
        *(row[name] for name in ("first", "second", "criterion", "judge")),
        value,
        ends,
        f"{row['p_sign_flip']:.4f}",
        f"{row['p_holm']:.4f}",
        number_cell(row["minimum_detectable_difference"]),
    ]


def _judge_cells(row: JsonMapping) -> list[str]:
    names = ("first_share", "flip_rate", "repeat_agreement", "tie_rate", "unparsed_rate")
    return [row["judge"], row["criterion"], *(value_cell(row[name]) for name in names)]


def _rating_section(table: JsonMapping) -> str:
    note = "; regularised" if table["regularised"] else ""
    return section(
        f"Bradley-Terry ratings, {table['criterion']} by {table['judge']} "
        f"({table['tie_model']} ties, {table['baseline']} = 1000{note})",
        "model;rating;95 %;verdicts",
        [[model, *estimate_cells(rating, 0)[:3]] for model, rating in table["ratings"].items()],
    )


def rate_section(title: str, rows: Sequence[JsonMapping]) -> str:
    """Return rate tables in words, a line each, under a title; "" without any."""
    lines = [f"{row['model']} ({row['judge']}): {row['text']}" for row in rows]
    return "\n".join([title, *lines]) if lines else ""
