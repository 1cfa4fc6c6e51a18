"""The tables of `sacpo stats`: those of `sacpo.stats.report`, and what needs more than one file or judge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sacpo.cli.stats.alpaca import length_findings, read_difficulty, read_weights, with_published
from sacpo.cli.stats.options import StatsOptions
from sacpo.cli.stats.paired import one_against_all
from sacpo.cli.stats.published import read_published
from sacpo.cli.stats.read import VerdictSet, read_sets
from sacpo.data.records import Verdict
from sacpo.judging.people.gold import gold_rows
from sacpo.judging.people.raters import agreement
from sacpo.measure.measures import exact, on_the_baseline_itself
from sacpo.measure.reliability import label_rows
from sacpo.plain import JsonMapping, JsonObject
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import OUTCOME_VALUES, win_rate
from sacpo.stats.length_table import leaderboard_rows, length_rows
from sacpo.stats.majority import majority
from sacpo.stats.rates import rates_json, refusal_tables, refusals_apart
from sacpo.stats.rating_agreement import rating_agreement
from sacpo.stats.report import stats_tables
from sacpo.stats.significance import minimum_detectable_difference, within
from sacpo.stats.unread import unread_rows
from sacpo.stats.verdicts import unique

VERSION = 1
LENGTH_DRAWS = 200
ORDERS = {"ab", "ba"}
FARTHEST = 0.5
"""No win rate is farther from 1/2."""


def stats_command(paths: Sequence[Path | str], options: StatsOptions | None = None) -> dict[str, object]:
    """Return every table of the verdicts in files, stores and run folders, JSON-ready.

    Args:
        paths: See `sacpo.cli.stats.read.read_sets`.
        options: What to compute.

    Returns:
        `version`, and in `sets` one entry a prompt set: its name `prompts`, the tables of `stats_tables`, and
        `against`, `detectable`, `length_controlled` (where lengths are known), `leaderboard` (AlpacaEval's figures,
        where a judge gives probabilities), `refused_restricted`, `refusals_apart`, `shown_first`, `agreement`,
        `agreement_by_model` (of single answers, where there are several models), `labelled` (reliability of judges
        that label or rate), `unread` (what every judge was asked, and why replies could not be read), `gold` and
        `gold_by_category` (where there are several categories).

    Raises:
        DataError: See `read_sets`, `stats_tables` and `one_against_all`.
    """
    options = options or StatsOptions()
    sets = _sets([Path(path) for path in paths], options)
    return {"version": VERSION, "sets": [set_tables(found, options) for found in sets]}


def _sets(paths: Sequence[Path], options: StatsOptions) -> list[VerdictSet]:
    if options.form == "verdicts":
        return read_sets(paths, options.prompts, options.answers)
    verdicts: list[Verdict] = []
    lengths: dict[str, int] = {}
    for path in paths:
        found, known = read_published(path, options.form)
        verdicts += found
        lengths |= known
    return [VerdictSet("", tuple(verdicts), lengths)]


def set_tables(found: VerdictSet, options: StatsOptions) -> dict[str, object]:
    """Return the tables of one prompt set."""
    distinct = unique(found.verdicts)
    every, drawn = drawn_orders(distinct)
    verdicts = unique(every) if drawn else distinct
    if options.majority:
        verdicts = unique([*verdicts, *majority(verdicts)])
    tables = stats_tables(
        verdicts,
        options.baseline,
        lengths=found.lengths or None,
        ratings=options.ratings,
        tie_model=options.tie_model,
        draws=options.draws,
        seed=options.seed,
    )
    anchor, against = tables["baseline"], options.against
    detectable, few = _detectable(tables["win_rates"])
    leaderboard = leaderboard_rows(verdicts)
    controlled, apart = _length_controlled(verdicts, found.lengths, leaderboard, options)
    return {
        "prompts": found.prompts,
        "verdicts": len(distinct),
        **tables,
        "win_rates": _of_itself(tables["win_rates"], verdicts),
        "against": [] if against is None else one_against_all(verdicts, against, anchor, seed=options.seed),
        "detectable": detectable,
        "length_controlled": controlled,
        "leaderboard": leaderboard,
        "refused_restricted": rates_json(refusal_tables(verdicts)),
        "refusals_apart": refusals_apart(verdicts),
        "shown_first": _shown_first(drawn),
        "agreement": _agreement(distinct) if len({v.judge for v in distinct}) > 1 else [],
        "agreement_by_model": _agreement_by_model(distinct),
        "labelled": (labelled := label_rows(distinct)),
        "unread": unread_rows(distinct),
        "findings": [*tables["findings"], *(text for judge in labelled for text in judge["findings"]), *few, *apart],
        "gold": [] if options.gold is None else gold_rows(distinct, options.gold),
        "gold_by_category": [] if options.gold is None else _gold_by_category(distinct, options.gold),
    }


def _of_itself(rows: Sequence[JsonObject], verdicts: Sequence[Verdict]) -> list[JsonObject]:
    """Return win rates as reports have them: more prompts would not move that of the baseline's own answers."""
    names = ("model", "baseline", "criterion", "judge")
    moved = {tuple(getattr(v, name) for name in names) for v in verdicts if not on_the_baseline_itself(v)}
    return [
        row
        if row["model"] != row["baseline"] or tuple(row[name] for name in names) in moved
        else {**row, "win_rate": exact(Estimate.from_json(row["win_rate"])).to_json()}
        for row in rows
    ]


def _length_controlled(
    verdicts: Sequence[Verdict],
    lengths: Mapping[str, int],
    leaderboard: Sequence[JsonMapping],
    options: StatsOptions,
) -> tuple[list[JsonObject], list[str]]:
    """Return length-controlled win rates, AlpacaEval's own beside them, and how far the two are apart."""
    difficulty = {} if options.difficulty is None else read_difficulty(options.difficulty)
    weights = {} if options.length_weights is None else read_weights(options.length_weights)
    rows = length_rows(verdicts, lengths, difficulty=difficulty, draws=LENGTH_DRAWS, seed=options.seed)
    rows = with_published(rows, weights, difficulty, {row["model"]: row["n_total"] for row in leaderboard})
    return rows, length_findings(rows, leaderboard, bool(difficulty))


def _gold_by_category(verdicts: Sequence[Verdict], gold: str) -> list[JsonObject]:
    """Return the judges' accuracy on each category alone, such as LLMBar's subsets in one file."""
    categories: dict[str, list[Verdict]] = defaultdict(list)
    for v in verdicts:
        categories[v.category].append(v)
    if len(categories) == 1:
        return []  # the pooled table says it
    labelled = {name: of for name, of in sorted(categories.items()) if gold in {v.judge for v in of}}
    return [{"category": name, **row} for name, of in labelled.items() for row in gold_rows(of, gold, required=False)]


def drawn_orders(verdicts: Iterable[Verdict]) -> tuple[list[Verdict], list[Verdict]]:
    """Tell judges that saw each pair in one order, drawn at random, from those that saw both orders.

    A drawn order is no half of a question: without this no prompt of such a judge would count, as none was read in
    both orders.

    Returns:
        All verdicts, those of drawn orders without their order; and those of drawn orders with it.
    """
    groups: dict[tuple[str, str, str, str], list[Verdict]] = defaultdict(list)
    for v in verdicts:
        groups[v.judge, v.criterion, v.model, v.baseline].append(v)
    every, drawn = [], []
    for _, members in sorted(groups.items()):
        orders: dict[tuple[str | int, ...], set[str]] = defaultdict(set)
        for v in members:
            orders[v.prompt_id, v.sample, v.answer_hash, v.baseline_hash].add(v.order)
        both = {order for seen in orders.values() for order in seen} == ORDERS
        if both and all(len(seen) == 1 for seen in orders.values()):
            drawn.extend(members)
            members = [replace(v, order="") for v in members]
        every.extend(members)
    return every, drawn


def _shown_first(drawn: Iterable[Verdict]) -> list[JsonObject]:
    """Return the share of the answer shown first (ties half) of judges with drawn orders: .5 without bias."""
    groups: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for v in drawn:
        if v.outcome in OUTCOME_VALUES:
            value = OUTCOME_VALUES[v.outcome]
            groups[v.judge, v.criterion].append((value if v.order == "ab" else 1 - value, v.cluster))
    return [
        {
            "judge": judge,
            "criterion": criterion,
            "first_share": win_rate([value for value, _ in members], [cluster for _, cluster in members]).to_json(),
        }
        for (judge, criterion), members in sorted(groups.items())
    ]


def _agreement_by_model(verdicts: Iterable[Verdict]) -> list[JsonObject]:
    """Return the agreement on each model's single answers: pooled kappas hide a model that judges read differently."""
    models: dict[str, list[Verdict]] = defaultdict(list)
    for v in verdicts:
        if not v.baseline:
            models[v.model].append(v)
    if len(models) == 1:
        return []  # the pooled table says it
    return [{"model": model, **table} for model, found in sorted(models.items()) for table in _agreement(found)]


def _agreement(verdicts: Sequence[Verdict]) -> list[JsonObject]:
    """Return how far judges agree on the same items: on labels and outcomes beyond chance, on scores by distance."""
    return [*agreement(verdicts), *rating_agreement(verdicts)]


def _detectable(win_rates: Sequence[JsonMapping]) -> tuple[list[JsonObject], list[str]]:
    """Return the smallest distance of a win rate from 1/2 that its prompts detect with power .8, at the worst sd .5.

    No rate is farther than 1/2: prompts too few to detect even that have no row, which is a finding, and `in_table` is
    None where they are too few for Holm over the table.
    """
    rows = [row for row in win_rates if row["model"] != row["baseline"] and row["win_rate"]["clusters"] >= 2]
    found, few = [], []
    for row in rows:
        clusters = row["win_rate"]["clusters"]
        alone, in_table = (
            within(minimum_detectable_difference(clusters, tests=tests), FARTHEST) for tests in (1, len(rows))
        )
        names = {name: row[name] for name in ("model", "baseline", "criterion", "judge")}
        if alone is None:
            what = f"{row['model']} against {row['baseline']} on {row['criterion']} by {row['judge']}"
            few.append(f"{what}: {clusters} prompts are too few to detect any distance of a win rate from 1/2")
        else:
            found.append({**names, "clusters": clusters, "alone": alone, "in_table": in_table})
    return found, few
